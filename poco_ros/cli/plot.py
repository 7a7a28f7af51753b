"""``poco plot``: learning curves of one or more runs, over steps and over minutes."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

from poco_ros.core.errors import DataError
from poco_ros.core.files import replacing
from poco_ros.core.tables import read_rows
from poco_ros.run_folder import EVALUATION_SEED, RunFolder

FEWEST_EPISODES = 20
"""An average over fewer episodes than this is not drawn."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "plot", help="draw learning curves",
        description="Draw success over environment steps and over minutes, from the tables"
        " evaluations.csv (points with standard error) and metrics.csv (running average) of runs.")
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--out", type=Path, default=None,
                        help="picture to write (default: curve.png in the first run)")
    parser.add_argument("--title", default="", help="title of the picture")


def run(args: argparse.Namespace) -> int:
    """Draw and say where."""
    out = args.out or args.runs[0] / "curve.png"
    draw_curves([RunFolder(path) for path in args.runs], out, args.title)
    print(f"wrote {out}")
    return 0


def drawn(draw: Callable[[], Path]) -> str:
    """Return the path of what ``draw`` drew, or why there is none: that costs no result."""
    try:
        return str(draw())
    except (OSError, DataError) as error:
        return f"none ({error})"


def draw_curves(folders: list[RunFolder], out: Path, title: str = "") -> Path:
    """Draw the success curves of ``folders`` into the picture ``out``; return its path.

    Raises:
        DataError: a folder holds neither evaluations nor metrics.
        OSError: the disk is full or not writable; a picture that was there stays.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True, constrained_layout=True)
    for number, folder in enumerate(folders):
        evaluations: dict[tuple[str, str], list[dict[str, str]]] = {}
        for row in folder.read_evaluations():
            evaluations.setdefault((row["episodes"], row["seed"]), []).append(row)
        metrics = [row for row in read_rows(folder.metrics)
                   if row["success_rate"] and int(row["episodes"]) >= FEWEST_EPISODES]
        if not evaluations and not metrics:
            raise DataError(f"{folder.path}: neither evaluations.csv nor metrics.csv has rows;"
                            " run poco train or poco eval first")
        colour = f"C{number}"
        whose = f"{folder.path.name}: " if len(folders) > 1 else ""
        for panel, column, unit in zip(panels, ("environment_steps", "minutes"),
                                       ("environment steps", "minutes"), strict=True):
            if metrics:
                panel.plot([float(r[column]) for r in metrics],
                           [100 * float(r["success_rate"]) for r in metrics],
                           color=colour, alpha=0.35, linewidth=1.2,
                           label=f"{whose}while learning, last 50 episodes")
            for ((episodes, seed), rows), marker in zip(evaluations.items(),
                                                        itertools.cycle("osD^v")):
                rates = [float(r["success_rate"]) for r in rows]
                errors = [100 * (p * (1 - p) / int(episodes)) ** 0.5 for p in rates]
                other = "" if seed == str(EVALUATION_SEED) else f", seed {seed}"
                panel.errorbar([float(r[column]) for r in rows], [100 * p for p in rates],
                               yerr=errors, color=colour, marker=marker, capsize=3,
                               label=f"{whose}evaluation, {episodes} episodes{other}")
            panel.set_xlabel(unit)
            panel.grid(alpha=0.3)
            panel.set_xlim(left=0)
    panels[0].set_ylabel("success [%]")
    panels[0].set_ylim(0, 102)
    panels[1].legend(loc="lower right", fontsize=8)
    if title:
        figure.suptitle(title)
    with replacing(out) as temporary:
        figure.savefig(temporary, dpi=130, format=out.suffix[1:] or "png")
    plt.close(figure)
    return out
