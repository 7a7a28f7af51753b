"""From which episodes an agent learns, how many updates they are worth, and who acts meanwhile.

An off-policy agent draws from a replay and does so many updates a step; an on-policy one learns
from the episodes of a round and forgets them. The trainer knows only this contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poco_ros.core.episode import Episode
from poco_ros.core.errors import CheckpointError, ConfigError
from poco_ros.learning.config import AgentConfig, PPOConfig, TrainConfig
from poco_ros.learning.policies import Signature
from poco_ros.learning.replay import ChunkBatch, Replay
from poco_ros.learning.rounds import Round


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
        """Take in an online episode; one that is not trainable only counts."""

    @abstractmethod
    def updates_due(self, steps: int) -> int:
        """Return how many online updates ``steps`` steps of the environment ask for, in all."""

    @abstractmethod
    def warm(self, updates: int) -> bool:
        """Return whether the critic is warm after so many online updates, and the actor moves."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether there is anything to learn from."""

    @abstractmethod
    def batch(self, generator: np.random.Generator) -> Any:
        """Return what the next update learns from; ``Agent.tensors`` takes it."""

    def learned(self, metrics: Mapping[str, float]) -> None:  # noqa: B027
        """Note that the update of the last :meth:`batch` is done, with its metrics."""

    @abstractmethod
    def acts_after(self, episode: int) -> int:
        """Return how many episodes the weights have learned from with which ``episode`` acts."""

    def acted_with(self, learned: int) -> bool:
        """Return whether any episode acts with the weights that have learned from ``learned``."""
        return True

    def state(self) -> dict[str, Tensor]:
        """Return what :meth:`restore` cannot see from the episodes, by name."""
        return {}

    def restore(self, episodes: Sequence[Episode], tensors: Mapping[str, Tensor],
                source: str) -> None:
        """Be, on a fresh object, what was when ``episodes`` were in and ``tensors`` its state.

        Raises:
            CheckpointError: a tensor is missing; ``source`` is named.
        """
        for episode in episodes:
            self.add(episode)


class ReplayExperience(Experience):
    """Uniform draws from demonstrations and online data together; ``utd`` updates a step."""

    def __init__(self, signature: Signature, agent: AgentConfig, train: TrainConfig,
                 demonstrations: Sequence[Episode]) -> None:
        super().__init__(signature, agent, train, demonstrations)
        self.replay = Replay(signature.observation.size, signature.action_dim,
                             train.replay_capacity, demonstrations)

    def add(self, episode: Episode) -> None:
        """Append to the replay."""
        if episode.trainable:
            self.replay.add(episode)

    def updates_due(self, steps: int) -> int:
        """``warmup_utd`` a step until the critic is warm, then ``utd`` a step."""
        warmup, rate = self.train.critic_warmup, self.train.warmup_utd
        warm = min(warmup, int(rate * steps))
        return warm + int(self.train.utd * max(0.0, steps - warmup / rate))

    def warm(self, updates: int) -> bool:
        """After ``critic_warmup`` updates."""
        return updates >= self.train.critic_warmup

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


