"""The action chunk, and the player that turns chunks into one action a tick."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poco_ros.core.errors import DataError


@dataclass(frozen=True, eq=False)
class ActionChunk:
    """A sequence of T actions that answers one observation."""

    actions: np.ndarray
    """(T, A) float32, normalised to [-1, 1]."""
    chunk_id: int
    """Unique and rising within an episode, from 1; 0 means no chunk."""
    policy_version: int
    observation_stamp: int
    """Stamp [ns] of the observation that the chunk answers."""
    task: str = ""
    """Task of the policy that made the chunk."""

    def __post_init__(self) -> None:
        actions = np.asarray(self.actions, np.float32)
        object.__setattr__(self, "actions", actions)
        if actions.ndim != 2 or actions.shape[0] < 1 or actions.shape[1] < 1:
            raise DataError(f"chunk {self.chunk_id}: actions have shape {actions.shape},"
                            " expected (T, A) with T >= 1 and A >= 1")
        if not np.isfinite(actions).all():
            row = int(np.argwhere(~np.isfinite(actions))[0][0])
            raise DataError(f"chunk {self.chunk_id}: action {row} is not finite: {actions[row]}")
        if np.abs(actions).max() > 1.0 + 1e-6:
            raise DataError(f"chunk {self.chunk_id}: actions reach {np.abs(actions).max():g},"
                            " outside [-1, 1]")


@dataclass(frozen=True, eq=False)
class PlayedAction:
    """One action taken from a chunk."""

    action: np.ndarray
    chunk_id: int
    index: int
    """Position in the chunk, from 0."""
    policy_version: int


class ChunkPlayer:
    """Hands out the actions of the current chunk, one a tick; None when there is none left.

    Accepting a chunk replaces what is left of the one before. A chunk that repeats or precedes the
    current id is refused, so a late duplicate never moves anything.
    """

    def __init__(self, action_dim: int) -> None:
        self.action_dim = action_dim
        self._chunk: ActionChunk | None = None
        self._index = 0
        self._last_id = 0

    def accept(self, chunk: ActionChunk) -> None:
        """Make ``chunk`` the current one.

        Raises:
            DataError: its action size is another one, or its id is not newer than the last.
        """
        if chunk.actions.shape[1] != self.action_dim:
            raise DataError(f"chunk {chunk.chunk_id} has {chunk.actions.shape[1]} values an"
                            f" action, expected {self.action_dim}")
        if chunk.chunk_id <= self._last_id:
            raise DataError(f"chunk {chunk.chunk_id} is not newer than chunk {self._last_id}")
        self._chunk, self._index, self._last_id = chunk, 0, chunk.chunk_id

    def next(self) -> PlayedAction | None:
        """Return the next action, or None when the chunk is used up."""
        if self._chunk is None or self._index >= len(self._chunk.actions):
            return None
        played = PlayedAction(self._chunk.actions[self._index], self._chunk.chunk_id, self._index,
                              self._chunk.policy_version)
        self._index += 1
        return played

    @property
    def remaining(self) -> int:
        """Actions left in the current chunk."""
        return 0 if self._chunk is None else len(self._chunk.actions) - self._index

    def clear(self, forget_ids: bool = False) -> None:
        """Drop what is left; with ``forget_ids``, as a new episode begins, ids start again."""
        self._chunk, self._index = None, 0
        if forget_ids:
            self._last_id = 0
