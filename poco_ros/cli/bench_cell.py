"""The process of one cell of ``poco bench``: `poco train` in a folder that notes how it ended.

Started as ``python -m poco_ros.cli.bench_cell FOLDER``. It holds its folder for itself: one that a
killed bench left behind saves and goes, and the next one waits for that.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from poco_ros.bench.cell_folder import CellFolder, Outcome, State
from poco_ros.bench.engine import CellCommand
from poco_ros.cli.main import INTERRUPTED, USER_ERROR, build_parser, main
from poco_ros.core.errors import PocoError
from poco_ros.data.shards import only_maker
from poco_ros.processes import settle

DIVERGED = 3
"""Exit code of a cell whose learning has made numbers that are not finite."""


def command_of(cell: CellCommand) -> tuple[str, ...]:
    """Return the command line that runs a cell with this Python."""
    return (sys.executable, "-m", __name__, str(cell.folder), "--cells-at-once",
            str(cell.cells_at_once), "--gpu", cell.gpu)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run or go on with the cell of a folder; return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {__name__}")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells-at-once", type=int, default=1)
    parser.add_argument("--gpu", default="")
    args = parser.parse_args(arguments)
    # A bench that a script runs in the background has Ctrl-C ignored, and hands that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        settle()
        folder = CellFolder(args.folder)
        with only_maker(folder.path):
            if folder.outcome().state.final:
                return 0  # by one that was left behind and had just ended
            folder.begin_sitting(args.cells_at_once, args.gpu)
            print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {folder.path}", flush=True)
            return _train(folder)
    except PocoError as error:
        print(f"poco bench: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED


def _train(folder: CellFolder) -> int:
    from poco_ros.cli import train
    from poco_ros.learning.trainer import DivergedError  # torch: after the folder is ours

    words = ["train", "--preset", str(folder.preset), "--seed", str(folder.record().seed),
             "--run-dir", str(folder.path), "--workers", "1"]
    if folder.check_run():
        words.append("--resume")
    try:
        code = train.run(build_parser("train").parse_args(words))
    except DivergedError as error:
        # Closing the run raises once more when its weights cannot be saved; the first says why.
        first = error.__context__ if isinstance(error.__context__, DivergedError) else error
        print(f"poco bench: diverged: {first}", file=sys.stderr, flush=True)
        if any(folder.run.policies.glob("*.safetensors")):  # how good it was until then
            if main(["eval", str(folder.path), "--workers", "1"]) == INTERRUPTED:
                return INTERRUPTED
        folder.end(Outcome(State.DIVERGED, str(first)))
        return DIVERGED
    if code == 0:
        folder.end(Outcome(State.FINISHED))
    return code


if __name__ == "__main__":
    sys.exit(run())
