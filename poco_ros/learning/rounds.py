"""A round of an on-policy algorithm: episodes cut into chunks, their advantages, what is drawn.

A chunk is one step of the decision process: it is asked for at s_b, its T actions are executed,
and its reward is the sum of theirs. The last one of an episode may be cut short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poco_ros.core.episode import Episode
from poco_ros.learning.normalizer import Normalizer


@dataclass(frozen=True, eq=False)
class EpisodeChunks:
    """One episode as n chunks."""

    observations: np.ndarray
    """(n+1, O): those at which a chunk was asked for, and the last one of the episode."""
    executed: np.ndarray
    """(n, T, A): the executed actions, zero behind the end of the episode."""
    played: np.ndarray
    """(n, T) bool: where an action was executed."""
    rewards: np.ndarray
    """(n,) float64: the sum of the rewards in a chunk."""
    terminated: bool
    """Whether no value follows; else the last observation has one, also at a time limit."""

    @classmethod
    def of(cls, episode: Episode, horizon: int) -> EpisodeChunks:
        """Cut an episode in which each chunk was played to its end before the next."""
        steps = len(episode)
        begins = np.arange(0, steps, horizon)
        count = len(begins)
        padded = np.zeros((count * horizon, episode.actions.shape[1]), np.float32)
        padded[:steps] = episode.actions
        return cls(
            observations=episode.observations[[*begins, steps]],
            executed=padded.reshape(count, horizon, -1),
            played=(np.arange(count * horizon) < steps).reshape(count, horizon),
            rewards=np.add.reduceat(episode.rewards.astype(np.float64), begins),
            terminated=episode.terminated)

    def __len__(self) -> int:
        return len(self.rewards)


def advantages(rewards: np.ndarray, values: np.ndarray, terminated: bool, gamma: float,
               gae_lambda: float) -> np.ndarray:
    """Return the generalised advantages (n,) of the chunks of one episode (arXiv 1506.02438).

    ``rewards`` (n,); ``values`` (n+1,) at the observations, the last one included::

        delta_t = r_t + gamma V(s_{t+1}) - V(s_t),   V(s_n) = 0 if terminated
        A_t     = delta_t + gamma lambda A_{t+1},    A_n = 0

    Nothing of another episode enters: a time limit ends the sum and not the value.
    """
    values = values.astype(np.float64)
    following = values[1:].copy()
    if terminated:
        following[-1] = 0.0
    deltas = rewards + gamma * following - values[:-1]
    found = np.zeros(len(rewards))
    carried = 0.0
    for t in reversed(range(len(rewards))):
        found[t] = carried = deltas[t] + gamma * gae_lambda * carried
    return found


@dataclass(frozen=True, eq=False)
class Round:
    """n chunks of the policy that is to be improved."""

    observations: np.ndarray
    """(n, O), as measured."""
    chains: np.ndarray
    """(n, K+1, C): the way from noise to each chunk."""
    log_probs: np.ndarray
    """(n, K): of each step of the chain, under the weights that acted."""
    advantages: np.ndarray
    """(n,)."""
    returns: np.ndarray
    """(n,): what the value is to come to."""
    left_out: float = 0.0
    """Share of the round's chunks that had to be left out."""

    @classmethod
    def empty(cls, observation_size: int, steps: int, chunk_size: int) -> Round:
        """Return a round without a chunk."""
        return cls(np.zeros((0, observation_size), np.float32),
                   np.zeros((0, steps + 1, chunk_size), np.float32),
                   np.zeros((0, steps), np.float32), np.zeros(0), np.zeros(0))

    @classmethod
    def joined(cls, rounds: Sequence[Round], left_out: float) -> Round:
        """Return the chunks of several, as float32."""
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(one, name) for one in rounds]).astype(np.float32)
            for name in ARRAYS}
        return cls(**arrays, left_out=left_out)

    def __len__(self) -> int:
        return len(self.observations)

    def rows(self, rows: np.ndarray) -> Round:
        """Return some of the chunks."""
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in ARRAYS}
        return Round(**arrays, left_out=self.left_out)

    def state(self) -> dict[str, Tensor]:
        """Return all of it as tensors by name."""
        return {name: torch.from_numpy(getattr(self, name)) for name in ARRAYS} | {
            "left_out": torch.tensor(self.left_out, dtype=torch.float64)}

    @classmethod
    def from_state(cls, tensors: dict[str, Tensor]) -> Round:
        """Read :meth:`state` back."""
        arrays: dict[str, Any] = {name: tensors[name].numpy() for name in ARRAYS}
        return cls(**arrays, left_out=float(tensors["left_out"]))


ARRAYS = tuple(field.name for field in fields(Round) if field.name != "left_out")
"""The fields of a :class:`Round` that have a row a chunk."""


@dataclass(frozen=True, eq=False)
class RoundBatch:
    """Chunks of a :class:`Round` as tensors, observations normalised; else as there."""

    observations: Tensor
    chains: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor
    left_out: Tensor

    @classmethod
    def of(cls, drawn: Round, normalizer: Normalizer) -> RoundBatch:
        """Move chunks to the device of ``normalizer``."""
        found = {name: value.to(normalizer.device) for name, value in drawn.state().items()}
        found["observations"] = normalizer(found["observations"])
        return cls(**found)
