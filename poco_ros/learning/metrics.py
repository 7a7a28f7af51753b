"""Metrics of a run: ``metrics.csv`` for people and plots, TensorBoard for looking on."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from poco_ros.core.files import naming
from poco_ros.core.tables import read_rows, write_rows

PROGRESS = ("minutes", "stage", "updates", "environment_steps", "episodes", "success_rate",
            "updates_per_second", "steps_per_second")
"""The first columns: where the run stood. ``success_rate`` is over recent episodes."""


class MetricsLog:
    """Averages the metrics of many updates into one row."""

    def __init__(self, folder: Path, updates: int, metrics: Sequence[str]) -> None:
        """Append to ``folder/metrics.csv``; rows of updates that a crash undid are removed.

        ``metrics`` names every metric that the agent may report: the columns after the first.
        """
        self.path = folder / "metrics.csv"
        self._sums: dict[str, float] = {}
        self._count = 0
        rows = [row for row in read_rows(self.path) if int(row["updates"]) <= updates]
        self.minutes_before = float(rows[-1]["minutes"]) if rows else 0.0
        columns = tuple(dict.fromkeys((*PROGRESS, *metrics, *(rows[0] if rows else ()))))
        write_rows(self.path, columns, rows)
        self._stream = open(self.path, "a", newline="")
        self._writer = csv.DictWriter(self._stream, columns)
        self._board: SummaryWriter | None = None
        self._show({}, updates)

    def add(self, metrics: Mapping[str, float]) -> None:
        """Take the metrics of one update."""
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def add_late(self, sums: Mapping[str, float]) -> None:
        """Take sums of metrics of updates that :meth:`add` has counted without them."""
        for name, total in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + total

    @property
    def count(self) -> int:
        """Updates since the last row."""
        return self._count

    def means(self) -> dict[str, float]:
        """Return the averages since the last row."""
        return {name: total / self._count for name, total in self._sums.items()}

    def write(self, progress: Mapping[str, object]) -> dict[str, float]:
        """Write a row with the averages since the last one; return them.

        Raises:
            OSError: the disk is full. The row is written when there is room, and not made again.
        """
        means = self.means()
        self._sums, self._count = {}, 0
        row = {**progress, **{name: f"{value:.6g}" for name, value in means.items()}}
        with naming(self.path):
            self._writer.writerow(row)
            self._stream.flush()
        shown = {f"run/{name}": float(str(progress[name])) for name in (
            "success_rate", "environment_steps", "updates_per_second")
            if progress.get(name) not in (None, "")}
        self._show({**means, **shown}, int(str(progress["updates"])))
        return means

    def add_evaluation(self, success_rate: float, environment_steps: int) -> None:
        """Show an evaluation on the board, over steps of the environment."""
        self._show({"evaluation/success_rate": success_rate}, environment_steps)

    def _show(self, scalars: Mapping[str, float], step: int) -> None:
        """Show on the board. One that met a full disk never writes again; another takes over."""
        try:
            if self._board is None:
                self._board = SummaryWriter(str(self.path.parent / "tensorboard"),
                                            purge_step=step)
            for name, value in scalars.items():
                self._board.add_scalar(name, value, step)
        except OSError:
            self._board = None

    def close(self) -> None:
        """Flush and close both files.

        Raises:
            OSError: the disk is full; the table lacks its last rows.
        """
        if self._board is not None:
            with suppress(OSError):
                self._board.close()
        with naming(self.path):
            self._stream.close()
