"""``poco data``: make demonstrations, and look at what is there."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from poco_ros.cli.flags import add_flags, given
from poco_ros.core import config
from poco_ros.core.episode import Episode
from poco_ros.core.errors import DataError
from poco_ros.core.task import TaskConfig
from poco_ros.data.config import DemonstrationConfig, PlayConfig

FOLDER = Path("runs/data")
"""Where data go whose place is not named."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare ``poco data`` and its actions."""
    parser = subparsers.add_parser(
        "data", help="make demonstrations and look at them",
        description="Make demonstrations, on all cores and resumable: the same command goes on"
        " where it was interrupted, and does nothing when all is there.")
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)

    play = actions.add_parser(
        "ogbench", help="OGBench's play data, made again with its own oracles",
        description="Make play data in OGBench's format: an .npz for training and a -val.npz"
        " beside it, key for key like the official files.",
        epilog="example: poco data ogbench --domain scene --num-trajs 1000")
    add_flags(play, PlayConfig)
    _add_making(play, "the .npz file [default: runs/data/<domain>-play.npz]")
    play.set_defaults(do=make_play)

    directed = actions.add_parser(
        "directed", help="imperfect demonstrations of one task, failures kept",
        description="Let an oracle pursue one task, with noise on its plan; some attempts fail.",
        epilog="example: poco data directed --task cube-single --episodes 100 --noise 0.35")
    add_flags(directed.add_argument_group("task"), TaskConfig, "task",
              rename={"domain": "task", "number": "task_number"})
    add_flags(directed.add_argument_group("demonstrations"), DemonstrationConfig,
              "demonstrations", exclude=("kind", "path"))
    _add_making(directed, "the folder [default: runs/data/<task>-directed]")
    directed.set_defaults(do=make_directed)

    inspect = actions.add_parser(
        "inspect", help="figures of demonstrations or of a run's episodes",
        description="Tell what a set of episodes is like: counts, successes, lengths, ranges of"
        " the actions, and what looks odd.",
        epilog="example: poco data inspect runs/data/cube-single-directed")
    inspect.add_argument("path", type=Path, help="a folder of episodes, a run folder, or an .npz"
                         " in OGBench's format")
    add_flags(inspect.add_argument_group("task that an .npz is relabelled for"), TaskConfig,
              "task", rename={"domain": "task", "number": "task_number"})
    inspect.set_defaults(do=inspect_path)


def run(args: argparse.Namespace) -> int:
    """Do the action that was asked for."""
    action: Callable[[argparse.Namespace], int] = args.do
    return action(args)


def make_play(args: argparse.Namespace) -> int:
    """Make play data."""
    from poco_ros.data.play import generate_ogbench

    settings = config.from_dict(PlayConfig, given(args), "poco data ogbench")
    out = args.out or FOLDER / f"{settings.domain}-play.npz"
    out.parent.mkdir(parents=True, exist_ok=True)
    print(generate_ogbench(settings, out, args.workers))
    return 0


def make_directed(args: argparse.Namespace) -> int:
    """Make directed demonstrations and tell what they are like."""
    from poco_ros.data.demonstrations import load_demonstrations

    values = given(args)
    task = config.from_dict(TaskConfig, values.get("task", {}), "poco data directed")
    out = args.out or FOLDER / f"{task.name}-directed"
    settings = config.from_dict(
        DemonstrationConfig,
        {**values.get("demonstrations", {}), "kind": "directed", "path": out},
        "poco data directed")
    _tell(out, load_demonstrations(settings, task, args.workers))
    return 0


def inspect_path(args: argparse.Namespace) -> int:
    """Tell what the episodes at a path are like."""
    if args.path.suffix == ".npz":
        from poco_ros.data.demonstrations import load_demonstrations

        task = config.from_dict(TaskConfig, given(args).get("task", {}), "poco data inspect")
        _tell(args.path, load_demonstrations(args.path, task))
    else:
        _tell(args.path, read_episodes(args.path))
    return 0


def read_episodes(folder: Path) -> list[Episode]:
    """Return the episodes of a folder, or of a run folder; only read, a run may be writing it.

    Raises:
        DataError: there are none, or a file is broken.
    """
    paths = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("episodes/*.safetensors"))
    if not paths:
        raise DataError(f"{folder}: there are no episodes (*.safetensors), here or in episodes/")
    return [Episode.from_bytes(path.read_bytes(), str(path)) for path in paths]


def _tell(path: Path, episodes: list[Episode]) -> None:
    from poco_ros.data.summary import describe, find_oddities

    print(path)
    for line in describe(episodes).lines():
        print(f"  {line}")
    for oddity in find_oddities(episodes):
        print(f"  odd: {oddity}")


def _add_making(parser: argparse.ArgumentParser, out: str) -> None:
    parser.add_argument("--out", type=Path, default=None, help=out)
    parser.add_argument("--workers", type=int, default=0,
                        help="processes that make them [default: one a processor]")
