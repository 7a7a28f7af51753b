"""What a person sees while a bench runs, on a terminal and in a log."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from bench_support import begin, matrix_of
from rich.console import Console

from poco_ros.bench.cell_folder import CellFolder, Outcome, State
from poco_ros.bench.cells import CellRecord
from poco_ros.cli.bench_display import BenchDisplay, last_row, standing
from poco_ros.core.tables import write_rows

COLUMNS = ("stage", "updates", "environment_steps", "success_rate")


@pytest.fixture
def cell(tmp_path: Path) -> tuple[CellRecord, CellFolder]:
    """A cell of 30 offline updates and 150 online steps that has not begun."""
    bench, cells = begin(tmp_path, matrix_of(overrides={"train": {
        "offline_steps": 30, "online_steps": 150}}))
    (one,) = cells.values()
    folder = bench.cell(one.record)
    folder.prepare(one, bench.data)
    return one.record, folder


def at(folder: CellFolder, stage: str, updates: int, steps: int, rate: str = "") -> None:
    """Let the run's metrics say where it stands."""
    write_rows(folder.run.metrics, COLUMNS,
               [dict(zip(COLUMNS, (stage, updates, steps, rate), strict=True))])


def test_how_far_a_cell_is_stands_in_its_metrics(cell: tuple[CellRecord, CellFolder]) -> None:
    record, folder = cell
    assert standing(record, folder) == (0.0, "demonstrations")
    at(folder, "offline", 15, 0)
    assert standing(record, folder) == (15 / 180, "offline, 0 of 150 steps")
    at(folder, "online", 90, 60, "0.250")
    assert standing(record, folder) == (0.5, "online, 60 of 150 steps, success 25%")
    at(folder, "finished", 125, 171, "0.5")
    assert standing(record, folder) == (1.0, "evaluating, 0 done")


def test_the_last_row_of_a_table_that_grows_is_the_last_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    assert last_row(path) == {}
    path.write_text("a,b\r\n")
    assert last_row(path) == {}
    path.write_text("a,b\r\n" + "".join(f"{n},x{n}\r\n" for n in range(3000)) + "3000,")
    assert last_row(path) == {"a": "2999", "b": "x2999"}


def shown(cell: tuple[CellRecord, CellFolder], terminal: bool, outcome: Outcome) -> str:
    """Return what is printed while one of two cells runs and ends."""
    record, folder = cell
    at(folder, "online", 90, 60, "0.25")
    told, measured = io.StringIO(), []
    console = Console(file=told, force_terminal=terminal, width=150, highlight=False)
    with BenchDisplay(console, 2, 0, lambda: measured.append(1)) as display:
        display.began(record, folder)
        deadline = time.monotonic() + 20
        while terminal and "60 of 150 steps" not in told.getvalue():
            assert time.monotonic() < deadline, told.getvalue()
            time.sleep(0.02)
        display.ended(record, outcome)
    assert len(measured) == 1, "tables are brought up to date after each cell"
    return told.getvalue()


def test_a_terminal_has_bars_and_a_log_has_lines(cell: tuple[CellRecord, CellFolder]) -> None:
    finished = Outcome(State.FINISHED)
    bars = shown(cell, True, finished)
    assert "all cells" in bars and "50%" in bars and "success 25%" in bars
    lines = shown(cell, False, finished).splitlines()
    assert lines[0] == "begun:    cube/poco/base/seed0"
    assert lines[1].startswith("finished: cube/poco/base/seed0 after 0.0 min; 1 of 2 finished")
    assert len([line for line in lines if line.strip()]) == 2, "no bars between the lines"


def test_why_a_cell_failed_is_seen_at_once(cell: tuple[CellRecord, CellFolder]) -> None:
    said = shown(cell, False, Outcome(State.FAILED, "its process ended with exit code 1",
                                      tuple(f"line {n}" for n in range(9))))
    assert "failed: cube/poco/base/seed0: its process ended with exit code 1" in said
    assert "line 8" in said and "line 3" not in said, "the end of its log, in short"