class RoundExperience(Experience):
    """Rounds of ``round_episodes`` whole episodes of one and the same policy, learned from once.

    The publications step parallel environments for a number of steps and cut episodes there. Here
    the episode is the unit of data, so a round is as many whole episodes as there are environments
    in the comparison; steps count over all of them together. When the last episode of a round is
    in, its chunks are learned from in ``epochs`` passes over minibatches, and are forgotten. What
    remains of a round when the run ends is not learned from.

    Demonstrations are there to be cloned, before the first round.
    """

    agent: PPOConfig

    def __init__(self, signature: Signature, agent: PPOConfig, train: TrainConfig,
                 demonstrations: Sequence[Episode],
                 study: Callable[[Sequence[Episode]], Round]) -> None:
        """Begin with ``demonstrations`` alone.

        ``study`` turns the episodes of a round into what is learned from it. It is called when the
        weights are still those that acted.

        Raises:
            ConfigError: episodes would act with other weights than those of their round.
        """
        super().__init__(signature, agent, train, demonstrations)
        if train.sync_lag:
            raise ConfigError(f"sync_lag is {train.sync_lag}: {agent.algorithm} learns from"
                              " episodes of the newest policy alone; set sync_lag to 0 (episodes"
                              " of a round may still run at the same time, see actors)")
        self._demonstrations = Replay(signature.observation.size, signature.action_dim, 1,
                                      demonstrations)
        self._study = study
        self._seen = 0  # episodes, over all rounds
        self._open: list[Episode] = []  # the trainable ones of the round that is being made
        self._due = 0  # updates, over all rounds
        self._round: Round | None = None  # the one that is being learned from
        self._position = 0  # updates done in it
        self._order = np.zeros(0, np.int64)  # of its chunks, in this epoch

    def add(self, episode: Episode) -> None:
        """Add to the open round; the last one closes it."""
        self._seen += 1
        if episode.trainable:
            self._open.append(episode)
        if self._seen % self.agent.round_episodes:
            return
        found, self._open = self._study(self._open), []
        if len(found):
            self._round, self._position = found, 0
            self._due += self._updates(found)

    def _minibatches(self, found: Round) -> int:
        return max(1, len(found) // self.agent.minibatch_size)

    def _updates(self, found: Round) -> int:
        return self.agent.epochs * self._minibatches(found)

    def updates_due(self, steps: int) -> int:
        """``epochs`` times the minibatches of each round that is complete."""
        return self._due

    def warm(self, updates: int) -> bool:
        """After ``warmup_rounds`` rounds."""
        learned = self._seen // self.agent.round_episodes - (self._round is not None)
        return learned >= self.agent.warmup_rounds

    @property
    def ready(self) -> bool:
        """Whether a round is being learned from."""
        return self._round is not None

    def batch(self, generator: np.random.Generator) -> ChunkBatch | Round:
        """Return the next minibatch of the round; before the first, demonstrations to clone."""
        agent, found = self.agent, self._round
        if found is None:
            return self._demonstrations.sample(generator, agent.batch_size, agent.chunk_horizon,
                                               agent.gamma)
        count = self._minibatches(found)
        if self._position % count == 0:
            self._order = generator.permutation(len(found))
        return found.rows(np.array_split(self._order, count)[self._position % count])

    def learned(self, metrics: Mapping[str, float]) -> None:
        """End the round after its last update, or when the policy has moved too far."""
        if self._round is None:
            return
        self._position += 1
        left = self._updates(self._round) - self._position
        if 0.0 < self.agent.target_kl < metrics.get("ppo/kl", 0.0):
            self._due, left = self._due - left, 0
        if not left:
            self._round = None

    def acts_after(self, episode: int) -> int:
        """All episodes of the rounds before that of ``episode``."""
        return episode - episode % self.agent.round_episodes

    def acted_with(self, learned: int) -> bool:
        """Where a round begins."""
        return learned % self.agent.round_episodes == 0

    def state(self) -> dict[str, Tensor]:
        """Return the count of updates, and the round that is being learned from."""
        found = {"due": torch.tensor(self._due)}
        if self._round is not None:
            found |= {"position": torch.tensor(self._position),
                      "order": torch.from_numpy(self._order)}
            found |= {f"round.{name}": value for name, value in self._round.state().items()}
        return found

    def restore(self, episodes: Sequence[Episode], tensors: Mapping[str, Tensor],
                source: str) -> None:
        """Take the open round from the episodes, and the one that is learned from as it was."""
        self._seen = len(episodes)
        self._open = [episode for episode in episodes[self.acts_after(self._seen):]
                      if episode.trainable]
        try:
            self._due = int(tensors["due"])
            if "position" in tensors:
                self._position, self._order = int(tensors["position"]), tensors["order"].numpy()
                self._round = Round.from_state({
                    name.removeprefix("round."): value for name, value in tensors.items()
                    if name.startswith("round.")})
        except KeyError as error:
            raise CheckpointError(f"{source}: tensor experience.{error} is missing") from error
