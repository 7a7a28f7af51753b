"""Tables and figures of a bench, drawn anew from what lies in its folder."""

from __future__ import annotations

from pathlib import Path

from poco_ros.bench.cell_folder import BenchFolder
from poco_ros.bench.results import BenchResults, read_results, write_results
from poco_ros.bench.table import table_text
from poco_ros.core.files import write_atomic


def write_tables(folder: BenchFolder) -> BenchResults:
    """Write ``results.csv`` and ``table.md``; return what they say.

    Raises:
        DataError: no bench has run in the folder.
    """
    results = read_results(folder)
    write_results(results, folder.path / "results.csv")
    write_atomic(folder.path / "table.md", table_text(results))
    return results


def write_report(folder: BenchFolder) -> list[Path]:
    """Write the tables and draw the figures; return all paths.

    Raises:
        DataError: no bench has run in the folder.
    """
    from poco_ros.bench.anchors import load_anchors
    from poco_ros.bench.figures import draw_all  # matplotlib takes a second

    results = write_tables(folder)
    figures = draw_all(results, load_anchors(), folder.path)
    return [folder.path / "results.csv", folder.path / "table.md", *figures]
