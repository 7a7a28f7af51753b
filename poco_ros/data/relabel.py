"""Play data seen with one task's eyes: rewards, and where the task would have ended.

Play data know no task. A trajectory passes through states in which the task happens to be solved;
OGBench relabels each transition with the reward there and a mask that stops the bootstrap, and
lets the trajectory go on. An :class:`Episode` ends where the task ends, so here a trajectory is
cut behind every transition that is judged a success: value never flows back across the cut, and
what follows starts an episode of its own. A transition that starts and ends in solved states
becomes an episode of one step, as in OGBench where its mask is 0 as well. No transition is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.task import TaskConfig
from poco_ros.data.ogbench_format import FORMATS, PlayData, read_play_data
from sim_bridge.ogbench_models import make_task

TOLERANCE = 0.04
"""OGBench calls a cube, the drawer and the window in place within this distance [m]."""
CONTROL_PERIOD_NS = 50_000_000
_FIRST_OBJECT = 14
"""Columns of qpos before the first object: six joints of the arm, eight of the gripper."""
_FREE_JOINT = 7


@dataclass(frozen=True, eq=False)
class Goal:
    """What a task of OGBench wants of the objects."""

    cubes: np.ndarray
    """(C, 3) positions [m]."""
    buttons: np.ndarray
    """(B,) states."""
    slides: np.ndarray
    """(D,) positions of drawer and window [m]; empty outside scene."""

    @classmethod
    def of(cls, task: TaskConfig) -> Goal:
        """Return the goal of ``task``.

        Raises:
            DataError: the domain is not OGBench's.
        """
        if task.domain not in FORMATS:
            raise DataError(f"{task.name}: OGBench's play data have no domain {task.domain!r};"
                            f" they exist for {', '.join(FORMATS)}")
        words = make_task(task.domain, task.number).task_infos[task.number - 1]
        none = np.zeros(0)
        if task.domain == "scene":
            goal = words["goal"]
            return cls(goal["block_xyzs"], goal["button_states"],
                       np.array([goal["drawer_pos"], goal["window_pos"]]))
        if task.domain == "puzzle-3x3":
            return cls(np.zeros((0, 3)), words["goal_button_states"], none)
        return cls(words["goal_xyzs"], none, none)

    def reached(self, qpos: np.ndarray, button_states: np.ndarray | None) -> np.ndarray:
        """Return which subgoals hold, (N, S) bool, in the order of OGBench's rewards.

        Args:
            qpos: (N, nq) joint positions.
            button_states: (N, B), or None where there are no buttons.
        """
        first, cubes = _FIRST_OBJECT, len(self.cubes)
        behind = first + cubes * _FREE_JOINT
        positions = qpos[:, first:behind].reshape(len(qpos), cubes, _FREE_JOINT)[..., :3]
        parts = [np.linalg.norm(self.cubes - positions, axis=-1) <= TOLERANCE]
        if button_states is not None:
            parts.append(button_states == self.buttons)
        if len(self.slides):
            column = behind + len(self.buttons)
            slides = qpos[:, column:column + len(self.slides)]
            parts.append(np.abs(slides - self.slides) <= TOLERANCE)
        return np.concatenate(parts, axis=1)


def load_play_episodes(path: str | Path, task: TaskConfig,
                       trajectories: int = 0) -> list[Episode]:
    """Return the episodes that ``task`` sees in a data set of OGBench's format.

    Args:
        path: the ``.npz``, OGBench's own or made here.
        task: says which goal, which reward and when it is judged.
        trajectories: so many from the start; 0 = all.

    Raises:
        DataError: the file breaks its format, see
            :func:`poco_ros.data.ogbench_format.read_play_data`.
    """
    goal = Goal.of(task)
    return list(relabelled(read_play_data(path, task.domain), goal, task, trajectories))


def relabelled(data: PlayData, goal: Goal, task: TaskConfig,
               trajectories: int = 0) -> Iterator[Episode]:
    """Yield the episodes of ``data``; their arrays are views of it, not copies."""
    subgoals = goal.reached(data.qpos, data.button_states)
    solved: np.ndarray = np.all(subgoals, axis=1)
    earned = solved if task.reward == "sparse" else subgoals.mean(axis=1)
    rewards: np.ndarray = (earned + task.reward_offset).astype(np.float32)
    judged = 0 if task.success_timing == "pre" else 1
    stem = _words(data.source)
    spans = list(zip(data.starts, data.ends, strict=True))
    for number, (start, end) in enumerate(spans[:trajectories or None]):
        last = end - 1  # the row whose successor was not recorded
        cuts = start + 1 + np.flatnonzero(solved[start + judged:last + judged])
        bounds = np.unique(np.concatenate([[start], cuts, [last]]))
        for part, (first, behind) in enumerate(pairwise(bounds)):
            success = bool(solved[behind - 1 + judged])
            steps = np.arange(first - start, behind - start + 1, dtype=np.int64)
            yield Episode(
                id=f"{stem}-{number:05d}-{part:04d}",
                observations=data.observations[first:behind + 1],
                actions=data.actions[first:behind],
                rewards=rewards[first + judged:behind + judged],
                terminated=success,
                truncated=not success,
                outcome=Outcome.SUCCESS if success else Outcome.NONE,
                stamps=steps * CONTROL_PERIOD_NS,
                task=task.name,
                source="demonstration",
            )


def _words(source: str) -> str:
    """Return the file's name as the beginning of an episode id."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", f"play-{Path(source).stem}")[:100]
