"""The ticker: steady, no drift, counts what it missed, unharmed by errors."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from robot_support import wait_until

from poco_ros.robot.ticker import Phase, Ticker


class Recorder:
    """Remembers when its phase ran; can be told to dawdle or to fail once."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.errors: list[Exception] = []
        self.dawdle = 0.0
        self.fail = False

    def run(self) -> None:
        self.times.append(time.monotonic())
        if self.dawdle:
            time.sleep(self.dawdle)
            self.dawdle = 0.0
        if self.fail:
            self.fail = False
            raise RuntimeError("a phase failed")


def test_ticks_keep_to_the_grid_without_drift() -> None:
    recorder = Recorder()
    ticker = Ticker(0.01, [Phase(0.0, recorder.run)], recorder.errors.append)
    ticker.start()
    wait_until(lambda: len(recorder.times) >= 60)
    ticker.stop()
    times = np.array(recorder.times)
    grid = (times - times[0]) / 0.01
    assert ticker.ticks + ticker.missed == pytest.approx(grid[-1] + 1, abs=1.1)
    # The earliest a tick comes after its slot does not grow: deadlines are absolute.
    early = [(grid[part] - np.arange(60)[part]).min() % 1.0 for part in (slice(20), slice(40, 60))]
    assert abs((early[1] - early[0] + 0.5) % 1.0 - 0.5) < 0.1
    lateness = ticker.lateness()
    assert 0.0 <= lateness.p50 <= lateness.p99 <= lateness.p999 <= lateness.max
    assert lateness.p50 < 0.005


def test_phases_run_at_their_offsets_within_the_tick() -> None:
    first, second = Recorder(), Recorder()
    ticker = Ticker(0.02, [Phase(0.0, first.run), Phase(0.012, second.run)], print)
    ticker.start()
    wait_until(lambda: len(second.times) >= 15)
    ticker.stop()
    gaps = [b - a for a, b in zip(first.times, second.times, strict=False)]
    assert np.median(gaps) == pytest.approx(0.012, abs=0.007)


def test_missed_ticks_are_counted_and_not_made_up_for() -> None:
    recorder = Recorder()
    ticker = Ticker(0.01, [Phase(0.0, recorder.run)], recorder.errors.append)
    recorder.dawdle = 0.105
    ticker.start()
    wait_until(lambda: len(recorder.times) >= 10)
    ticker.stop()
    assert ticker.missed >= 9
    times = np.array(recorder.times)
    assert (times[3:] - times[:-3]).min() > 0.011, "no burst after the pause"


def test_a_failing_phase_is_reported_and_ticking_goes_on() -> None:
    recorder = Recorder()
    recorder.fail = True
    ticker = Ticker(0.005, [Phase(0.0, recorder.run)], recorder.errors.append)
    ticker.start()
    wait_until(lambda: len(recorder.times) >= 5)
    ticker.stop()
    assert [str(error) for error in recorder.errors] == ["a phase failed"]


def test_stop_ends_the_thread() -> None:
    ticker = Ticker(0.3, [Phase(0.0, lambda: None)], print)
    ticker.start()
    ticker.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "ticker"]


@pytest.mark.parametrize("offsets", [[], [0.5, 0.1], [-0.1], [1.0]])
def test_phases_outside_the_period_are_refused(offsets: list[float]) -> None:
    with pytest.raises(ValueError, match="rising order"):
        Ticker(1.0, [Phase(offset, lambda: None) for offset in offsets], print)


def test_all_threads_run_in_short_slices_or_the_reason_is_told() -> None:
    """Also those of libraries; and nothing else is changed, such as the niceness."""
    program = (
        "import ctypes, os, threading; from pathlib import Path\n"
        "from poco_ros.robot import ticker\n"
        "os.nice(3); end = threading.Event(); threading.Thread(target=end.wait).start()\n"
        "why, found = ticker.ask_for_short_slices(), ticker.SchedAttr()\n"
        "number = ticker.SCHED_ATTR[os.uname().machine][1]\n"
        "for task in Path('/proc/self/task').iterdir():\n"
        "    ctypes.CDLL(None).syscall(number, int(task.name), ctypes.byref(found), 48, 0)\n"
        "    print(why or (found.policy, found.runtime))\n"
        "print(os.nice(0)); end.set()")
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          check=True, cwd=Path(__file__).resolve().parent.parent).stdout
    *threads, niceness = said.splitlines()
    assert niceness == f"{min(19, os.nice(0) + 3)}" and len(threads) >= 2
    assert set(threads) == {"(0, 100000)"} or "6.12" in said, said


def test_real_time_priority_is_given_to_the_threads_or_the_reason_is_told() -> None:
    program = ("import os, threading; from poco_ros.robot.ticker import ask_for_realtime\n"
               "end = threading.Event(); threading.Thread(target=end.wait).start()\n"
               "why = ask_for_realtime(); ids = [t.native_id for t in threading.enumerate()]\n"
               "print(why or [os.sched_getscheduler(i) & os.SCHED_FIFO for i in ids]); end.set()")
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          check=True, cwd=Path(__file__).resolve().parent.parent).stdout
    assert said == "[1, 1]\n" or "rtprio" in said
