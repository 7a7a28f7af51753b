"""Benches on disk with results of our choosing, in the files that a real one writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from poco_ros.bench.cell_folder import BenchFolder, Outcome, State
from poco_ros.bench.cells import Cell, expand
from poco_ros.bench.matrix import Matrix
from poco_ros.core import config
from poco_ros.run_folder import CLONED, FINETUNED, snapshot_name

Row = tuple[int, float, int]
"""Steps of the environment, minutes, successes."""


def matrix_of(**words: object) -> Matrix:
    """Return a matrix of settings as YAML would give them; poco on cube-single by default."""
    common = {"seeds": [0], "tasks": {"cube": {"preset": "cpu_cube_single"}},
              "algorithms": {"poco": {}}}
    return config.from_dict(Matrix, {**common, **words}, "matrix")


def begin(folder: Path, matrix: Matrix) -> tuple[BenchFolder, dict[str, Cell]]:
    """Write the folder of a bench that has not measured anything; return it and its cells."""
    bench = BenchFolder(folder)
    cells = {cell.record.name: cell for cell in expand(matrix)}
    bench.write_index(matrix.title, config.to_yaml(matrix),
                      [cell.record for cell in cells.values()])
    return bench, cells


def measure(bench: BenchFolder, cell: Cell, rows: Sequence[Row], episodes: int = 100,
            state: State = State.FINISHED, message: str = "") -> None:
    """Let a cell have run, with these evaluations."""
    folder = bench.cell(cell.record)
    folder.prepare(cell, bench.data)
    folder.begin_sitting(1, "")
    last = rows[-1][0] if rows else 0
    for steps, minutes, successes in rows:
        name = CLONED if not steps else FINETUNED if steps == last else snapshot_name(steps)
        folder.run.add_evaluation({
            "policy": name, "environment_steps": steps, "updates": steps, "minutes": minutes,
            "successes": successes, "episodes": episodes,
            "success_rate": f"{successes / episodes:.4f}", "seed": 0})
    folder.end(Outcome(state, message))


def measure_all(bench: BenchFolder, cells: Mapping[str, Cell],
                curves: Mapping[str, Sequence[Row]], episodes: int = 100) -> None:
    """Let the named cells have run."""
    for name, rows in curves.items():
        measure(bench, cells[name], rows, episodes)
