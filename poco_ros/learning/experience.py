"""From which episodes an agent learns, how many updates they are worth, and who acts meanwhile.

An off-policy agent draws from a replay and does so many updates a step; an on-policy one learns
from the episodes of a round and forgets them. The trainer knows only this contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from poco_ros.core.episode import Episode
from poco_ros.learning.config import AgentConfig, TrainConfig
from poco_ros.learning.policies import Signature
from poco_ros.learning.replay import ChunkBatch, Replay


class Experience(ABC):
    """See the module."""

    def __init__(self, signature: Signature, agent: AgentConfig, train: TrainConfig,
                 demonstrations: Sequence[Episode]) -> None:
        """Begin with ``demonstrations`` alone.

        Raises:
            DataError: a demonstration has other sizes.
        """
        self.agent, self.train = agent, train

    @abstractmethod
    def add(self, episode: Episode) -> None:
        """Take in a trainable online episode."""

    @abstractmethod
    def updates_due(self, steps: int) -> int:
        """Return how many online updates ``steps`` steps of the environment ask for, in all."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether there is anything to learn from."""

    @abstractmethod
    def batch(self, generator: np.random.Generator) -> Any:
        """Return what the next update learns from; ``Agent.tensors`` takes it."""

    @abstractmethod
    def acts_after(self, episode: int) -> int:
        """Return how many episodes the weights have learned from with which ``episode`` acts."""


class ReplayExperience(Experience):
    """Uniform draws from demonstrations and online data together; ``utd`` updates a step."""

    def __init__(self, signature: Signature, agent: AgentConfig, train: TrainConfig,
                 demonstrations: Sequence[Episode]) -> None:
        super().__init__(signature, agent, train, demonstrations)
        self.replay = Replay(signature.observation.size, signature.action_dim,
                             train.replay_capacity, demonstrations)

    def add(self, episode: Episode) -> None:
        """Append to the replay."""
        self.replay.add(episode)

    def updates_due(self, steps: int) -> int:
        """``warmup_utd`` a step until the critic is warm, then ``utd`` a step."""
        warmup, rate = self.train.critic_warmup, self.train.warmup_utd
        warm = min(warmup, int(rate * steps))
        return warm + int(self.train.utd * max(0.0, steps - warmup / rate))

    @property
    def ready(self) -> bool:
        """Whether the replay holds a chunk."""
        return len(self.replay) > 0

    def batch(self, generator: np.random.Generator) -> ChunkBatch:
        """Draw ``batch_size`` chunks, ``offline_share`` of them from the demonstrations."""
        agent = self.agent
        return self.replay.sample(generator, agent.batch_size, agent.chunk_horizon, agent.gamma,
                                  agent.offline_share)

    def acts_after(self, episode: int) -> int:
        """All episodes before ``episode - sync_lag``: acting and learning overlap."""
        return max(0, episode - self.train.sync_lag)
