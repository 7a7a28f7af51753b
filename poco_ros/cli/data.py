"""``poco data``: make demonstrations, look at what is there, and convert it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from poco_ros.cli.data_convert import add_convert, find_layout, find_task
from poco_ros.cli.flags import add_flags, at_least, domain_info, given
from poco_ros.core import config
from poco_ros.core.config import SettingInfo
from poco_ros.core.episode import Episode
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.core.task import TaskConfig
from poco_ros.data.config import (
    AUTOMATIC,
    COLLECTED_DOMAINS,
    DemonstrationConfig,
    PlayConfig,
    RobomimicConfig,
)
from poco_ros.data.stored import is_robomimic, read_episodes

ACTIONS = {"play": "ogbench", "robomimic": "robomimic", "directed": "directed"}
"""Kind of demonstrations -> the action that makes them."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare ``poco data`` and its actions."""
    parser = subparsers.add_parser(
        "data", help="make demonstrations, look at episodes, convert them",
        description="Make demonstrations, on all cores and resumable: the same command goes on"
        " where it was interrupted, and does nothing when all is there. What is made goes below"
        " runs/data, under a name that follows from its settings: there poco train looks for what"
        " its preset asks for. --preset=NAME makes just that.")
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)

    play = actions.add_parser(
        "ogbench", help="OGBench's play data, made again with its own oracles",
        description="Make play data in OGBench's format: an .npz for training and a -val.npz"
        " beside it, key for key like the official files.",
        epilog="example: poco data ogbench --domain scene --num-trajs 1000, or what a preset is"
        " trained on: poco data ogbench --preset paper_scene")
    add_flags(play, PlayConfig)
    _add_making(play, "the .npz file [default: runs/data/<domain>-play-<digest>.npz]")
    play.set_defaults(do=make_play)

    people = actions.add_parser(
        "robomimic", help="demonstrations of RoboMimic's Lift, Can and Square, in its HDF5",
        description="Let six scripted operators of different skill work: they come to things in"
        " different ways and at different speeds, miss, drop and try again. The file is laid out"
        " as robomimic's own, with simulator states, models and filter keys (train, valid,"
        " better, okay, worse, recovered, ...).",
        epilog="example: poco data robomimic --task can --num-trajs 300, or what a preset is"
        " trained on: poco data robomimic --preset cpu_can")
    add_flags(people, RobomimicConfig)
    _add_making(people, "the .hdf5 file [default: runs/data/<task>-robomimic-<digest>.hdf5]")
    people.set_defaults(do=make_robomimic)

    directed = actions.add_parser(
        "directed", help="imperfect demonstrations of one task, failures kept",
        description="Let an oracle pursue one task, with noise on its plan; some attempts fail.",
        epilog="example: poco data directed --task cube-single --episodes 100 --noise 0.35")
    add_flags(directed.add_argument_group("task"), TaskConfig, "task",
              rename={"domain": "task", "number": "task_number"}, exclude=("title", "features"),
              infos={"domain": domain_info()})
    add_flags(directed.add_argument_group("demonstrations"), DemonstrationConfig,
              "demonstrations", exclude=("kind", "path", "mask"),
              infos={"episodes": SettingInfo("episodes; asking for more later goes on where they"
                                             " end", minimum=1)})
    _add_making(directed, "the folder [default: runs/data/<task>-directed-<digest>]")
    directed.set_defaults(do=make_directed)

    inspect = actions.add_parser(
        "inspect", help="figures of demonstrations or of a run's episodes",
        description="Tell what a set of episodes is like: counts, sources, outcomes, what is not"
        " trained on and why, lengths, control rate, holes, ranges of the actions, and what looks"
        " odd; and draw a contact sheet of it.",
        epilog="example: poco data inspect runs/robot-0 --picture sheet.png --pictures pictures")
    inspect.add_argument("path", type=Path, help="a folder of episodes, a run folder, an .hdf5 of"
                         " robomimic's, or an .npz in OGBench's format")
    sheet = inspect.add_argument_group("contact sheet")
    sheet.add_argument("--picture", type=Path, default=None, metavar="FILE.png",
                       help="draw the episodes into this file, a row each")
    sheet.add_argument("--pictures", type=Path, default=None, metavar="FOLDER", help="pictures"
                       " recorded beside them: <camera>/<episode id>/<stamp in ns>.jpg")
    sheet.add_argument("--rows", type=at_least(1), default=12, help="at most so many episodes: the"
                       " first, the last, and some of each outcome [default: 12]")
    sheet.add_argument("--preset", default="", help="preset of the task, so that joints are"
                       " drawn; without, executed actions are [default: that of a run folder]")
    add_flags(inspect.add_argument_group("task that an .npz is relabelled for"), TaskConfig,
              "task", rename={"domain": "task", "number": "task_number"},
              exclude=("title", "features"), infos={"domain": domain_info(COLLECTED_DOMAINS)})
    inspect.set_defaults(do=inspect_path)
    add_convert(actions)


