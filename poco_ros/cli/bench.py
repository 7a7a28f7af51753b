"""``poco bench``: a matrix of algorithms, tasks and seeds, run resumably, tabled and drawn."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from poco_ros.cli.main import INTERRUPTED
from poco_ros.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from poco_ros.bench.cell_folder import BenchFolder
    from poco_ros.bench.cells import Cell

OUT = Path("runs/bench")
INCOMPLETE = 1


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "bench", help="compare algorithms: run a matrix, write its table, draw its figures",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Run a matrix of algorithms x tasks x budgets x seeds, and variants such as ablations, from a YAML
file: each cell is a `poco train` of its own, evaluated, in a folder named after what it is and a
hash of its whole configuration. Ctrl-C saves; the same command goes on: finished cells are not
repeated, unfinished ones resume bit for bit, another configuration gets another folder.

Written into --out: results.csv (a row an evaluation), table.md (success with 95% intervals by
steps and by minutes, time to 90%, worst drop below the cloned policy), and the figures.

exit code: 0 all is done, 1 a cell diverged or failed (its entry says why), 2 the matrix or an
argument is wrong (nothing has run), 130 interrupted""",
        epilog="""\
examples:
  poco bench small --dry-run              what would run, and what is there already
  poco bench small                        run it; stopped for whatever reason, the same again
  poco bench small --only qc,fql scene    two algorithms on one task, nothing else
  poco bench paper --gpus 0,1 --jobs 4    two cells at a time on each of two graphics cards
  poco bench ablation_zeta --reuse runs/bench/small    its unchanged runs are there already
  poco bench --report runs/bench/small    tables and figures anew, nothing is run

docs/bench.md tells how to write a matrix and how to read the table.""")
    parser.add_argument("matrix", nargs="?", default="", help="a matrix by path, or by the name of"
                        " one in config/bench: smoke, small, small_others,"
                        " robomimic, paper, ablation_zeta, ablation_beta, ablation_eta,"
                        " ablation_candidates, ablation_savers")
    parser.add_argument("--out", type=Path, default=None,
                        help=f"folder of the bench [default: {OUT}/<name of the matrix>]")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="cells at a time"
                        " [default: one a processor, or one a graphics card with --gpus]")
    parser.add_argument("--gpus", default="", metavar="0,1,..", help="train on these graphics"
                        " cards, cells taking them in turn [default: the presets' device]")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="run only cells"
                        " whose task, algorithm, variant or seed (seed0) is WORD; of several all"
                        " must fit; a,b = a or b; * and ? stand for anything")
    parser.add_argument("--reuse", type=Path, nargs="+", default=[], metavar="DIR", help="take"
                        " what other benches have finished of the same configuration and seed"
                        " over from their folders, instead of running it again")
    parser.add_argument("--dry-run", action="store_true", help="list the cells and where they"
                        " stand; nothing is run")
    parser.add_argument("--report", type=Path, default=None, metavar="DIR",
                        help="write tables and figures anew from what is in DIR; nothing is run")


def run(args: argparse.Namespace) -> int:
    """Run, list or report."""
    from rich.console import Console

    from poco_ros.bench.cell_folder import BenchFolder
    from poco_ros.bench.cells import choose, expand
    from poco_ros.bench.matrix import load_matrix
    from poco_ros.bench.reuse import done_elsewhere, take_over

    console = Console(highlight=False, soft_wrap=True)
    if args.report is not None:
        if args.matrix:
            raise ConfigError(f"--report {args.report} redraws what is there; leave the matrix"
                              f" {args.matrix} out, or --report")
        return _report(BenchFolder(args.report), console)
    if not args.matrix:
        raise ConfigError("name a matrix, such as small, or a folder with --report;"
                          " poco bench --help shows examples")
    gpus = [word.strip() for word in args.gpus.split(",") if word.strip()]
    if gpus:
        from poco_ros.learning.gpus import check_gpus
        check_gpus(gpus)
    jobs = args.jobs or len(gpus) or len(os.sched_getaffinity(0))
    if jobs < 1:
        raise ConfigError(f"--jobs {args.jobs}: at least one cell at a time")
    matrix = load_matrix(args.matrix)
    cells = expand(matrix, "cuda" if gpus else "")
    chosen = choose(cells, args.only)
    if not gpus and any(cell.preset.train.device != "cpu" for cell in chosen):
        from poco_ros.learning.gpus import check_device
        for cell in chosen:
            try:
                check_device(cell.preset.train)
            except ConfigError as error:
                raise ConfigError(f"{cell.record.name}: {error}") from error
    folder = BenchFolder(args.out or OUT / Path(args.matrix).stem)
    done = done_elsewhere(args.reuse)
    if args.dry_run:
        return _list(folder, chosen, {hashed: bench for hashed, (bench, _) in done.items()}, jobs,
                     gpus, console)
    with folder.alone():
        from poco_ros.core.config import to_yaml

        folder.write_index(matrix.title, to_yaml(matrix), [cell.record for cell in cells])
        taken = take_over(folder, chosen, done)
        if taken:
            console.print(f"taken over: {', '.join(cell.record.name for cell in taken)}")
        return _run(folder, chosen, jobs, gpus, console)


