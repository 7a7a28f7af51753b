"""What every node of the graph is and how it runs: start, work, stop.

Threads: the node's work (a :class:`FastLoop`, training, the ticks of an environment) runs in the
main thread; an executor in a second thread serves parameters, diagnostics and rare services.
SIGINT and SIGTERM only set a flag, so a node stops between two pieces of work with ROS still up:
it saves, says its last word and exits with 0.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from poco_ros.core.errors import PocoError
from poco_ros.ros.diagnostics import Health
from poco_ros.ros.fast_loop import FastLoop
from poco_ros.ros.parameters import given_parameters

REFUSED = 2
"""Exit code of a node that refuses its parameters or its files."""
POLL = 0.1
"""Longest wait of a work loop [s]: how soon a stop is noticed."""


class Interrupts:
    """What SIGINT and SIGTERM do: ask to stop; end the process when they come twice."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.at_once = True
        """Whether there is nothing to save, so that a signal may break off what is being done."""

    def handle(self, number: int, _: FrameType | None) -> None:
        """Handle a signal (main thread)."""
        if self.stopping.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.stopping.set()
        if self.at_once:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM in the block."""
        before = {number: signal.signal(number, self.handle)
                  for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except KeyboardInterrupt:
            if not self.stopping.is_set():
                raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class PocoNode(Node):
    """A node with health, a fast loop and a way to stop."""

    def __init__(self, name: str) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True)
        self.given = given_parameters(self)
        """Parameters that were given from outside, still to be declared."""
        self.interrupts = Interrupts()
        self.failed = False
        """Whether to exit with 1: something that should have been saved was not."""
        self.loop = FastLoop(self)
        self.health = Health(self)

    @property
    def stopping(self) -> threading.Event:
        """Set when the node shall stop."""
        return self.interrupts.stopping

    @contextlib.contextmanager
    def breakable(self) -> Iterator[None]:
        """Let a signal break off the block at once: long work that leaves nothing to save."""
        self.interrupts.at_once = True
        try:
            if self.stopping.is_set():
                raise KeyboardInterrupt
            yield
        finally:
            self.interrupts.at_once = False

    def work(self) -> None:
        """Do the node's work, in the main thread, until ``stopping`` is set or it is done."""
        while not self.stopping.is_set():
            self.loop.wait(POLL)

    def close(self) -> None:
        """Save and release what the node holds; called once, also after an error."""


def run(make: Callable[[], PocoNode], arguments: Sequence[str] | None = None) -> int:
    """Run a node in this process until it is done or interrupted; return the exit code.

    0: done or stopped. 2: it refused its parameters or files; the reason is on stderr. 1: an
    error that is none of the user's; with a traceback.
    """
    rclpy.init(args=None if arguments is None else list(arguments),
               signal_handler_options=SignalHandlerOptions.NO)
    interrupts = Interrupts()
    try:
        with interrupts.caught():
            return _run(make, interrupts)
    except PocoError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return REFUSED
    finally:
        rclpy.try_shutdown()
    return 0  # interrupted before there was anything to save


def _run(make: Callable[[], PocoNode], interrupts: Interrupts) -> int:
    node = make()
    node.interrupts, stopping = interrupts, interrupts.stopping
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    failed: list[BaseException] = []

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            return
        except Exception as error:  # of a callback: the node cannot go on half dead
            traceback.print_exc()
            failed.append(error)
            stopping.set()

    thread = threading.Thread(target=spin, name="executor", daemon=True)
    thread.start()
    interrupts.at_once = False
    try:
        if not stopping.is_set():
            node.work()
    finally:
        try:
            node.close()
        finally:
            executor.shutdown()
            thread.join(timeout=5.0)
            node.destroy_node()
    return 1 if failed or node.failed else 0
