"""What every node of the graph is and how it runs: start, work, stop.

Threads: the node's work (a :class:`FastLoop`, training, the ticks of an environment) runs in the
main thread; an executor in a second thread serves parameters, diagnostics and rare services.
Several nodes can be composed in one process; their work takes turns in its main thread then, and
what one sends another is there without a wake-up.
SIGINT, SIGTERM and SIGHUP only set a flag, so a node stops between two pieces of work with ROS
still up: it saves, says its last word and exits with 0.
"""

from __future__ import annotations

import contextlib
import gc
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
from poco_ros.processes import stops_handled
from poco_ros.ros.diagnostics import Health
from poco_ros.ros.fast_loop import FastLoop, LoopGroup
from poco_ros.ros.logs import forwarded
from poco_ros.ros.parameters import given_parameters

REFUSED = 2
"""Exit code of a node that refuses its parameters or its files."""
POLL = 0.1
"""Longest wait of a work loop [s]: how soon a stop is noticed."""


class Interrupts:
    """What SIGINT, SIGTERM and SIGHUP do: ask to stop; the first two end the process at once
    when somebody asked before."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.at_once = True
        """Whether there is nothing to save, so that a signal may break off what is being done."""

    def handle(self, number: int, _: FrameType | None) -> None:
        """Handle a signal (main thread)."""
        if self.stopping.is_set():
            if number == signal.SIGHUP:
                return  # closing the terminal is no impatience
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.stopping.set()
        if self.at_once:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Handle them in the block."""
        with stops_handled(self.handle):
            try:
                yield
            except KeyboardInterrupt:
                if not self.stopping.is_set():
                    raise


class PocoNode(Node):
    """A node with health, a fast loop and a way to stop."""

    def __init__(self, name: str, arguments: Sequence[str] | None = None) -> None:
        """Make the node, with ROS ``arguments`` of its own; None: with those of the process."""
        super().__init__(name, cli_args=None if arguments is None else list(arguments),
                         use_global_arguments=arguments is None,
                         automatically_declare_parameters_from_overrides=True)
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

    def advance(self) -> float:
        """Do what is due now, without waiting; return how long nothing else will be due [s].

        Called again and again, in the main thread; in between the loop handles what comes in.
        """
        return POLL

    def work(self) -> None:
        """Do the node's work, in the main thread, until ``stopping`` is set or it is done.

        A node that has a way of its own here cannot be composed with others.
        """
        while not self.stopping.is_set():
            self.loop.wait(self.advance())

    def close(self) -> None:
        """Save and release what the node holds; called once, also after an error."""


def run(make: Callable[[], PocoNode], arguments: Sequence[str] | None = None) -> int:
    """Run a node in this process until it is done or interrupted; return the exit code.

    ``arguments`` are those of ROS; None: of the command line. Exit codes: see :func:`compose`.
    """
    return compose([make], arguments)


def compose(makes: Sequence[Callable[[], PocoNode]],
            arguments: Sequence[str] | None = None) -> int:
    """Run nodes in this process until they are done or interrupted; return the exit code.

    0: done or stopped. 2: it refused its parameters or files; the reason is on stderr. 1: an
    error that is none of the user's; with a traceback.
    """
    rclpy.init(args=None if arguments is None else list(arguments),
               signal_handler_options=SignalHandlerOptions.NO)
    interrupts = Interrupts()
    try:
        with interrupts.caught():
            nodes = [make() for make in makes]
            with forwarded(nodes[0].get_logger()):
                return _run(nodes, interrupts)
    except PocoError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return REFUSED
    finally:
        rclpy.try_shutdown()
    return 0  # interrupted before there was anything to save


def _run(nodes: Sequence[PocoNode], interrupts: Interrupts) -> int:
    stopping = interrupts.stopping
    executor = SingleThreadedExecutor()
    for node in nodes:
        node.interrupts = interrupts
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
            _work(nodes, stopping)
    finally:
        try:
            for node in nodes:
                node.close()
        finally:
            executor.shutdown()
            thread.join(timeout=5.0)
            for node in nodes:
                node.destroy_node()
    return 1 if failed or any(node.failed for node in nodes) else 0


def _work(nodes: Sequence[PocoNode], stopping: threading.Event) -> None:
    if len(nodes) == 1:
        nodes[0].work()
        return
    loops = LoopGroup([node.loop for node in nodes])
    gc.collect()
    gc.freeze()  # what is there stays: collections need not walk it again and again
    while not stopping.is_set():
        loops.wait(min([node.advance() for node in nodes]))