def _run(folder: BenchFolder, cells: list[Cell], jobs: int, gpus: list[str],
         console: Console) -> int:
    """Run what is not done, and report."""
    from poco_ros.bench.cell_folder import State
    from poco_ros.bench.engine import Engine
    from poco_ros.bench.report import write_tables
    from poco_ros.cli.bench_cell import command_of
    from poco_ros.cli.bench_display import BenchDisplay

    states = {cell.record.name: folder.cell(cell.record).outcome().state for cell in cells}
    todo = [cell for cell in cells if not states[cell.record.name].final]
    finished = sum(state is State.FINISHED for state in states.values())
    console.print(f"poco bench: {len(cells)} cells, {len(cells) - len(todo)} done before;"
                  f" everything is kept in {folder.path}")
    interrupted = False
    if todo:
        with BenchDisplay(console, len(cells), finished,
                          lambda: write_tables(folder)) as display:
            engine = Engine(folder, command_of, display, min(jobs, len(todo)), gpus)
            outcomes = engine.run(todo)
            interrupted = engine.interrupted
        states |= {name: outcome.state for name, outcome in outcomes.items()}
    _report(folder, console)
    counted = Counter(states.values())
    console.print(", ".join(f"{counted[state]} {state.value}" for state in State
                            if counted[state]))
    if all(state is State.FINISHED for state in states.values()):
        return 0
    if interrupted:
        console.print("interrupted: the same command goes on where it stopped")
        return INTERRUPTED
    return INCOMPLETE


def _report(folder: BenchFolder, console: Console) -> int:
    """Write tables and figures; say where."""
    from poco_ros.bench.report import write_report

    for path in write_report(folder):
        console.print(f"wrote {path}")
    return 0


def _list(folder: BenchFolder, cells: list[Cell], done: dict[str, Path], jobs: int,
          gpus: list[str], console: Console) -> int:
    """Say what would be run."""
    from poco_ros.bench.cell_folder import State
    from poco_ros.bench.cells import with_data_below
    from poco_ros.bench.table import short

    states: Counter[str] = Counter()
    data: dict[str, None] = {}
    for cell in cells:
        record, place = cell.record, folder.cell(cell.record)
        state = place.outcome().state
        states[state.value] += 1
        revisions = " then ".join(place.revisions())
        data[str(with_data_below(cell.preset, folder.data).demonstrations.path)] = None
        console.print(f"{state.value:<10} {record.name}  {record.hash}  {record.offline_steps:,} +"
                      f" {record.online_steps:,} steps"
                      + (f"  revision {short(revisions)}" if revisions else "")
                      + (f"  to be taken over from {done[record.hash]}"
                         if state is State.NEW and record.hash in done else ""))
    console.print(f"{len(cells)} cells in {folder.path}: "
                  + ", ".join(f"{count} {state}" for state, count in states.items())
                  + f"; {min(jobs, len(cells))} at a time"
                  + (f" on graphics cards {', '.join(gpus)} in turn" if gpus else ""))
    console.print(f"demonstrations: {', '.join(data)}")
    return 0
