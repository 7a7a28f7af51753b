"""Keep the processes of a graph alive: start, prefix their output, start again, stop cleanly.

Used where ``launch_ros`` is not installed. Output goes through honcho's printer. Its manager is
not used: it ends everything as soon as one process ends, and kills after five seconds, while here
a node that dies is started again and a learner gets the time to save.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from honcho.colour import get_colours
from honcho.printer import Message, Printer

from poco_ros.processes import REFUSED, RESPAWN_DELAY, STOP_PATIENCE, STOP_SIGNALS

OWN_NAME = "poco"
TERM_PATIENCE = 5.0
"""From SIGTERM to SIGKILL [s]."""
CLEAN_EXITS = (0, 128 + signal.SIGINT, -signal.SIGINT)
"""Of a process that was asked to stop; interrupted while it still started is clean too."""


@dataclass(frozen=True)
class ProcessSpec:
    """One process to keep."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment of this process."""
    respawn: bool = True
    """Start it again when it died from a signal or an error."""
    ends_all: bool = False
    """When it exits with 0 the work is done and everything is stopped."""


class Supervisor:
    """Runs processes until one of them finishes the work, or somebody interrupts.

    Each process has a session of its own, so Ctrl-C reaches only the supervisor, which passes it
    on once. The first interrupt sends SIGINT; a process that has not saved and ended after
    ``patience`` seconds gets SIGTERM, then its whole process group SIGKILL. Each further interrupt
    goes one step further at once.
    """

    def __init__(self, processes: Iterable[ProcessSpec], printer: Printer | None = None,
                 patience: float = STOP_PATIENCE, respawn_delay: float = RESPAWN_DELAY) -> None:
        self.processes = tuple(processes)
        self.patience = patience
        self.respawn_delay = respawn_delay
        self._printer = printer or Printer(sys.stdout)
        self._printer.width = max(len(name) for name in
                                  (OWN_NAME, *(process.name for process in self.processes)))
        self._colours = dict(zip((process.name for process in self.processes), get_colours(),
                                 strict=False))
        self._exit_code = 0

    def run(self) -> int:
        """Run until everything has ended; return the exit code.

        0: interrupted or finished, and every process ended cleanly. 2: a process refused its
        settings. 1: one had to be killed, ended with an error while stopping, or did not start.
        """
        return asyncio.run(self._run())

    async def _run(self) -> int:
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._interrupted, number)
        await asyncio.gather(*(self._keep(process) for process in self.processes))
        return self._exit_code

    def _interrupted(self, number: int) -> None:
        name = signal.Signals(number).name
        if not self._stopping.is_set():
            self._stop(f"{name}: stopping; nodes save what they have (once more = do not wait)")
        elif number != signal.SIGHUP:  # closing the terminal is no impatience
            self._say(f"{name} again: not waiting any longer")
            self._hurry.set()
            self._hurry = asyncio.Event()

    def _stop(self, reason: str, exit_code: int = 0) -> None:
        self._exit_code = max(self._exit_code, exit_code)
        if not self._stopping.is_set():
            self._stopping.set()
            self._say(reason)

    async def _keep(self, process: ProcessSpec) -> None:
        """Run one process, again and again, until it has ended for good."""
        while not self._stopping.is_set():
            code = await self._run_once(process)
            if code is None or self._stopping.is_set():
                return
            ending = _describe(code)
            if code == 0:
                self._say(f"{process.name} {ending}")
                if process.ends_all:
                    self._stop(f"{process.name} has finished the run: stopping the rest")
                return
            if code == REFUSED:
                self._stop(f"{process.name} refused its settings (its message is above):"
                           " stopping", REFUSED)
                return
            if not process.respawn:
                self._say(f"{process.name} {ending}; the graph goes on without it")
                return
            self._say(f"{process.name} {ending}; starting it again in {self.respawn_delay:g} s")
            await _first(self._stopping.wait(), timeout=self.respawn_delay)

    async def _run_once(self, process: ProcessSpec) -> int | None:
        """Start a process, wait for its end or end it; return its exit code, None = no start."""
        # A pipe of our own: its end of file must not decide when the process counts as ended,
        # for a worker that a killed node left behind may hold it open.
        reading, writing = os.pipe()
        try:
            child = await asyncio.create_subprocess_exec(
                *process.command, stdin=asyncio.subprocess.DEVNULL, stdout=writing,
                stderr=writing, start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **process.environment})
        except OSError as error:
            os.close(reading)
            self._stop(f"{process.name} did not start: {error}", 1)
            return None
        finally:
            os.close(writing)
        self._say(f"{process.name} started (pid {child.pid})")
        output = asyncio.create_task(self._relay(process.name, reading))
        ended = asyncio.create_task(child.wait())
        await _first(ended, self._stopping.wait())
        if not ended.done():
            await self._end(process.name, child, ended)
        code = await ended
        _signal_group(child.pid, signal.SIGKILL)  # workers that it left behind
        await _first(output, timeout=1.0)
        output.cancel()
        if self._stopping.is_set() and code not in CLEAN_EXITS:
            self._say(f"{process.name} {_describe(code)}")
            self._exit_code = max(self._exit_code, 1)
        return code

    async def _end(self, name: str, child: asyncio.subprocess.Process,
                   ended: asyncio.Task[int]) -> None:
        """Ask a process to end: SIGINT, SIGTERM, SIGKILL, with time to comply in between."""
        for number, patience in ((signal.SIGINT, self.patience), (signal.SIGTERM, TERM_PATIENCE)):
            _signal_process(child.pid, number)
            await _first(ended, self._hurry.wait(), timeout=patience)
            if ended.done():
                return
            self._say(f"{name} still runs after {number.name} (pid {child.pid})")
        _signal_group(child.pid, signal.SIGKILL)

    async def _relay(self, name: str, descriptor: int) -> None:
        """Print what a process writes, line by line, until its end of the pipe is closed."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        with os.fdopen(descriptor, "rb", buffering=0) as pipe:
            transport, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), pipe)
            rest = b""
            while chunk := await reader.read(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._print(name, line, self._colours[name])
            if rest:
                self._print(name, rest, self._colours[name])
            transport.close()

    def _say(self, text: str) -> None:
        self._print(OWN_NAME, text.encode(), None)

    def _print(self, name: str, line: bytes, colour: str | None) -> None:
        try:
            self._printer.write(Message("line", line or b" ", datetime.now(), name, colour))
        except OSError:
            # Whoever read our output is gone: end the graph rather than run unseen.
            self._exit_code = 1
            self._stopping.set()


async def _first(*things: asyncio.Task[Any] | Coroutine[Any, Any, Any],
                 timeout: float | None = None) -> None:
    """Wait until one of the things is done or time is up; coroutines are cancelled then."""
    own = [asyncio.ensure_future(thing) for thing in things if not isinstance(thing, asyncio.Task)]
    given = [thing for thing in things if isinstance(thing, asyncio.Task)]
    await asyncio.wait([*own, *given], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    for task in own:
        task.cancel()


def _describe(code: int) -> str:
    if code == 0:
        return "ended"
    if code < 0:
        return f"died from {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _signal_process(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it ended by itself in this instant


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass  # nobody is left in it
