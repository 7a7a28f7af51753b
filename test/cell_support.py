"""A running cell for tests, and ways to wait for what it does."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poco_ros.cell.cell import Cell
from poco_ros.cell.config import CellConfig
from poco_ros.core.config import load, merge

QUICK = Path(__file__).resolve().parent.parent / "config/cell/quick.yaml"


def quick_config(folder: Path, **overrides: Any) -> CellConfig:
    """Return settings of a cell for tests in ``folder``; nobody presses keys unless asked."""
    operator = overrides.pop("operator", {})
    given = merge({"folder": str(folder), "operator": {"enabled": False, **operator}}, overrides)
    return load(CellConfig, QUICK, given)


@contextmanager
def running(config: CellConfig) -> Iterator[Cell]:
    """Run a cell on a thread of this process."""
    cell = Cell(config)
    thread = threading.Thread(target=cell.run, name="cell")
    thread.start()
    try:
        yield cell
    finally:
        cell.stop()
        thread.join()
        cell.close()


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 20.0) -> Any:
    """Return the condition's first true value; fail when none comes within ``timeout`` [s]."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"not within {timeout:g} s: {what}")


def ask(cell: Cell, path: str) -> Any:
    """Return the JSON answer to a request."""
    with urllib.request.urlopen(cell.web.address + path, timeout=10) as response:
        return json.loads(response.read())


def refusal(cell: Cell, path: str) -> tuple[int, str]:
    """Return status and message of a request that is refused."""
    try:
        answer = ask(cell, path)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]
    raise AssertionError(f"{path} was not refused: {answer}")
