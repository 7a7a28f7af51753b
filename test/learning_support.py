"""Small worlds that the tests of the learning core share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from poco_ros.core.environment import Environment, EnvironmentSpec, Step
from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.rollout import ChunkPolicy, run_episode
from poco_ros.core.seeding import episode_id, episode_seed
from poco_ros.learning.agents import Agent, Batch, Phase, make_agent
from poco_ros.learning.agents.ppo import PPO
from poco_ros.learning.config import AgentConfig
from poco_ros.learning.normalizer import Normalizer
from poco_ros.learning.policies import EXPLORE, Signature
from poco_ros.learning.replay import ChunkBatch, Replay


def signature(observation: int = 1, action_dim: int = 1, task: str = "bandit") -> Signature:
    """Return what goes in and out of policies over one part ``state``."""
    return Signature(task, ObservationLayout((("state", observation),)), action_dim)


def agent_for(config: AgentConfig, observation: int = 1, action_dim: int = 1,
              seed: int = 0) -> Agent:
    """Return a fresh agent of that configuration."""
    return make_agent(config, signature(observation, action_dim), seed)


def set_normalizer(agent: Agent, mean: np.ndarray, std: np.ndarray) -> None:
    """Let the agent scale observations by (s - mean) / std, (O,) each."""
    normalizer = agent.normalizer
    normalizer.take({**normalizer.tensors(), "normalizer.mean": mean, "normalizer.std": std})


def bandit_batch(actions: np.ndarray, rewards: np.ndarray) -> Batch:
    """Return one-step, one-state transitions: actions (B, A), rewards (B,)."""
    count = len(actions)
    chunks = ChunkBatch(
        observations=np.zeros((count, 1), np.float32),
        actions=actions.astype(np.float32)[:, None, :],
        valid=np.ones((count, 1), np.float32),
        rewards=rewards.astype(np.float32),
        next_observations=np.zeros((count, 1), np.float32),
        bootstrap=np.zeros(count, np.float32),
        critic_valid=np.ones(count, np.float32),
    )
    return Batch.of(chunks, Normalizer(ObservationLayout((("state", 1),))))


def two_modes(generator: np.random.Generator) -> Batch:
    """Return 256 actions of one dimension: 70% around +0.6, 30% around -0.5, deviation 0.05."""
    upper = generator.random(256) < 0.7
    actions = np.where(upper, 0.6, -0.5) + 0.05 * generator.standard_normal(256)
    return bandit_batch(actions[:, None], np.zeros(256))


def check_two_modes(agent: Agent, tolerance: float) -> None:
    """Assert that the policy samples what :func:`two_modes` draws; means within ``tolerance``."""
    drawn = samples(agent, 4000)[:, 0]
    upper = drawn > 0.05
    assert abs(upper.mean() - 0.7) < 0.05
    assert abs(drawn[upper].mean() - 0.6) < tolerance
    assert abs(drawn[~upper].mean() + 0.5) < tolerance
    assert 0.02 < drawn[upper].std() < 0.12
    assert np.mean(np.minimum(abs(drawn - 0.6), abs(drawn + 0.5)) > 0.3) < 0.05


def samples(agent: Agent, count: int, seed: int = 1) -> np.ndarray:
    """Return ``count`` flat chunks (count, C) drawn from the policy at the zero observation."""
    generator = torch.Generator().manual_seed(seed)
    zero = torch.zeros(1, agent.signature.observation.size)
    return agent.actor.sample(zero, count, generator)[0].numpy()


def random_episode(number: int, steps: int, observation: int = 3, action_dim: int = 2,
                   terminated: bool = False, **words: object) -> Episode:
    """Return an episode whose values tell where they come from.

    Observation row t of episode ``number`` begins with (number, t); reward t is number + t / 1000.
    """
    generator = np.random.default_rng([number, steps])
    observations = generator.standard_normal((steps + 1, observation)).astype(np.float32)
    observations[:, 0] = number
    observations[:, 1] = np.arange(steps + 1)
    return Episode(
        id=f"episode-{number}", observations=observations,
        actions=generator.uniform(-1, 1, (steps, action_dim)).astype(np.float32),
        rewards=(number + np.arange(steps) / 1000).astype(np.float32),
        terminated=terminated, truncated=not terminated,
        outcome=Outcome.SUCCESS if terminated else Outcome.FAILURE, **words)  # type: ignore


class Reach(Environment):
    """A point in A dimensions that must come to the place that its goal names, in 20 steps.

    s = (x_1, ..., x_A, goal); all x begin at 0, the goal is -0.5 or 0.5. A step moves x by 0.1 a;
    the task ends in success, with reward 1, when every x is within 0.1 of the goal.
    """

    def __init__(self, action_dim: int = 1, steps: int = 20) -> None:
        self.spec = EnvironmentSpec("reach", signature(action_dim + 1).observation, action_dim,
                                    steps, 0.1, ("x",))
        self._place, self._goal, self._steps = np.zeros(action_dim), 0.0, 0

    def reset(self, seed: int) -> np.ndarray:
        self._place = np.zeros(self.spec.action_dim)
        self._goal = float(np.random.default_rng(seed).choice([-0.5, 0.5]))
        self._steps = 0
        return self._observed()

    def _observed(self) -> np.ndarray:
        return np.array([*self._place, self._goal], np.float32)

    def step(self, action: np.ndarray) -> Step:
        self._place = self._place + 0.1 * action
        self._steps += 1
        there = bool((np.abs(self._place - self._goal) < 0.1).all())
        over = self._steps >= self.spec.max_episode_steps
        return Step(self._observed(), float(there), there, over and not there, there)

    def joint_positions(self) -> np.ndarray:
        return self._place

    def render(self, width: int, height: int) -> np.ndarray:
        raise NotImplementedError("nobody looks at it")

    def close(self) -> None:
        pass


def reached(policy: ChunkPolicy, run_seed: int, number: int, action_dim: int = 1) -> Episode:
    """Return online episode ``number`` of a run in :class:`Reach`, acted by ``policy``."""
    return run_episode(Reach(action_dim), policy, episode_seed(run_seed, number),
                       episode_id(run_seed, number))


def drawn_for(agent: Agent, phase: Phase, replay: Replay, generator: np.random.Generator) -> Any:
    """Return what ``agent`` learns from in a phase: chunks of ``replay``, or a round of its own.

    A round has two episodes of :class:`Reach`.
    """
    config = agent.config
    if isinstance(agent, PPO) and phase is not Phase.CLONE:
        policy = agent.policy(1, EXPLORE)
        first = int(generator.integers(1000))
        return agent.study([reached(policy, 0, first + n, agent.signature.action_dim)
                            for n in range(2)])
    return replay.sample(generator, config.batch_size, config.chunk_horizon, config.gamma)
