"""What a person sees while a policy learns: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINE_EVERY = 15.0
"""Seconds between lines where the output is no terminal."""
STAGES = {"offline": "cloning the demonstrations", "warmup": "warming up the critic",
          "online": "learning while it works", "finished": "finished"}


@dataclass(frozen=True)
class Standing:
    """Where a run stands; made from a trainer, or from the topics of a graph."""

    stage: str
    updates: int
    offline_updates: int
    """Updates of the offline stage, all of them in the end."""
    environment_steps: int
    online_steps: int
    """Steps that the online stage is to make."""
    success_rate: float
    """Share of successes among recent episodes, nan before the first."""
    updates_per_second: float
    steps_per_second: float
    metrics: Mapping[str, float] = field(default_factory=dict)

    def words(self) -> str:
        """Return the figures that matter in this stage, short."""
        parts = []
        if not math.isnan(self.success_rate):
            parts.append(f"success {100 * self.success_rate:.0f}%")
        for name, label, form in (
                ("actor/clone_loss", "loss", ".2f"), ("critic/q", "Q", ".2f"),
                ("poco/effective_candidates", "candidates", ".1f"),
                ("poco/clip_fraction", "clipped", ".0%")):
            if name in self.metrics:
                parts.append(f"{label} {self.metrics[name]:{form}}")
        parts.append(f"{self.updates_per_second:.0f} updates/s")
        if self.stage != "offline":
            parts.append(f"{self.steps_per_second:.0f} steps/s")
        return "  ".join(parts)

    @property
    def done(self) -> tuple[int, int]:
        """(done, total) of the stage: updates offline, environment steps online."""
        if self.stage == "offline":
            return self.updates, self.offline_updates
        return min(self.environment_steps, self.online_steps), self.online_steps


class Display:
    """Shows a :class:`Standing` again and again; use it as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        self._line_at = 0.0
        self._stage_begun: tuple[str, float, int] = ("", 0.0, 0)
        self._last_stage = ""

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description:>26}"), BarColumn(bar_width=24),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f}"), TimeRemainingColumn(),
                TextColumn("{task.fields[words]}"), console=self.console)
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text)

    def show(self, standing: Standing) -> None:
        """Bring the display up to date; cheap enough for every update."""
        stage = "online" if standing.stage in ("warmup", "finished") else standing.stage
        done, total = standing.done
        if self._progress is not None:
            if stage not in self._bars:
                self._bars[stage] = self._progress.add_task(STAGES[stage], total=max(total, 1),
                                                            words="")
            self._progress.update(self._bars[stage], completed=done, words=standing.words(),
                                  description=STAGES[standing.stage])
            return
        now = time.monotonic()
        if standing.stage == self._last_stage and now - self._line_at < LINE_EVERY:
            return
        self._line_at, self._last_stage = now, standing.stage
        if self._stage_begun[0] != stage:
            self._stage_begun = (stage, now, done)
        left = self._time_left(now, done, total)
        self.console.print(f"{STAGES[standing.stage]}: {done:,}/{total:,}{left}"
                           f"  {standing.words()}", soft_wrap=True)

    def _time_left(self, now: float, done: int, total: int) -> str:
        _, begun, done_then = self._stage_begun
        if done <= done_then or now <= begun:
            return ""
        seconds = (total - done) * (now - begun) / (done - done_then)
        return f"  {int(seconds // 60)}:{int(seconds % 60):02d} left"
