"""Small worlds that the tests of the learning core share."""

from __future__ import annotations

import numpy as np
import torch

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.observation import ObservationLayout
from poco_ros.learning.agents import Agent, Batch, make_agent
from poco_ros.learning.config import AgentConfig
from poco_ros.learning.policies import Signature
from poco_ros.learning.replay import ChunkBatch


def signature(observation: int = 1, action_dim: int = 1, task: str = "bandit") -> Signature:
    """Return what goes in and out of policies over one part ``state``."""
    return Signature(task, ObservationLayout((("state", observation),)), action_dim)


def agent_for(config: AgentConfig, observation: int = 1, action_dim: int = 1,
              seed: int = 0) -> Agent:
    """Return a fresh agent of that configuration."""
    return make_agent(config, signature(observation, action_dim), seed)


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
    return Batch.of(chunks, torch.zeros(1), torch.ones(1))


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
