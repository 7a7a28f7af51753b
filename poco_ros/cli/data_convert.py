"""``poco data convert``: episodes to robomimic's HDF5 and back, and to MCAP."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from poco_ros.core.episode import Episode
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.robomimic import ROBOMIMIC_TASKS
from poco_ros.core.task import TaskConfig
from poco_ros.data.stored import is_robomimic, read_episodes

MCAP = ".mcap"


def add_convert(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare ``poco data convert``."""
    parser = actions.add_parser(
        "convert", help="episodes to robomimic's HDF5 and back, and to MCAP",
        description="Convert episodes; the ends of the names say what from and what to. A folder"
        " has episodes (the folder of a run: its episodes), .hdf5 is robomimic's, .mcap is a"
        " recording of ROS 2 topics for Foxglove, Lichtblick and ros2 bag, which is written and"
        " not read.",
        epilog="example: poco data convert runs/robot-0 episodes.mcap --preset cpu_pick_cube")
    parser.add_argument("source", type=Path, help="a folder of episodes, a run folder, or .hdf5")
    parser.add_argument("dest", type=Path, help="a folder, .hdf5 or .mcap")
    parser.add_argument("--preset", default="", help="preset of the task: names the parts of the"
                        " observation, and checks sizes and task [default: that of a run folder;"
                        " else the parts of an .hdf5, or one part, state]")
    parser.add_argument("--rate", type=float, default=0.0, metavar="HZ", help="control rate of"
                        " episodes that have no stamps; stamps that were recorded stay")
    hdf5 = parser.add_argument_group("from .hdf5")
    hdf5.add_argument("--observation", nargs="+", default=[], metavar="KEY", help="parts of the"
                      " observation, in order, such as object robot0_eef_pos robot0_eef_quat"
                      " robot0_gripper_qpos [default: those of the preset's task, if it is one of"
                      " robomimic's; else all vectors, by name]")
    hdf5.add_argument("--mask", default="", metavar="NAME", help="only the demos of this filter"
                      " key, such as train")
    hdf5.add_argument("--success-reward", type=float, default=None, metavar="REWARD",
                      help="in files of others: a reward of at least this says that the task is"
                      " done [default: 1]")
    mcap = parser.add_argument_group("to .mcap")
    mcap.add_argument("--pictures", type=Path, default=None, metavar="FOLDER", help="pictures"
                      " recorded beside the episodes: <camera>/<episode id>/<stamp in ns>.jpg")
    parser.set_defaults(do=convert)


def convert(args: argparse.Namespace) -> int:
    """Convert and say what was written."""
    if args.dest.is_file():
        raise DataError(f"{args.dest}: is there already; remove it or name another file")
    task = find_task(args.source, args.preset)
    layout = find_layout(args.source, task, args.observation)
    episodes = _checked(_read(args, task), task if args.preset else None)
    if args.rate < 0.0 or not np.isfinite(args.rate):
        raise DataError(f"--rate {args.rate:g}: expected more than 0, in steps a second")
    if args.rate:
        episodes = (_stamped(episode, args.rate) for episode in episodes)
    if args.pictures is not None and args.dest.suffix != MCAP:
        raise DataError(f"--pictures goes with a recording ({MCAP}), not with {args.dest}")
    try:
        count = _write(args, episodes, layout)
    except OSError as error:
        raise DataError(f"{args.dest}: cannot be written ({error})") from error
    print(f"{args.dest}: {count} episodes")
    return 0


def find_task(path: Path, preset: str) -> TaskConfig | None:
    """Return the task of a preset, or of the run that a folder is of; None = neither.

    Raises:
        ConfigError: the preset is missing or broken.
    """
    from poco_ros.preset import load_preset

    if preset:
        return load_preset(preset).task
    folder = path.parent if path.name == "episodes" else path
    config = folder / "config.yaml"
    return load_preset(config).task if config.is_file() else None


