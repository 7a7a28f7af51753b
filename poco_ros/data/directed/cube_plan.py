"""Which cube is to be moved next, and where, so that all of them end at their goals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IN_PLACE = 0.04
"""A cube is at its goal within this distance [m]; OGBench's tolerance."""
BESIDE = 0.05
"""Nearer than this across, two cubes of 4 cm stand in each other's way [m]."""
LAYER = 0.03
"""More than this apart in height, two cubes are in different layers [m]."""
PARKING = tuple((x, y, 0.02) for x in (0.35, 0.425, 0.5) for y in (-0.2, -0.1, 0.0, 0.1, 0.2))
"""Places to put a cube that is in the way [m]."""


@dataclass(frozen=True)
class Move:
    """Pick a cube up and put it down."""

    cube: int
    position: tuple[float, float, float]
    """Where to [m]."""


def next_move(cubes: np.ndarray, goals: np.ndarray) -> Move | None:
    """Return the next move, None when every cube is in place.

    Lower goals come first. What stands on a cube, or where it should go, is moved before it: to
    its own goal where that is free, else aside.

    Args:
        cubes: (C, 3) where the cubes are [m].
        goals: (C, 3) where they should be [m].
    """
    wrong = np.flatnonzero(np.linalg.norm(cubes - goals, axis=1) > IN_PLACE)
    if not wrong.size:
        return None
    first = min(wrong, key=lambda cube: (goals[cube, 2], cube))
    return _free(int(first), cubes, goals, frozenset())


def _free(cube: int, cubes: np.ndarray, goals: np.ndarray, waiting: frozenset[int]) -> Move:
    """Return the move that brings ``cube`` to its goal, or the first that makes way for it."""
    for other in range(len(cubes)):
        if other == cube:
            continue
        on_top = _across(cubes[other], cubes[cube]) < BESIDE and (
            cubes[other, 2] > cubes[cube, 2] + LAYER)
        in_goal = _across(cubes[other], goals[cube]) < BESIDE and (
            cubes[other, 2] > goals[cube, 2] - LAYER)
        if not (on_top or in_goal):
            continue
        at_home = np.linalg.norm(cubes[other] - goals[other]) <= IN_PLACE
        if at_home or other in waiting:
            return _aside(other, cubes, goals)
        return _free(other, cubes, goals, waiting | {cube})
    return Move(cube, tuple(goals[cube].tolist()))


def _aside(cube: int, cubes: np.ndarray, goals: np.ndarray) -> Move:
    """Return the move that parks ``cube``, or first what stands on it."""
    for other in range(len(cubes)):
        if other != cube and _across(cubes[other], cubes[cube]) < BESIDE and (
                cubes[other, 2] > cubes[cube, 2] + LAYER):
            return _aside(other, cubes, goals)
    taken = np.concatenate([cubes, goals])
    clear = [min(_across(np.array(place), thing) for thing in taken) for place in PARKING]
    return Move(cube, PARKING[int(np.argmax(clear))])


def _across(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one[:2] - other[:2]))
