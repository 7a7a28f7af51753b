"""What holds for every test: graph tests run in turn, and no process outlives the session."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from poco_ros.core.threads import one_thread

# How many threads share a product decides its last bits, and some tests compare runs to the bit.
one_thread()
# Whoever runs the tests under nohup: what they start is to notice a closed terminal.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

PR_SET_CHILD_SUBREAPER = 36
# multiprocessing keeps these for the life of the interpreter; they end with it.
OF_THE_INTERPRETER = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist looks at the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put all graph tests into one group of pytest-xdist: one worker runs them, in turn."""
    for item in items:
        if item.get_closest_marker("graph"):
            item.add_marker(pytest.mark.xdist_group("graph"))


def pytest_collection_finish() -> None:
    """Take all tests and what they have imported out of every later collection of garbage.

    robosuite collects at each reset, and went through a million objects each time.
    """
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a graph test that may run beside another; let the other tests step back for it."""
    worker, graph = "PYTEST_XDIST_WORKER" in os.environ, item.get_closest_marker("graph")
    if worker and graph and not item.nodeid.endswith("@graph"):
        pytest.fail("graph tests run in turn: give -n with --dist loadgroup, as make test does",
                    pytrace=False)  # beside each other they would fail now and then
    if worker and not graph:
        step_back()


@functools.cache
def step_back() -> None:
    """Give this worker and what it starts the niceness of a learner, once.

    Graph tests run in real time and wait for most of it. Theirs is the largest group, so a worker
    begins with it (pytest-xdist), and others can use all the time that it leaves.
    """
    os.nice(10)


def children() -> dict[int, str]:
    """Return the running children of this process, pid -> command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if int(parent) == os.getpid() and state != "Z":
            if not any(name in command for name in OF_THE_INTERPRETER):
                found[int(entry.name)] = command
    return found


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left_behind() -> Iterator[None]:
    """Fail when a test leaves a process running, an orphaned grandchild included.

    As a subreaper this process inherits orphans, so that they are seen here.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    before = children()
    yield
    end = time.monotonic() + 5.0
    clear = 0  # looks in a row that found nothing: one may miss a child of a process just ending
    while clear < 3 and time.monotonic() < end:
        left = children().keys() - before.keys()
        clear = 0 if left else clear + 1
        time.sleep(0.02)
    commands = [children().get(pid, "ended meanwhile") for pid in left]
    for pid in children().keys() & left:
        os.kill(pid, signal.SIGKILL)
    assert clear == 3, f"tests left processes running: {commands}"