def find_layout(path: Path, task: TaskConfig | None,
                observation: Sequence[str] = ()) -> ObservationLayout | None:
    """Return the parts of the observation, from the task or the file; None = nobody names them."""
    if task is not None:
        return task.observation
    if is_robomimic(path):
        from poco_ros.data.robomimic import read_layout

        return read_layout(path, observation)
    return None


def _read(args: argparse.Namespace, task: TaskConfig | None) -> Iterable[Episode]:
    if args.source.suffix == MCAP:
        raise DataError(f"{args.source}: recordings are written, not read; convert the episodes"
                        " that it was made from")
    if is_robomimic(args.source):
        from poco_ros.data.robomimic import read_env_args, read_robomimic

        # A file that was written here of such episodes names the task itself, not robosuite's.
        if task is not None and task.domain in ROBOMIMIC_TASKS and (
                read_env_args(args.source).get("env_name") != task.name):
            return _read_published(args, task)
        return read_robomimic(
            args.source, args.observation, args.mask, task.name if task is not None else "",
            1.0 if args.success_reward is None else args.success_reward)
    if args.observation or args.mask or args.success_reward is not None:
        raise DataError(f"--observation, --mask and --success-reward are for .hdf5, not for"
                        f" {args.source}")
    return read_episodes(args.source)


def _read_published(args: argparse.Namespace, task: TaskConfig) -> list[Episode]:
    """Return what training would read of a file; what it would misread is refused."""
    from poco_ros.data.robomimic_sets import load_robomimic

    names = ROBOMIMIC_TASKS[task.domain].layout.names
    if args.observation and tuple(args.observation) != names:
        raise DataError(f"--observation {' '.join(args.observation)}: {task.name} takes"
                        f" {' '.join(names)}, in this order; leave the flag out")
    if args.success_reward not in (None, 1.0):
        raise DataError(f"--success-reward {args.success_reward:g}: success in files for"
                        f" {task.name} has a reward of 1; leave the flag out")
    return load_robomimic(args.source, task, args.mask)


def _checked(episodes: Iterable[Episode], task: TaskConfig | None) -> Iterator[Episode]:
    """Pass on what is of the task that the user named."""
    from poco_ros.data.parts import layout_for

    for episode in episodes:
        if task is not None:
            layout_for(episode, task.observation)
            if episode.actions.shape[1] != task.action_dim:
                raise DataError(f"episode {episode.id}: actions have {episode.actions.shape[1]}"
                                f" values, those of {task.name} have {task.action_dim}")
            if episode.task != task.name:
                raise DataError(f"episode {episode.id} is of task {episode.task!r}, the preset is"
                                f" for {task.name!r}")
        yield episode


def _stamped(episode: Episode, rate: float) -> Episode:
    if episode.stamps.any():
        return episode
    steps = np.arange(len(episode) + 1, dtype=np.int64)
    return replace(episode, stamps=steps * round(1e9 / rate))


def _write(args: argparse.Namespace, episodes: Iterable[Episode],
           layout: ObservationLayout | None) -> int:
    dest: Path = args.dest
    if is_robomimic(dest):
        from poco_ros.data.robomimic import write_robomimic
        return write_robomimic(dest, episodes, layout)
    if dest.suffix == MCAP:
        from poco_ros.data.pictures import RecordedPictures
        try:
            from poco_ros.ros.mcap import write_mcap
        except ImportError as error:
            raise ConfigError(f"a recording holds ROS 2 messages, and {error.name} cannot be"
                              " imported; source the workspace that poco_msgs was built in, or"
                              " run make setup") from error
        pictures = None if args.pictures is None else RecordedPictures(args.pictures)
        return write_mcap(dest, episodes, layout, pictures)
    if dest.suffix and not dest.is_dir():
        raise DataError(f"{dest}: expected a name that ends in .hdf5 or {MCAP}, or a folder, whose"
                        " name has no suffix")
    from poco_ros.data.stored import store_episodes
    return store_episodes(dest, episodes)
