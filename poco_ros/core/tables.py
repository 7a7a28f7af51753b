"""Small CSV tables of a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from poco_ros.core.files import write_atomic


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table, [] when it is absent; a torn last line is left out."""
    if not path.exists():
        return []
    with open(path, newline="") as stream:
        return [row for row in csv.DictReader(stream) if None not in row.values()]


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Replace a table, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())
