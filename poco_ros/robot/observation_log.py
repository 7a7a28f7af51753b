"""Which observations were published lately, so that a chunk's age is known whatever clocks do."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

_KEPT = 512


@dataclass(frozen=True)
class Observed:
    """One tick's measurement."""

    monotonic_ns: int
    actions_before: int
    """Actions of chunks executed before it, over the controller's life; held ticks not counted."""


class ObservationLog:
    """Stamp -> when it really was.

    A chunk names the observation that it answers by its stamp, which is wall-clock time. The wall
    clock may jump between the two; ages are counted on the monotonic clock, through this log.
    """

    def __init__(self) -> None:
        self._entries: OrderedDict[int, Observed] = OrderedDict()

    def add(self, stamp: int, observed: Observed) -> None:
        """Remember an observation by its stamp [ns]."""
        self._entries[stamp] = observed
        while len(self._entries) > _KEPT:
            self._entries.popitem(last=False)

    def find(self, stamp: int) -> Observed | None:
        """Return the observation with exactly that stamp, None when none was published lately."""
        return self._entries.get(stamp)
