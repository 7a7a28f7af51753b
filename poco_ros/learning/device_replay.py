"""The replay's rows mirrored on the device, where chunks are drawn and gathered.

The replay on the host stays the truth: it takes in episodes, evicts them, and is what a resumed
run fills again. Here its rows are kept as tensors; :meth:`DeviceReplay.bring` copies those that
have changed, once an episode. Drawing and gathering are a fixed sequence of operations on the
device: no shape and no branch depends on what is held, no constant comes from the host. So they
can be part of a captured graph.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from poco_ros.learning.networks import Fuse
from poco_ros.learning.replay import FIELDS, ChunkBatch, Replay

DRAWS = 1 << 62
"""Draws are whole numbers below this, taken modulo the number of starts: with a billion starts
the most likely one is ahead by less than 1e-9 of its share."""
MINIMUM_ROOM = 1 << 16
"""Rows of the ring for which there is memory at first: each growth later moves all tensors."""
_DTYPES = {"observations": torch.float32, "actions": torch.float32, "rewards": torch.float32,
           "left": torch.int32, "terminal": torch.bool}


class DeviceReplay:
    """See the module. Row numbers are those of the replay on the host."""

    def __init__(self, replay: Replay, device: torch.device | str) -> None:
        self.replay, self.device = replay, torch.device(device)
        self.generation = 0
        """Counts how often the tensors have moved; a graph captured before is of no use then."""
        self._pinned, self._capacity = replay.pinned_rows, replay.capacity
        self._rows: dict[str, Tensor] = {}
        self._start_rows = torch.zeros(0, dtype=torch.int64, device=self.device)
        self._counts = torch.zeros(2, dtype=torch.int64, device=self.device)
        """(starts among the demonstrations, all starts)."""
        self._powers: dict[tuple[int, float], Tensor] = {}

    def bring(self) -> None:
        """Copy what has changed on the host. Waits for the device when something has."""
        rows, fields = self.replay.take_changed()
        if not rows.size:
            return
        if self.replay.rows > len(self._start_rows):
            self._grow(fields)
        index = torch.from_numpy(rows).to(self.device)
        for name in FIELDS:
            self._rows[name][index] = torch.from_numpy(fields[name]).to(self.device)
        starts = torch.nonzero(self._rows["left"] > 0).squeeze(1)
        self._start_rows[:len(starts)] = starts
        self._counts.copy_(torch.tensor([self.replay.pinned_starts, len(starts)]))

    def _grow(self, fields: dict[str, np.ndarray]) -> None:
        """Make room for all rows of the host, and for some more to come."""
        ring = max(self.replay.rows - self._pinned, MINIMUM_ROOM)
        room = self._pinned + min(ring, self._capacity)
        for name in FIELDS:
            shape = (room, *fields[name].shape[1:])
            grown = torch.zeros(shape, dtype=_DTYPES[name], device=self.device)
            if name in self._rows:
                grown[:len(self._rows[name])] = self._rows[name]
            self._rows[name] = grown
        self._start_rows = torch.zeros(room, dtype=torch.int64, device=self.device)
        self.generation += 1

    @torch.no_grad()
    def draw(self, generator: torch.Generator, count: int, pinned_share: float = -1.0) -> Tensor:
        """Return ``count`` rows (B,), uniform over all starts, drawn with ``generator``.

        With ``pinned_share`` in [0, 1] that share is drawn from the demonstrations and the rest
        from the ring, in a random order; where one of them is empty all come from the other. The
        replay must not be empty.
        """
        draws = torch.randint(0, DRAWS, (count,), generator=generator, device=self.device)
        pinned, total = self._counts
        if pinned_share < 0.0:
            return self._start_rows[draws % total]
        order = torch.rand(count, generator=generator, device=self.device).argsort()
        one_is_empty = (pinned == 0) | (pinned == total)
        ours = (order < round(pinned_share * count)) & ~one_is_empty
        theirs = (order >= round(pinned_share * count)) & ~one_is_empty
        low = pinned * theirs
        span = torch.where(ours, pinned, total - low)
        return self._start_rows[low + draws % span]

    def _rows_behind(self, starts: Tensor, steps: Tensor) -> Tensor:
        """Return the rows that lie ``steps`` behind ``starts``, around the ring's end."""
        rows = starts + steps
        wrapped = self._pinned + (rows - self._pinned) % self._capacity
        return torch.where(starts >= self._pinned, wrapped, rows)

    @torch.no_grad()
    def chunks(self, starts: Tensor, horizon: int, gamma: float) -> ChunkBatch[Tensor]:
        """Return the chunks that begin at the rows ``starts`` (B,), as :meth:`Replay.chunks`."""
        return self._gathered(self._rows, starts, self._powers_of(horizon, gamma))

    def fuse(self, compiled: Fuse) -> None:
        """Have gathering compiled."""
        self._gathered = compiled(self._gathered)  # type: ignore[method-assign]

    def _gathered(self, rows: dict[str, Tensor], starts: Tensor,
                  powers: Tensor) -> ChunkBatch[Tensor]:
        horizon = len(powers) - 1
        left = rows["left"][starts].long()
        real = left.clamp(max=horizon)
        steps = torch.arange(horizon, device=self.device)
        last = real.unsqueeze(1) - 1
        members = self._rows_behind(starts.unsqueeze(1), torch.minimum(steps, last))
        valid = (steps <= last).float()
        terminal = (left <= horizon) & rows["terminal"][starts]
        return ChunkBatch(
            observations=rows["observations"][starts],
            actions=rows["actions"][members],
            valid=valid,
            rewards=(rows["rewards"][members] * valid * powers[:horizon]).sum(dim=1),
            next_observations=rows["observations"][self._rows_behind(starts, real)],
            bootstrap=powers[real].masked_fill(terminal, 0.0),
            critic_valid=((left >= horizon) | terminal).float(),
        )

    def _powers_of(self, horizon: int, gamma: float) -> Tensor:
        """Return gamma^k for k = 0..horizon; made once, as a captured graph cannot make it."""
        key = horizon, gamma
        if key not in self._powers:
            powers = (gamma ** np.arange(horizon + 1)).astype(np.float32)
            self._powers[key] = torch.from_numpy(powers).to(self.device)
        return self._powers[key]
