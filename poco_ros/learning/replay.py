"""Replay of whole episodes, from which chunks are sampled.

Rows hold one observation each; an episode of L actions takes L + 1 rows, the last one without an
action. ``left`` counts the actions from a row to the end of its episode, so a row is a start of a
chunk exactly when ``left > 0``, and which actions of a chunk are real follows from it. Online
episodes live in a ring; an episode that is overwritten in part is dropped whole. Demonstrations
stand before the ring and are never evicted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from poco_ros.core.episode import Episode
from poco_ros.core.errors import DataError

Array = TypeVar("Array")
FIELDS = ("observations", "actions", "rewards", "left", "terminal")
"""What a row holds."""


@dataclass(frozen=True, eq=False)
class ChunkBatch(Generic[Array]):
    """B chunks of T actions, as numpy arrays or, from a replay on the device, as tensors."""

    observations: Array
    """(B, O) s_t."""
    actions: Array
    """(B, T, A); behind the end of an episode the last action is repeated."""
    valid: Array
    """(B, T) float32: 1 where the action is real, 0 behind the end of the episode."""
    rewards: Array
    """(B,) sum_k gamma^k r_{t+k} over the real steps."""
    next_observations: Array
    """(B, O) s_{t+n}, n = real steps."""
    bootstrap: Array
    """(B,) gamma^n, or 0 when the chunk ends in a terminal state."""
    critic_valid: Array
    """(B,) float32: 0 for a chunk that a time limit or a fault cut short: it was not executed
    whole, so it says nothing about Q of a whole chunk. A chunk that ends in success counts."""


class Replay:
    """See the module. Sampling is uniform over all starts, demonstrations and ring together."""

    def __init__(self, observation_size: int, action_dim: int, capacity: int,
                 demonstrations: Iterable[Episode] = ()) -> None:
        """Make room for ``capacity`` rows in the ring, after the demonstrations.

        Raises:
            DataError: a demonstration has other sizes.
        """
        pinned = [episode for episode in demonstrations if episode.trainable]
        self._pinned = sum(len(episode) + 1 for episode in pinned)
        self._pinned_episodes = len(pinned)
        self._capacity = capacity
        self._observation_size, self._action_dim = observation_size, action_dim
        self._allocate(self._pinned + min(capacity, 4096))
        self._cursor = 0  # next row of the ring to be written
        self._ring: deque[tuple[int, int]] = deque()  # (first row in the ring, rows), oldest first
        self._used = 0  # rows of the ring that hold an episode
        self._starts = 0
        self._changed: list[np.ndarray] | None = None
        row = 0
        for episode in pinned:
            self._check(episode)
            self._write(np.arange(row, row + len(episode) + 1), episode)
            row += len(episode) + 1

    def _allocate(self, rows: int) -> None:
        """Grow to ``rows``; memory is taken as the ring fills, not at once."""
        fields = {"observations": ((self._observation_size,), np.float32),
                  "actions": ((self._action_dim,), np.float32), "rewards": ((), np.float32),
                  "left": ((), np.int32), "terminal": ((), np.bool_)}
        for name, (shape, dtype) in fields.items():
            array: np.ndarray = np.zeros((rows, *shape), dtype)
            old = getattr(self, f"_{name}", None)
            if old is not None:
                array[:len(old)] = old
            setattr(self, f"_{name}", array)
        self._observations: np.ndarray
        self._actions: np.ndarray
        self._rewards: np.ndarray
        self._left: np.ndarray
        self._terminal: np.ndarray

    def _check(self, episode: Episode) -> None:
        sizes = episode.observations.shape[1], episode.actions.shape[1]
        if sizes != (self._observation_size, self._action_dim):
            raise DataError(f"episode {episode.id}: observations and actions have sizes {sizes},"
                            f" this replay holds {(self._observation_size, self._action_dim)}")

    def _write(self, rows: np.ndarray, episode: Episode) -> None:
        steps = len(episode)
        self._observations[rows] = episode.observations
        self._actions[rows[:-1]] = episode.actions
        self._rewards[rows[:-1]] = episode.rewards
        self._left[rows] = np.arange(steps, -1, -1)
        self._terminal[rows] = episode.terminated
        self._starts += steps
        self._note(rows)

    def __len__(self) -> int:
        """Number of starts, that is of actions held."""
        return self._starts

    @property
    def ring_episodes(self) -> int:
        """Online episodes held."""
        return len(self._ring)

    def add(self, episode: Episode) -> None:
        """Append an online episode, evicting the oldest ones that stand in its way.

        Raises:
            DataError: other sizes, or longer than the whole ring; nothing has changed then.
        """
        self._check(episode)
        rows = len(episode) + 1
        if rows > self._capacity:
            raise DataError(f"episode {episode.id} needs {rows} rows, the replay has"
                            f" {self._capacity}; raise replay_capacity")
        while self._capacity - self._used < rows:
            self._evict()
        end = self._cursor + rows
        if self._pinned + min(end, self._capacity) > len(self._left):
            wanted = max(2 * (len(self._left) - self._pinned), min(end, self._capacity))
            self._allocate(self._pinned + min(wanted, self._capacity))
        positions = np.arange(self._cursor, end) % self._capacity
        self._ring.append((self._cursor, rows))
        self._used += rows
        self._write(self._pinned + positions, episode)
        self._cursor = end % self._capacity

    def _evict(self) -> None:
        first, rows = self._ring.popleft()
        self._used -= rows
        positions = self._pinned + np.arange(first, first + rows) % self._capacity
        self._starts -= int((self._left[positions] > 0).sum())
        self._left[positions] = 0
        self._note(positions)

    # -- for a copy elsewhere -------------------------------------------------------------------

    def _note(self, rows: np.ndarray) -> None:
        if self._changed is not None:
            self._changed.append(rows)

    def take_changed(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the rows that changed since the last call, each once, and what they hold now.

        The first call returns all rows; changes are noted from then on. The fields are
        ``observations``, ``actions``, ``rewards``, ``left`` and ``terminal``.
        """
        if self._changed is None:
            rows = np.arange(self.rows)
        else:
            rows = np.unique(np.concatenate([np.zeros(0, np.intp), *self._changed]))
        self._changed = []
        return rows, {name: getattr(self, f"_{name}")[rows] for name in FIELDS}

    @property
    def rows(self) -> int:
        """Rows for which there is memory now; the ring may grow up to its capacity."""
        return len(self._left)

    @property
    def pinned_rows(self) -> int:
        """Rows of the demonstrations; the ring begins behind them."""
        return self._pinned

    @property
    def pinned_starts(self) -> int:
        """Starts among the demonstrations."""
        return self._pinned - self._pinned_episodes

    @property
    def capacity(self) -> int:
        """Rows that the ring may have."""
        return self._capacity

    # -- sampling -------------------------------------------------------------------------------

    def _rows_behind(self, starts: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return the rows that lie ``steps`` behind ``starts``, around the ring's end."""
        rows = starts + steps
        in_ring = starts >= self._pinned
        return np.where(in_ring, self._pinned + (rows - self._pinned) % self._capacity, rows)

    def sample_starts(self, generator: np.random.Generator, count: int,
                      pinned_share: float = -1.0) -> np.ndarray:
        """Return ``count`` rows, uniform over all starts (rows without an action are redrawn).

        With ``pinned_share`` in [0, 1] that share is drawn from the demonstrations and the rest
        from the ring, in a random order; where one of them is empty all come from the other.

        Raises:
            DataError: nothing is held.
        """
        if not self._starts:
            raise DataError("the replay is empty: give demonstrations or store an episode first")
        none_elsewhere = not self.pinned_starts or self._starts == self.pinned_starts
        if pinned_share < 0.0 or none_elsewhere:
            return self._draw(generator, count, 0, len(self._left))
        pinned = round(pinned_share * count)
        found = np.concatenate([self._draw(generator, pinned, 0, self._pinned),
                                self._draw(generator, count - pinned, self._pinned,
                                           len(self._left))])
        generator.shuffle(found)
        return found

    def _draw(self, generator: np.random.Generator, count: int, low: int,
              high: int) -> np.ndarray:
        found = generator.integers(low, high, count)
        while True:
            wrong = np.flatnonzero(self._left[found] == 0)
            if not wrong.size:
                return found
            found[wrong] = generator.integers(low, high, wrong.size)

    def chunks(self, starts: np.ndarray, horizon: int,
               gamma: float) -> ChunkBatch[np.ndarray]:
        """Return the chunks of ``horizon`` actions that begin at the rows ``starts`` (B,)."""
        left = self._left[starts]
        real = np.minimum(left, horizon)
        steps = np.arange(horizon)
        rows = self._rows_behind(starts[:, None], np.minimum(steps, real[:, None] - 1))
        valid = (steps < real[:, None]).astype(np.float32)
        discounts = (gamma ** steps).astype(np.float32)
        ended = left <= horizon
        terminal = ended & self._terminal[starts]
        return ChunkBatch(
            observations=self._observations[starts],
            actions=self._actions[rows],
            valid=valid,
            rewards=(self._rewards[rows] * valid * discounts).sum(axis=1),
            next_observations=self._observations[self._rows_behind(starts, real)],
            bootstrap=np.where(terminal, 0.0, gamma ** real).astype(np.float32),
            critic_valid=((left >= horizon) | terminal).astype(np.float32),
        )

    def sample(self, generator: np.random.Generator, count: int, horizon: int, gamma: float,
               pinned_share: float = -1.0) -> ChunkBatch[np.ndarray]:
        """Return a batch of ``count`` chunks; see :meth:`sample_starts`."""
        return self.chunks(self.sample_starts(generator, count, pinned_share), horizon, gamma)
