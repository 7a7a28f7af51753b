"""What a bench has measured: read from the folders of its cells, written as ``results.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from poco_ros.bench.cell_folder import BenchFolder, Outcome, State
from poco_ros.bench.cells import CellRecord
from poco_ros.bench.statistics import Curve, Point
from poco_ros.core.tables import write_rows
from poco_ros.run_folder import CLONED, EVALUATION_SEED, FINETUNED

COLUMNS = ("task", "algorithm", "variant", "seed", "state", "policy", "step", "environment_steps",
           "updates", "minutes", "successes", "episodes", "success_rate", "hash",
           "git_revision", "cells_at_once", "folder")


@dataclass(frozen=True)
class CellResult:
    """A cell and what is known of it."""

    record: CellRecord
    outcome: Outcome
    revisions: tuple[str, ...]
    """Revisions of the code that it ran under; more than one when it went on under another."""
    cells_at_once: tuple[str, ...]
    """How many cells could run at a time while it did."""
    folder: Path
    evaluations: tuple[Mapping[str, str], ...]
    """Rows of evaluations.csv, by steps."""

    @property
    def curve(self) -> Curve:
        """The evaluations, at their steps."""
        return tuple(Point(step_of(row, self.record), float(row["minutes"]),
                           int(row["successes"]), int(row["episodes"]))
                     for row in self.evaluations)

    @property
    def measured(self) -> bool:
        """Whether it is finished and has been evaluated."""
        return self.outcome.state is State.FINISHED and bool(self.evaluations)

    @property
    def revision(self) -> str:
        """The revisions as one text."""
        return " then ".join(self.revisions)


@dataclass(frozen=True)
class Group:
    """The runs of one task, algorithm and variant that are finished: a curve of a figure."""

    task: str
    label: str
    records: tuple[CellRecord, ...]
    """All that were asked for, seeds that are not finished included."""
    curves: tuple[Curve, ...]
    """Of those that are finished, and have been evaluated."""
    cells_at_once: tuple[str, ...]
    """How many cells could run at a time while these did: their minutes depend on that."""

    @property
    def first(self) -> CellRecord:
        """One of the records; they differ in seed and hash alone."""
        return self.records[0]


@dataclass(frozen=True)
class BenchResults:
    """Everything that a bench has measured so far."""

    title: str
    cells: tuple[CellResult, ...]
    others: tuple[Path, ...]
    """Cells of other configurations that are kept in the folder and belong to no table."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks in the order of the matrix."""
        return tuple(dict.fromkeys(cell.record.task for cell in self.cells))

    def groups(self, task: str) -> list[Group]:
        """Return the groups of a task in the order of the matrix."""
        found: dict[str, list[CellResult]] = {}
        for cell in self.cells:
            if cell.record.task == task:
                found.setdefault(cell.record.label, []).append(cell)
        return [Group(task, label, tuple(cell.record for cell in cells),
                      tuple(cell.curve for cell in cells if cell.measured),
                      tuple(sorted({one for cell in cells if cell.measured
                                    for one in cell.cells_at_once})))
                for label, cells in found.items()]

    @property
    def done(self) -> bool:
        """Whether every cell is finished."""
        return all(cell.outcome.state is State.FINISHED for cell in self.cells)


def step_of(row: Mapping[str, str], record: CellRecord) -> int:
    """Return the step that an evaluation is for, so that the runs of different seeds line up.

    Episodes end a little beyond a multiple of eval_every, by another number of steps each time.
    """
    if row["policy"] == CLONED:
        return 0
    if row["policy"] == FINETUNED:
        return record.online_steps
    return int(row["environment_steps"]) // record.eval_every * record.eval_every


def read_results(folder: BenchFolder) -> BenchResults:
    """Return what the cells of the last matrix have measured so far.

    Raises:
        DataError: no bench has run in the folder.
    """
    title, records = folder.read_index()
    return BenchResults(title, tuple(_read(folder, record) for record in records),
                        tuple(folder.others(records)))


def _read(folder: BenchFolder, record: CellRecord) -> CellResult:
    cell = folder.cell(record)
    together = dict.fromkeys(row["cells_at_once"] for row in cell.sittings())
    return CellResult(record, cell.outcome(), cell.revisions(), tuple(together), cell.path,
                      tuple(row for row in cell.run.read_evaluations() if _counts(row, record)))


def _counts(row: Mapping[str, str], record: CellRecord) -> bool:
    """Return whether an evaluation is of the episodes that all cells have, not one by hand."""
    return row["seed"] == str(EVALUATION_SEED) and (
        not record.eval_episodes or row["episodes"] == str(record.eval_episodes))


def write_results(results: BenchResults, path: Path) -> None:
    """Write ``results.csv``: a row an evaluation, and one for a cell that has none."""
    write_rows(path, COLUMNS, (row for cell in results.cells for row in _rows(cell, path.parent)))


def _rows(cell: CellResult, base: Path) -> Sequence[dict[str, object]]:
    record = cell.record
    common = {"task": record.task, "algorithm": record.algorithm, "variant": record.variant,
              "seed": record.seed, "state": cell.outcome.state.value, "hash": record.hash,
              "git_revision": cell.revision, "cells_at_once": " then ".join(cell.cells_at_once),
              "folder": cell.folder.relative_to(base)}
    copied = ("policy", "environment_steps", "updates", "minutes", "successes", "episodes",
              "success_rate")
    if not cell.evaluations:
        return [common]
    return [{**common, "step": step_of(row, record), **{name: row[name] for name in copied}}
            for row in cell.evaluations]
