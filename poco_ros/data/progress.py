"""Progress on the terminal while data are made: how far, how fast, how long still."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Advance = Callable[[int, int], None]
"""Called with the episodes and the steps that were finished since the last call."""
LINES_EVERY = 10.0
"""Where there is no terminal: time between two lines [s]."""


class _Rate(TextColumn):
    """Environment steps a second since this run began."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time if task.finished else task.elapsed
        steps = task.fields["steps"]
        return Text(f"{steps / elapsed:5.0f} steps/s" if elapsed and steps else "")


@contextmanager
def progress_bar(description: str, total: int, done: int = 0,
                 shown: bool = True) -> Iterator[Advance]:
    """Show a bar of ``total`` episodes of which ``done`` are there; yield how to advance it.

    In a log, where nothing can be drawn anew, it is a line every now and then.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(),
               TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not shown) as progress:
        bar = progress.add_task(description, total=total, completed=done, steps=0)
        lines = shown and not progress.console.is_terminal
        line_at = time.monotonic()

        def advance(episodes: int, steps: int) -> None:
            nonlocal line_at
            before = progress.tasks[0].fields["steps"]
            progress.update(bar, advance=episodes, steps=before + steps)
            if lines and time.monotonic() - line_at >= LINES_EVERY:
                line_at = time.monotonic()
                print(f"{description}: {progress.tasks[0].completed:.0f}/{total}", flush=True)

        yield advance
