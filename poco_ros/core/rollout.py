"""Running one episode in this process; the ROS graph does the same over topics."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from poco_ros.core.environment import Environment
from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.seeding import chunk_seed


class ChunkPolicy(Protocol):
    """What acts: an observation and a seed in, a chunk out."""

    version: int

    def act(self, observation: np.ndarray, seed: int) -> np.ndarray:
        """Return a chunk (T, A) in [-1, 1] for ``observation`` (O,); noise is a function of seed.
        """


def run_episode(
    environment: Environment, policy: ChunkPolicy, seed: int, episode_id: str,
    source: str = "online",
) -> Episode:
    """Run one episode open loop a chunk at a time, until success or the time limit.

    Reset and all noise are functions of ``seed``; the same seed and the same weights give the same
    episode here and in the lock-step ROS graph.
    """
    spec = environment.spec
    observations = [environment.reset(seed)]
    actions: list[np.ndarray] = []
    rewards: list[float] = []
    step = None
    chunk_index = 0
    while step is None or not (step.terminated or step.truncated):
        chunk = policy.act(observations[-1], chunk_seed(seed, chunk_index))
        chunk_index += 1
        for action in chunk:
            step = environment.step(action)
            actions.append(action)
            rewards.append(step.reward)
            observations.append(step.observation)
            if step.terminated or step.truncated:
                break
    assert step is not None
    period_ns = round(spec.control_period * 1e9)
    return Episode(
        id=episode_id,
        observations=np.stack(observations),
        actions=np.stack(actions),
        rewards=np.asarray(rewards, np.float32),
        terminated=step.terminated,
        truncated=step.truncated,
        outcome=Outcome.SUCCESS if step.success else Outcome.FAILURE,
        policy_versions=np.full(len(actions), policy.version, np.int64),
        stamps=np.arange(len(observations), dtype=np.int64) * period_ns,
        task=spec.task,
        source=source,
    )
