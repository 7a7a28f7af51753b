"""A steady timer on a thread of its own, with absolute deadlines on the monotonic clock."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)

_KEPT = 8192  # samples of lateness
SHORTEST_SLICE = 1e-4
"""Linux takes none that is shorter [s]."""
SCHED_ATTR = {"x86_64": (314, 315), "aarch64": (274, 275), "riscv64": (274, 275)}
"""Numbers of sched_setattr and sched_getattr, which Python does not offer."""


class SchedAttr(ctypes.Structure):
    """``struct sched_attr`` of linux/sched/types.h, its first version."""

    _fields_ = (("size", ctypes.c_uint32), ("policy", ctypes.c_uint32), ("flags", ctypes.c_uint64),
                ("nice", ctypes.c_int32), ("priority", ctypes.c_uint32),
                ("runtime", ctypes.c_uint64), ("deadline", ctypes.c_uint64),
                ("period", ctypes.c_uint64))


@dataclass(frozen=True)
class Lateness:
    """How late ticks began [s], over the last several thousand."""

    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


@dataclass(frozen=True)
class Phase:
    """Something to do in every tick, ``offset`` [s] after its beginning."""

    offset: float
    run: Callable[[], None]


def switch_threads_quickly(interval: float = 0.0005) -> None:
    """Let Python hand over between threads every ``interval`` [s] (5 ms by default).

    A ticker shares its process with threads that read a bus or serve messages; with the default
    one of them can keep it waiting for 5 ms. The setting is the process's.
    """
    sys.setswitchinterval(interval)


def ask_for_realtime(priority: int = 10) -> str:
    """Let the Python threads of now go before those of ordinary programs, where that is allowed.

    All of them, since they run one at a time: a ticker would wait for an ordinary thread that an
    ordinary program keeps waiting. Threads that they start later, and those of libraries, are
    ordinary. Allowed is it to root, with CAP_SYS_NICE, or within the limit ``rtprio`` of
    /etc/security/limits.conf.

    Returns:
        Empty when it was granted, else why not.
    """
    try:
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        for thread in threading.enumerate():
            if thread.native_id is not None:
                os.sched_setscheduler(thread.native_id, policy, os.sched_param(priority))
    except ProcessLookupError:
        return ask_for_realtime(priority)  # a thread has just ended
    except (OSError, AttributeError) as error:  # not allowed, or not Linux
        return f"{error}; the limit rtprio in /etc/security/limits.conf allows it"
    return ""


def ask_for_short_slices(seconds: float = SHORTEST_SLICE) -> str:
    """Let all threads of now run in slices this short [s], which nobody has to allow.

    A thread that wakes goes before ordinary ones whose slices are longer (2.8 ms on two cores),
    instead of waiting for the end of theirs. Its share of the processor stays the same. Threads
    that they start later do so too. Linux can since 6.12 (sched_setattr(2), sched_runtime).

    Returns:
        Empty when they do, else why not.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in SCHED_ATTR:
        return f"no short slices: system calls of {sys.platform} on {machine} are not known here"
    libc, (set_number, get_number) = ctypes.CDLL(None, use_errno=True), SCHED_ATTR[machine]
    wanted = round(seconds * 1e9)
    for task in Path("/proc/self/task").iterdir():
        tid, attributes = int(task.name), SchedAttr()
        size = ctypes.sizeof(attributes)
        failed = libc.syscall(get_number, tid, ctypes.byref(attributes), size, 0)
        if not failed and attributes.policy == os.SCHED_OTHER:
            attributes.runtime = wanted
            failed = libc.syscall(set_number, tid, ctypes.byref(attributes), 0) or \
                libc.syscall(get_number, tid, ctypes.byref(attributes), size, 0)
        if failed:
            if ctypes.get_errno() == errno.ESRCH:
                continue  # it has just ended
            return f"no short slices: {os.strerror(ctypes.get_errno())}"
        if attributes.policy == os.SCHED_OTHER and attributes.runtime != wanted:
            return "no short slices: this kernel is older than Linux 6.12"
    return ""


class Ticker:
    """Runs its phases every ``period``, at start + n × period + offset: no drift.

    A tick whose phase is still running when the next is due is late; ticks that are due entirely
    in the past are left out and counted as missed, they are never made up for in a burst. The wall
    clock plays no part. An exception in a phase is handed to ``on_error`` and the ticker goes on.
    """

    def __init__(self, period: float, phases: Sequence[Phase],
                 on_error: Callable[[Exception], None]) -> None:
        offsets = [phase.offset for phase in phases]
        if period <= 0 or not phases or sorted(offsets) != offsets or not (
                0.0 <= offsets[0] and offsets[-1] < period):
            raise ValueError(f"phases must lie within the period {period} s in rising order, got"
                             f" offsets {offsets}")
        self.period = period
        self._phases = tuple(phases)
        self._on_error = on_error
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.ticks = 0
        """Ticks begun."""
        self.missed = 0
        """Ticks left out because they were due entirely in the past."""
        self._late = np.zeros((len(phases), _KEPT))

    def start(self) -> None:
        """Begin; the first tick is one period from now."""
        if self._thread is not None:
            raise RuntimeError("the ticker runs already")
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the current phase; returns when the thread has ended."""
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def lateness(self, phase: int = 0) -> Lateness:
        """Return how late the beginnings of one phase were."""
        samples = self._late[phase, :min(self.ticks, _KEPT)]
        if len(samples) == 0:
            return Lateness()
        p50, p99, p999 = np.percentile(samples, [50.0, 99.0, 99.9])
        return Lateness(float(p50), float(p99), float(p999), float(samples.max()))

    def forget(self) -> None:
        """Forget counts and lateness so far: what follows is measured from here."""
        self._late[:] = 0.0
        self.ticks = self.missed = 0

    def _run(self) -> None:
        period = round(self.period * 1e9)
        deadline = time.monotonic_ns() + period
        while self._sleep_until(deadline):
            skipped = (time.monotonic_ns() - deadline) // period
            self.missed += skipped
            deadline += skipped * period
            slot = self.ticks % _KEPT
            self.ticks += 1
            for index, phase in enumerate(self._phases):
                due = deadline + round(phase.offset * 1e9)
                if not self._sleep_until(due):
                    return
                self._late[index, slot] = max(0, time.monotonic_ns() - due) * 1e-9
                try:
                    phase.run()
                except Exception as error:
                    logger.exception("a phase of the ticker failed")
                    self._on_error(error)
            deadline += period

    def _sleep_until(self, due: int) -> bool:
        """Sleep to ``due`` [monotonic ns]; return False when the ticker is to end."""
        while not self._stop.is_set():
            left = due - time.monotonic_ns()
            if left <= 0:
                return True
            # time.sleep rests on the monotonic clock. Half a second at most, to end in time.
            time.sleep(min(left * 1e-9, 0.5))
        return False
