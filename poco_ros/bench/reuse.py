"""Cells of the same configuration that other benches have finished: taken over, not run again.

An ablation has the unchanged algorithm among its values, and that one is in the main comparison
too. Equal hashes are equal configurations, seeds and data, whatever matrix has asked for them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from poco_ros.bench.cell_folder import CELLS, BenchFolder, CellFolder, State
from poco_ros.bench.cells import Cell
from poco_ros.core.errors import ConfigError
from poco_ros.core.files import PREFIX


def done_elsewhere(folders: Iterable[Path]) -> dict[str, tuple[Path, CellFolder]]:
    """Return hash -> (bench, cell) of all that is done in these benches; the first bench counts.

    Raises:
        ConfigError: a folder is not that of a bench.
    """
    found: dict[str, tuple[Path, CellFolder]] = {}
    for path in folders:
        if not (path / CELLS).is_dir():
            raise ConfigError(f"--reuse {path}: holds no bench (no folder {CELLS}); name a folder"
                              " that poco bench MATRIX --out was given")
        for cell in BenchFolder(path).kept():
            if cell.outcome().state.final:
                found.setdefault(cell.record().hash, (path, cell))
    return found


def take_over(folder: BenchFolder, cells: Sequence[Cell],
              done: Mapping[str, tuple[Path, CellFolder]]) -> list[Cell]:
    """Copy into ``folder`` what others have done of ``cells``; return the cells that have come.

    Only where nothing has begun. A cell comes whole or, killed meanwhile, not at all.
    """
    taken = []
    for cell in cells:
        place, hashed = folder.cell(cell.record), cell.record.hash
        if hashed not in done or place.outcome().state is not State.NEW:
            continue
        bench, source = done[hashed]
        part = CellFolder(folder.path / f"{PREFIX}{hashed}")
        shutil.rmtree(part.path, ignore_errors=True)
        shutil.copytree(source.path, part.path)
        part.write_record(cell.record)
        part.note_origin(str(bench))
        shutil.rmtree(place.path, ignore_errors=True)  # prepared at most: it is new
        place.path.parent.mkdir(parents=True, exist_ok=True)
        part.path.rename(place.path)
        taken.append(cell)
    return taken
