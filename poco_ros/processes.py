"""How processes begin and end: what stops them, and who keeps that of a node.

A node is kept by ``launch_ros`` or ``poco launch``, a graph by the command that runs it, a cell
of a bench by the bench. The keeper says what it wants through the environment
(:func:`kept_environment`), the process applies it to itself before anything else
(:func:`settle`).
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a program to stop: Ctrl-C, a service manager, a terminal that is closed."""
REFUSED = 2
"""Exit code of a node that refuses its settings: starting it again would not help."""
STOP_PATIENCE = 60.0
"""How long a node may take to save after SIGINT before stronger means [s]."""
GRAPH_STOP_PATIENCE = STOP_PATIENCE + 15.0
"""How long a graph may take until all its nodes have saved and ended [s]."""
RESPAWN_DELAY = 1.0
"""Pause before a node that died is started again [s]."""
LEARNER_NICENESS = 10
"""Keeps ticks and chunks on time beside a learner that uses every core it finds."""

AUTOGROUP = Path("/proc/self/autogroup")
"""The niceness of this process's session."""
AUTOGROUP_TRIES = 30
"""How often the kernel is told it while it is busy; all nodes of a graph may come at once."""
_KEEPER = "POCO_KEEPER"
_NICENESS = "POCO_NICENESS"
_kept_by = 0


@contextlib.contextmanager
def stops_handled(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Let ``handler`` handle what asks to stop, in the block (main thread only).

    Under ``nohup`` a closed terminal is no reason to stop: SIGHUP that is ignored stays so.
    """
    before = {number: signal.signal(number, handler) for number in STOP_SIGNALS
              if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def kept_environment(nice: int = 0) -> dict[str, str]:
    """Return what this process, as keeper, adds to the environment of one that it starts.

    What that prints comes at once, also where it goes to a pipe or a log.
    """
    return {_KEEPER: str(os.getpid()), _NICENESS: str(nice), "PYTHONUNBUFFERED": "1"}


def settle(patience: float = STOP_PATIENCE) -> None:
    """Make this process one that is kept, as its environment says; nothing without a keeper.

    - A session of its own: Ctrl-C in a terminal reaches the keeper alone, which passes it on once.
    - Its niceness.
    - No life without the keeper: when that is gone, even by SIGKILL, this process gets one SIGINT
      to save and exit, and is killed with its workers when it still runs after ``patience`` [s].
    """
    global _kept_by
    keeper, nice = os.environ.pop(_KEEPER, ""), int(os.environ.pop(_NICENESS, "0"))
    if not keeper:
        return
    _kept_by = int(keeper)
    if os.getpgrp() != os.getpid():  # a leader, as `poco launch` makes it, has its session
        os.setsid()
    lower_priority(nice)
    # The kernel's own parent-death signal is sent once for every thread that the parent had, and
    # a second SIGINT ends a node at once. So a thread waits for the end of the keeper instead.
    try:
        descriptor = os.pidfd_open(_kept_by)
    except ProcessLookupError:
        sys.exit(f"whoever started this node (process {keeper}) is gone already")
    threading.Thread(target=_end_with, args=(descriptor, patience), name="keeper",
                     daemon=True).start()


def keeper() -> int:
    """Return the process that keeps this one, once it is settled; 0: nobody does."""
    return _kept_by


def lower_priority(nice: int) -> None:
    """Add ``nice`` to the niceness of this process, and of its session where that decides.

    With autogroups, the default of desktop kernels, the kernel shares the processor between
    sessions first; niceness then acts within a session only, and a node has one of its own. So
    has a cell of a bench: that of its starter, inherited by the process, must be told to it too.
    """
    whole = os.nice(nice)
    if whole <= 0:
        return
    for _ in range(AUTOGROUP_TRIES):
        try:
            AUTOGROUP.write_text(str(whole))
        except FileNotFoundError:  # a kernel without autogroups
            return
        except BlockingIOError:  # it takes one a tenth of a second of all users but root
            time.sleep(0.1)
        else:
            return


def _end_with(descriptor: int, patience: float) -> None:
    select.select([descriptor], [], [])  # readable once the process has ended
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(patience)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def tether() -> list[str]:
    """Return the prefix that lets a foreign program end when its starter does."""
    return ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []
