"""One moment on both clocks of the computer."""

from __future__ import annotations

import time

_TRIES = 3


def wall_time(monotonic_ns: int) -> int:
    """Return a recent moment of the monotonic clock on the wall clock [ns], to some microseconds.

    The clocks are read one after the other. When another program runs in between, their readings
    are apart by its time: of some tries the one that took the shortest counts.
    """
    tries = []
    for _ in range(_TRIES):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        tries.append((after - before, wall - (before + after) // 2))
    return monotonic_ns + min(tries)[1]
