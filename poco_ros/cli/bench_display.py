"""What a person sees while a bench runs: bars on a terminal, plain lines in a log.

How far a cell is stands in its folder; nothing else is asked of its process.
"""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from poco_ros.bench.cell_folder import CellFolder, Outcome, State
from poco_ros.bench.cells import CellRecord

LOOK_EVERY = 1.0
"""Pause between two looks at the running cells [s]."""
LINES_EVERY = 60.0
"""Seconds between lines where the output is no terminal."""
TAIL = 4096
"""Bytes at the end of a table in which its last row is looked for."""


def last_row(path: Path) -> dict[str, str]:
    """Return the last whole row of a CSV table that may be growing; {} while there is none."""
    try:
        with open(path, "rb") as stream:
            head = stream.readline()
            stream.seek(max(len(head), stream.seek(0, 2) - TAIL))
            lines = stream.read().split(b"\n")
    except OSError:
        return {}
    whole = [line for line in lines[:-1] if line.strip()]
    if not whole:
        return {}
    names, values = (next(csv.reader([line.decode(errors="replace")])) for line in
                     (head, whole[-1]))
    return dict(zip(names, values, strict=True)) if len(names) == len(values) else {}


def standing(record: CellRecord, folder: CellFolder) -> tuple[float, str]:
    """Return how far a cell is, 0 to 1, and in words."""
    row = last_row(folder.run.metrics)
    if not row:
        return 0.0, "demonstrations"
    total = max(record.offline_steps + record.online_steps, 1)
    steps = min(int(row["environment_steps"]), record.online_steps)
    done = min(int(row["updates"]), record.offline_steps) + steps
    words = f"{row['stage']}, {steps:,} of {record.online_steps:,} steps"
    if row["stage"] == "finished":
        return 1.0, f"evaluating, {len(folder.run.read_evaluations())} done"
    if row["success_rate"]:
        words += f", success {100 * float(row['success_rate']):.0f}%"
    return done / total, words


class BenchDisplay:
    """Is told by the engine what begins and ends, and looks at what runs; a context manager."""

    def __init__(self, console: Console, total: int, finished: int,
                 measured: Callable[[], object]) -> None:
        """Show ``total`` cells of which some are finished; ``measured`` is called after each."""
        self.console, self._total, self._finished = console, total, finished
        self._measured = measured
        self._lock = threading.Lock()
        self._running: dict[str, tuple[CellRecord, CellFolder, float]] = {}
        self._bars: dict[str, TaskID] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="display", daemon=True)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[words]}"), console=console,
            disable=not console.is_terminal)

    def __enter__(self) -> BenchDisplay:
        self._progress.start()
        self._all = self._progress.add_task("all cells", total=self._total, words=self._count(),
                                            completed=self._finished)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        for bar in self._bars.values():
            self._progress.remove_task(bar)
        self._progress.stop()

    def began(self, record: CellRecord, folder: CellFolder) -> None:
        """Show that a cell runs."""
        with self._lock:
            self._running[record.name] = (record, folder, time.monotonic())
            if self.console.is_terminal:
                self._bars[record.name] = self._progress.add_task(record.name, total=1.0, words="")
            else:
                self.console.print(f"begun:    {record.name}")

    def ended(self, record: CellRecord, outcome: Outcome) -> None:
        """Show how a cell ended."""
        with self._lock:
            _, folder, began = self._running.pop(record.name, (None, None, time.monotonic()))
            bar = self._bars.pop(record.name, None)
            if bar is not None:
                self._progress.remove_task(bar)
            self._finished += outcome.state is State.FINISHED
            if folder is None and outcome.state is State.UNFINISHED:
                return  # never begun
            words = f"after {(time.monotonic() - began) / 60:.1f} min"
            if outcome.state is State.UNFINISHED:
                self.console.print(f"saved:    {record.name} {words}")
            elif outcome.state is State.FINISHED:
                self.console.print(f"finished: {record.name} {words}; {self._count()}")
            else:
                self.console.print(f"{outcome.state.value}: {record.name}: {outcome.message}")
                for line in outcome.log[-5:]:
                    self.console.print(f"    {line}", markup=False)
            try:
                self._measured()
            except OSError as error:  # a full disk; the cells have entries of their own
                self.console.print(f"tables are not up to date: {error}", markup=False)

    def stopping(self, hurry: bool) -> None:
        """Show that no more cells are begun."""
        self.console.print("not waiting any longer: what is not saved is run again" if hurry else
                           "stopping: the running cells save (once more = do not wait)")

    def _count(self) -> str:
        return f"{self._finished} of {self._total} finished"

    def _watch(self) -> None:
        line_at = time.monotonic()
        while not self._over.wait(LOOK_EVERY):
            with self._lock:
                running = list(self._running.values())
            found = [(record.name, *standing(record, folder)) for record, folder, _ in running]
            with self._lock:
                for name, share, words in found:
                    if name in self._bars:
                        self._progress.update(self._bars[name], completed=share, words=words)
                self._progress.update(
                    self._all, completed=self._finished + sum(share for _, share, _ in found),
                    words=self._count())
            if not self.console.is_terminal and time.monotonic() - line_at >= LINES_EVERY:
                line_at = time.monotonic()
                for name, share, words in found:
                    self.console.print(f"running:  {name} {100 * share:.0f}%, {words}")
