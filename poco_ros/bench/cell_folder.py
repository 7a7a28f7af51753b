"""The folder of a cell: a run folder with what the bench knows of it.

::

    cell.json       what the cell is; its hash is in the folder's name too
    preset.yaml     the resolved configuration
    sittings.csv    a row for every time that its process was started: when, code, company
    outcome.json    how it ended, absent while it has not: finished, diverged or failed
    cell.log        what its process said, all sittings
    ...             and everything of a run, see :mod:`poco_ros.run_folder`
"""

from __future__ import annotations

import dataclasses
import enum
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from poco_ros.bench.cells import Cell, CellRecord, configuration_hash, with_data_below
from poco_ros.core import config
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.core.files import lock, write_atomic
from poco_ros.core.tables import read_rows, write_rows
from poco_ros.run_folder import RunFolder, git_revision

CELLS, DATA = "cells", "data"
"""Folders below that of the bench: the cells, and the demonstrations that they share."""
SITTING_COLUMNS = ("began", "git_revision", "cells_at_once", "gpu")
LOG_END = 20
"""Lines of a failed cell's log that are kept with its outcome."""


class State(str, enum.Enum):
    """Where a cell stands."""

    NEW = "new"
    UNFINISHED = "unfinished"
    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether the cell is never run again: a run that diverged would do so again, to the bit.

        One that failed is tried again at the next start: a full disk may have been emptied.
        """
        return self in (State.FINISHED, State.DIVERGED)


@dataclass(frozen=True)
class Outcome:
    """How a cell ended."""

    state: State
    message: str = ""
    log: tuple[str, ...] = ()
    """The end of the log of a cell that failed."""
    measured_in: str = ""
    """The bench that it was taken over from, as its folder was named; empty: this one."""


@dataclass(frozen=True)
class CellFolder:
    """Paths of a cell, and the small files in it."""

    path: Path

    @property
    def run(self) -> RunFolder:
        """The same folder as that of a run."""
        return RunFolder(self.path)

    @property
    def preset(self) -> Path:
        """The resolved configuration."""
        return self.path / "preset.yaml"

    @property
    def log(self) -> Path:
        """What the cell's process said."""
        return self.path / "cell.log"

    def prepare(self, cell: Cell, data: Path) -> None:
        """Write what the cell is; its demonstrations are to lie in ``data``.

        Raises:
            ConfigError: another configuration is in the folder, whatever its name says.
        """
        known = self.path / "cell.json"
        if known.exists() and self.record().hash != cell.record.hash:
            raise ConfigError(f"{known}: is of the configuration {self.record().hash}, not"
                              f" {cell.record.hash}; results are never mixed: move the folder"
                              " away")
        self.path.mkdir(parents=True, exist_ok=True)
        preset = with_data_below(cell.preset, data.resolve())
        write_atomic(self.preset, config.to_yaml(preset))
        self.write_record(cell.record)

    def write_record(self, record: CellRecord) -> None:
        """Write what the cell is."""
        write_atomic(self.path / "cell.json",
                     json.dumps(dataclasses.asdict(record), indent=1) + "\n")

    def record(self) -> CellRecord:
        """Return what the cell is."""
        return read_record(json.loads((self.path / "cell.json").read_text()), str(self.path))

    def begin_sitting(self, cells_at_once: int, gpu: str) -> None:
        """Note that the cell's process has begun, and forget how the last one failed."""
        rows: list[dict[str, str]] = [*self.sittings(), {
            "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "git_revision": git_revision(),
            "cells_at_once": str(cells_at_once), "gpu": gpu}]
        write_rows(self.path / "sittings.csv", SITTING_COLUMNS, rows)
        (self.path / "outcome.json").unlink(missing_ok=True)

    def sittings(self) -> list[dict[str, str]]:
        """Return a row for every start of the cell's process."""
        return read_rows(self.path / "sittings.csv")

    def revisions(self) -> tuple[str, ...]:
        """Return the revisions of the code that the cell has run under, oldest first."""
        return tuple(dict.fromkeys(row["git_revision"] for row in self.sittings()))

    def check_run(self) -> bool:
        """Return whether there is a run to go on with; see that it is this cell's.

        When the whole bench was moved to another place, the run is told where its data are now.

        Raises:
            ConfigError: the run in the folder is one of another configuration or seed.
        """
        if not self.run.config.exists():
            return False
        record, seed = self.record(), self.run.seed()
        found = configuration_hash(self.run.load_preset(), seed)
        if found != record.hash:
            raise ConfigError(f"{self.run.config}: is a run of the configuration {found}, not of"
                              f" {record.hash}; results are never mixed: move the folder away")
        write_atomic(self.run.config, self.preset.read_bytes())
        return True

    def end(self, outcome: Outcome) -> None:
        """Write how the cell ended."""
        words = {"state": outcome.state.value, "message": outcome.message, "log": outcome.log,
                 "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        write_atomic(self.path / "outcome.json", json.dumps(words, indent=1) + "\n")

    def note_origin(self, bench: str) -> None:
        """Write which bench the cell was taken over from, unless that one had taken it itself."""
        path = self.path / "outcome.json"
        words = {"measured_in": bench, **json.loads(path.read_text())}
        write_atomic(path, json.dumps(words, indent=1) + "\n")

    def outcome(self) -> Outcome:
        """Return how the cell ended, or that it has not."""
        path = self.path / "outcome.json"
        if path.exists():
            words = json.loads(path.read_text())
            return Outcome(State(words["state"]), words["message"], tuple(words["log"]),
                           words.get("measured_in", ""))
        begun = (self.path / "sittings.csv").exists()
        return Outcome(State.UNFINISHED if begun else State.NEW)

    def end_of_log(self) -> tuple[str, ...]:
        """Return the last lines of the log."""
        if not self.log.exists():
            return ()
        lines = self.log.read_text(errors="replace").splitlines()
        return tuple(line for line in lines if line.strip())[-LOG_END:]


@dataclass(frozen=True)
class BenchFolder:
    """The folder of a bench: its cells, their data, tables and figures."""

    path: Path

    @property
    def data(self) -> Path:
        """Demonstrations, shared by all cells that learn from the same ones."""
        return self.path / DATA

    @property
    def index(self) -> Path:
        """File that lists the cells of the matrix that was run last."""
        return self.path / "cells.json"

    def cell(self, record: CellRecord) -> CellFolder:
        """Return the folder of a cell."""
        return CellFolder(self.path / CELLS / record.folder)

    def write_index(self, title: str, matrix: str, records: list[CellRecord]) -> None:
        """Note which cells the matrix has, and the matrix itself as YAML text."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path / "matrix.yaml", matrix)
        words = {"title": title, "cells": [dataclasses.asdict(record) for record in records]}
        write_atomic(self.index, json.dumps(words, indent=1) + "\n")

    def read_index(self) -> tuple[str, list[CellRecord]]:
        """Return the title and the cells of the matrix that was run last.

        Raises:
            DataError: no bench has run here.
        """
        if not self.index.exists():
            raise DataError(f"{self.path}: holds no bench (no file {self.index.name}); name the"
                            " folder that poco bench MATRIX --out was given")
        words = json.loads(self.index.read_text())
        return words["title"], [read_record(one, str(self.index)) for one in words["cells"]]

    def others(self, records: list[CellRecord]) -> list[Path]:
        """Return the folders of cells that are kept here and are none of ``records``."""
        listed = {self.cell(record).path for record in records}
        return [cell.path for cell in self.kept() if cell.path not in listed]

    def kept(self) -> list[CellFolder]:
        """Return all cells that are kept here, of whatever matrix."""
        return [CellFolder(path.parent)
                for path in sorted((self.path / CELLS).glob("*/*/*/*/cell.json"))]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one bench at a time work in the folder.

        Raises:
            ConfigError: another one does.
        """
        held = lock(self.path)
        if held is None:
            raise ConfigError(f"{self.path}: another poco bench works there; wait for it, or"
                              " choose another --out")
        with held:
            yield


def read_record(words: dict[str, object], source: str) -> CellRecord:
    """Return a record from JSON values; ConfigError names what is not one."""
    return config.from_dict(CellRecord, words, source)
