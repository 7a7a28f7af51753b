"""Runs cells, several at a time, each in a process of its own, until all is done or stopped.

joblib hands the cells out; here stands what a cell's process needs on top of that: its environment
and graphics card, a session of its own that Ctrl-C reaches only through us, time to save, and the
entry of how it ended. The processes go on from what is on disk, so nothing of this has to survive.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from joblib import Parallel, delayed

from poco_ros.bench.cell_folder import BenchFolder, CellFolder, Outcome, State
from poco_ros.bench.cells import Cell, CellRecord
from poco_ros.core.errors import PocoError
from poco_ros.core.threads import VARIABLES
from poco_ros.processes import STOP_PATIENCE, kept_environment, stops_handled

LOOK_EVERY = 0.2
"""Pause between two looks at a process [s]."""


class Watcher(Protocol):
    """Who is told what happens; called from several threads."""

    def began(self, record: CellRecord, folder: CellFolder) -> None:
        """Note that the process of a cell was started."""

    def ended(self, record: CellRecord, outcome: Outcome) -> None:
        """Note that it has ended."""

    def stopping(self, hurry: bool) -> None:
        """Note that somebody wants to stop."""


def cell_environment(slot: int, gpus: Sequence[str]) -> dict[str, str]:
    """Return what is added to the environment of a cell that runs in place ``slot`` (from 0).

    One thread for whatever computes; of several graphics cards, one in turn.
    """
    added = {**dict.fromkeys(VARIABLES, "1"), **kept_environment()}
    if gpus:
        added["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return added


@dataclass(frozen=True)
class CellCommand:
    """What a cell's process is asked to do; turned into a command line by the caller."""

    folder: Path
    cells_at_once: int
    gpu: str


class Engine:
    """Runs cells; see the module. Call :meth:`run` from the main thread: it takes Ctrl-C."""

    def __init__(self, folder: BenchFolder, command: Callable[[CellCommand], Sequence[str]],
                 watcher: Watcher, jobs: int = 1, gpus: Sequence[str] = (),
                 patience: float = STOP_PATIENCE) -> None:
        """Run ``jobs`` cells at a time, on ``gpus`` in turn.

        ``command`` gives the command line of a cell's process; ``patience`` is how long one may
        take to save [s].
        """
        self.folder, self.jobs, self.gpus, self.patience = folder, jobs, tuple(gpus), patience
        self._command, self._watcher = command, watcher
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(jobs):
            self._slots.put(slot)
        self._asked = 0  # how often somebody wanted to stop
        self._stopping_at = 0.0

    @property
    def interrupted(self) -> bool:
        """Whether somebody wanted to stop."""
        return self._asked > 0

    def run(self, cells: Sequence[Cell]) -> dict[str, Outcome]:
        """Run the cells that are not done; return how each one ended, by name.

        The first Ctrl-C lets the running cells save and starts no more; the second does not wait.
        """
        outcomes: dict[str, Outcome] = {}
        with stops_handled(self._stop):
            ended = Parallel(n_jobs=self.jobs, backend="threading", batch_size=1,
                             pre_dispatch="n_jobs", return_as="generator_unordered")(
                delayed(self._run)(cell) for cell in self._until_stopped(cells))
            for name, outcome in ended:
                outcomes[name] = outcome
        return outcomes

    def _until_stopped(self, cells: Sequence[Cell]) -> Iterator[Cell]:
        for cell in cells:
            if self.interrupted:
                return
            yield cell

    def _stop(self, number: int, _: object) -> None:
        if number == signal.SIGHUP and self.interrupted:
            return  # closing the terminal is no impatience
        if not self._asked:  # first: whoever sees that it was asked looks how long ago
            self._stopping_at = time.monotonic()
        self._asked += 1
        # Not here: the handler may have broken into code that holds the display's lock.
        threading.Thread(target=self._watcher.stopping, args=(self._asked > 1,)).start()

    def _run(self, cell: Cell) -> tuple[str, Outcome]:
        """Run one cell, in a thread of its own; never raises for what the cell does."""
        folder = self.folder.cell(cell.record)
        slot = self._slots.get()
        try:
            outcome = Outcome(State.UNFINISHED)
            if not self.interrupted:
                outcome = self._run_process(cell, folder, slot)
        except (OSError, PocoError, ValueError) as error:  # a full disk, a foreign folder
            outcome = Outcome(State.FAILED, str(error))
        finally:
            self._slots.put(slot)
        self._watcher.ended(cell.record, outcome)
        return cell.record.name, outcome

    def _run_process(self, cell: Cell, folder: CellFolder, slot: int) -> Outcome:
        folder.prepare(cell, self.folder.data)
        added = cell_environment(slot, self.gpus)
        command = self._command(CellCommand(folder.path, self.jobs,
                                            added.get("CUDA_VISIBLE_DEVICES", "")))
        with open(folder.log, "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       env={**os.environ, **added}, start_new_session=True)
        try:
            self._watcher.began(cell.record, folder)
            code = self._wait(process)
        finally:
            _kill_group(process.pid)  # workers that it left behind, or itself if we raised
            process.wait()
        outcome = folder.outcome()
        if outcome.state.final or self.interrupted:
            return outcome
        outcome = Outcome(State.FAILED, _describe(code), folder.end_of_log())
        folder.end(outcome)
        return outcome

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the end of a process, or make one: SIGINT, and SIGKILL when it takes long."""
        told = False
        while True:
            try:
                return process.wait(LOOK_EVERY)
            except subprocess.TimeoutExpired:
                pass
            if self.interrupted and not told:
                process.send_signal(signal.SIGINT)
                told = True
            late = time.monotonic() - self._stopping_at > self.patience
            if self._asked > 1 or (self.interrupted and late):
                _kill_group(process.pid)


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nobody is left in it


def _describe(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"its process was killed by {name}" + (": out of memory?" if name == "SIGKILL" else "")
