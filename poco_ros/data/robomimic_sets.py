"""RoboMimic's data sets for one of its tasks: published files as they are, and those made here.

A policy learns from what a file holds and acts in the environments here, so both must mean the
same by the same numbers. The file says how it was recorded (``env_args``), and what differs is
refused: another task, another robosuite (before 1.5 the 14 numbers of ``object`` came in another
order, and would be taken for each other unseen), another controller or rate, dense rewards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from poco_ros.core.episode import Episode
from poco_ros.core.errors import DataError
from poco_ros.core.robomimic import (
    ACTION_DIM,
    CONTROL_HZ,
    POSITION_STEP,
    ROBOMIMIC_TASKS,
    ROBOSUITE,
    ROTATION_STEP,
    RobomimicTask,
)
from poco_ros.core.task import TaskConfig
from poco_ros.data.robomimic import read_env_args, read_layout, read_robomimic

REMEDY = (f"take robomimic's low_dim_v15.hdf5, run robomimic's dataset_states_to_obs under"
          f" robosuite {ROBOSUITE}, or make one with poco data robomimic")


def load_robomimic(path: str | Path, task: TaskConfig, mask: str = "",
                   demos: int = 0) -> list[Episode]:
    """Return the demonstrations of a file as ``task`` sees them.

    Args:
        path: robomimic's HDF5, published or made here.
        task: one of RoboMimic's.
        mask: filter key, such as ``train``; empty = all demos.
        demos: so many from the start; 0 = all.

    Raises:
        DataError: the file is not whole, is for another task, was recorded in another way, or an
            array has another shape or is not finite; file, key, value and remedy are named.
    """
    path = Path(path)
    check_robomimic(path, task)
    names = wanted_by(task).layout.names
    episodes = []
    for episode in read_robomimic(path, names, mask, task.name):
        if episode.actions.shape[1] != ACTION_DIM:
            raise DataError(f"{path}: the actions have {episode.actions.shape[1]} values, those of"
                            f" {task.name} have {ACTION_DIM}; {REMEDY}")
        strange = episode.rewards[~np.isin(episode.rewards, (0.0, 1.0))]
        if strange.size:
            raise DataError(f"{path}: {episode.id} has a reward of {strange[0]:g}, those of"
                            f" {task.name} are 0 and 1 at success; {REMEDY}")
        rewards = episode.rewards + np.float32(task.reward_offset)
        episodes.append(replace(episode, task=task.name, rewards=rewards))
        if len(episodes) == demos:
            break
    return episodes


def check_robomimic(path: str | Path, task: TaskConfig) -> None:
    """Raise DataError when ``task`` cannot learn from a file: as its head says, no demo is read.

    Args, errors: those of :func:`load_robomimic`.
    """
    path, wanted = Path(path), wanted_by(task)
    _check_recording(path, wanted, task)
    sizes = dict(read_layout(path, wanted.layout.names).parts)
    for name, size in wanted.layout.parts:
        if sizes[name] != size:
            raise DataError(f"{path}: obs/{name} has {sizes[name]} values a step, that of"
                            f" {task.name} has {size}; is it a file of another task?")


def wanted_by(task: TaskConfig) -> RobomimicTask:
    """Return what robomimic says of ``task``.

    Raises:
        DataError: it has no such task, or its files cannot be for this one's rewards.
    """
    if task.domain not in ROBOMIMIC_TASKS:
        raise DataError(f"{task.name}: RoboMimic has no such task; its files are for"
                        f" {', '.join(ROBOMIMIC_TASKS)}")
    if task.reward != "sparse" or task.success_timing != "post":
        raise DataError(f"{task.name}: robomimic's files reward a step for the success that it led"
                        " to; set reward to sparse and success_timing to post, not to"
                        f" {task.reward} and {task.success_timing}")
    return ROBOMIMIC_TASKS[task.domain]


def _check_recording(path: Path, wanted: RobomimicTask, task: TaskConfig) -> None:
    said = read_env_args(path)
    found = str(said.get("env_name", "none"))
    if found != wanted.env_name:
        known = {each.env_name: domain for domain, each in ROBOMIMIC_TASKS.items()}
        remedy = f"set the task's domain to {known[found]}, or " if found in known else ""
        raise DataError(f"{path}: env_args says env_name {found}, {task.name} is"
                        f" {wanted.env_name}; {remedy}name another file")
    version = str(said.get("env_version", "none"))
    if version.split(".")[:2] != ROBOSUITE.split("."):
        raise DataError(f"{path}: env_args says env_version {version}, the environments here are"
                        f" robosuite {ROBOSUITE}: before it the numbers of obs/object came in"
                        f" another order, and its controllers differ; {REMEDY}")
    for name, value, expected in _differences(said.get("env_kwargs")):
        raise DataError(f"{path}: env_args says {name} {value!r}, {task.name} is recorded with"
                        f" {expected}; {REMEDY}")


def _differences(options: Any) -> Iterator[tuple[str, Any, str]]:
    """Yield what of a recording's settings differs: name, value and what was expected."""
    if not isinstance(options, dict):
        yield "env_kwargs", options, "settings of robosuite"
        return
    robots = options.get("robots")
    if robots not in ("Panda", ["Panda"]):
        yield "robots", robots, "one Panda"
    if options.get("control_freq") != CONTROL_HZ:
        yield "control_freq", options.get("control_freq"), f"{CONTROL_HZ}"
    if options.get("reward_shaping", False):
        yield "reward_shaping", True, "sparse rewards (robomimic's low_dim_sparse files)"
    arm = _arm_controller(options.get("controller_configs"))
    if arm.get("type") != "OSC_POSE":
        yield "the arm's controller", arm.get("type"), "OSC_POSE"
    # Published files call it control_delta, as robosuite did before 1.5; 1.5 input_type.
    if not (arm.get("control_delta", False) or arm.get("input_type") == "delta"):
        yield "the controller's input", arm.get("input_type"), "steps (delta)"
    most = [*[POSITION_STEP] * 3, *[ROTATION_STEP] * 3]
    for name, limit in (("output_max", most), ("output_min", [-value for value in most])):
        if arm.get(name) != limit:
            yield name, arm.get(name), str(limit)


def _arm_controller(composite: Any) -> dict[str, Any]:
    """Return the settings of the right arm's controller, {} when they are not there."""
    parts = composite.get("body_parts", {}) if isinstance(composite, dict) else {}
    parts = parts.get("arms", parts) if isinstance(parts, dict) else {}
    arm = parts.get("right", {}) if isinstance(parts, dict) else {}
    return arm if isinstance(arm, dict) else {}