def run(args: argparse.Namespace) -> int:
    """Do the action that was asked for."""
    action: Callable[[argparse.Namespace], int] = args.do
    return action(args)


def make_play(args: argparse.Namespace) -> int:
    """Make play data."""
    from poco_ros.data.demonstrations import made_path
    from poco_ros.data.play import generate_ogbench

    if args.preset:
        return _make_for_preset(args, "play")
    settings = config.from_dict(PlayConfig, given(args), "poco data ogbench")
    print(generate_ogbench(settings, args.out or made_path(settings), args.workers))
    return 0


def make_robomimic(args: argparse.Namespace) -> int:
    """Make demonstrations in robomimic's format and tell what they are like."""
    from poco_ros.data.demonstrations import load_demonstrations, made_path
    from poco_ros.data.robomimic_made import generate_robomimic

    if args.preset:
        return _make_for_preset(args, "robomimic")
    settings = config.from_dict(RobomimicConfig, given(args), "poco data robomimic")
    out = generate_robomimic(settings, args.out or made_path(settings), args.workers)
    _tell(out, load_demonstrations(out, TaskConfig(domain=settings.task)))
    return 0


def make_directed(args: argparse.Namespace) -> int:
    """Make directed demonstrations and tell what they are like."""
    if args.preset:
        return _make_for_preset(args, "directed")
    values = given(args)
    task = config.from_dict(TaskConfig, values.get("task", {}), "poco data directed")
    settings = config.from_dict(
        DemonstrationConfig,
        {**values.get("demonstrations", {}), "kind": "directed", "path": args.out or AUTOMATIC},
        "poco data directed")
    _make(settings, task, args.workers)
    return 0


def _make_for_preset(args: argparse.Namespace, kind: str) -> int:
    """Make what a preset is trained on, as training does, and tell what it is like.

    Raises:
        ConfigError: no such preset, its demonstrations are of another kind, or more is asked for.
    """
    from poco_ros.preset import load_preset

    preset = load_preset(args.preset)
    found = preset.demonstrations.kind
    if found != kind:
        remedy = f"poco data {ACTIONS[found]} makes them" if found in ACTIONS \
            else "they are not made here"
        raise ConfigError(f"--preset {args.preset}: its demonstrations are of kind {found}, not"
                          f" {kind}; {remedy}")
    if given(args) or args.out is not None:
        raise ConfigError(f"--preset {args.preset}: says what is made and where; leave the preset"
                          " out, or all other flags but --workers")
    _make(preset.demonstrations, preset.task, args.workers)
    return 0


def _make(settings: DemonstrationConfig, task: TaskConfig, workers: int) -> None:
    from poco_ros.data.demonstrations import demonstrations_path, load_demonstrations

    _tell(demonstrations_path(settings, task), load_demonstrations(settings, task, workers))


def inspect_path(args: argparse.Namespace) -> int:
    """Tell what the episodes at a path are like, and draw them."""
    if args.pictures is not None and args.picture is None:
        raise DataError("--pictures goes with --picture: name the file to draw")
    if args.picture is not None and args.picture.suffix != ".png":
        raise DataError(f"{args.picture}: expected a name that ends in .png")
    episodes = _inspected(args)
    _tell(args.path, episodes)
    if args.picture is not None:
        from poco_ros.data.contact_sheet import draw_contact_sheet
        from poco_ros.data.pictures import RecordedPictures

        layout = find_layout(args.path, find_task(args.path, args.preset))
        shown = draw_contact_sheet(
            episodes, args.picture, f"{episodes[0].task}   {args.path}",
            layout=layout, rows=args.rows,
            pictures=None if args.pictures is None else RecordedPictures(args.pictures))
        print(f"{args.picture}: {len(shown)} of {len(episodes)} episodes")
    return 0


def _inspected(args: argparse.Namespace) -> list[Episode]:
    if args.path.suffix == ".npz":
        from poco_ros.data.demonstrations import load_demonstrations

        task = config.from_dict(TaskConfig, given(args).get("task", {}), "poco data inspect")
        return load_demonstrations(args.path, task)
    if is_robomimic(args.path):
        from poco_ros.data.robomimic import read_robomimic

        return list(read_robomimic(args.path))
    return read_episodes(args.path)


def _tell(path: Path, episodes: list[Episode]) -> None:
    from poco_ros.data.recording import describe_recording
    from poco_ros.data.summary import describe, find_oddities

    print(path)
    for line in (*describe(episodes).lines(), *describe_recording(episodes).lines()):
        print(f"  {line}")
    for oddity in find_oddities(episodes):
        print(f"  odd: {oddity}")


def _add_making(parser: argparse.ArgumentParser, out: str) -> None:
    parser.add_argument("--preset", default="", help="make what this preset is trained on, where"
                        " poco train looks for it; no other flag but --workers goes with it")
    parser.add_argument("--out", type=Path, default=None, help=out)
    parser.add_argument("--workers", type=at_least(0), default=0,
                        help="processes that make them [default: 0, one a processor]")
