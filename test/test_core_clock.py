"""One moment on two clocks."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from poco_ros.core import clock


def test_a_moment_now_is_the_wall_clocks_now() -> None:
    before = time.time_ns()
    moment = clock.wall_time(time.monotonic_ns())
    assert before - 1_000_000 <= moment <= time.time_ns() + 1_000_000


@pytest.mark.parametrize("interrupted", range(6))
def test_a_program_that_runs_between_two_readings_does_not_shift_a_stamp(
        monkeypatch: pytest.MonkeyPatch, interrupted: int) -> None:
    """A camera's thread that lost the processor there for 40 ms stamped its picture 40 ms off."""
    monotonic, wall, pause = 5_000_000_000, 1_700_000_000_000_000_000, 40_000_000
    now, readings = 0, 0

    def read(epoch: int) -> Callable[[], int]:
        def reading() -> int:
            nonlocal now, readings
            now += 100 + (pause if readings == interrupted else 0)
            readings += 1
            return epoch + now
        return reading

    monkeypatch.setattr(clock.time, "monotonic_ns", read(monotonic))
    monkeypatch.setattr(clock.time, "time_ns", read(wall))
    captured = monotonic - 3_000_000
    assert abs(clock.wall_time(captured) - (wall - 3_000_000)) < 1_000
