"""What is to be done next in OGBench's scene: locks before slides, the drawer before its cube."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poco_ros.data.directed.cube_plan import IN_PLACE, Move

DRAWER, WINDOW = 0, 1
"""Positions of the two slides, and of the buttons that lock them, in a :class:`SceneState`."""
DRAWER_OPEN, DRAWER_OPEN_ENOUGH = -0.16, -0.12
"""Position of the open drawer, and from where on a cube goes in [m]."""
SLIDE_TOLERANCE = 0.04
"""OGBench's tolerance for drawer and window [m]."""
IN_DRAWER = (0.33, -0.24, 0.066)
"""Where a cube is let go over the open drawer [m]."""
DRAWER_HEIGHT = 0.05
"""A cube above this, and to the right of DRAWER_SIDE, is in the drawer [m]."""
DRAWER_SIDE = -0.15
"""The drawer's inside begins here, y [m]."""


@dataclass(frozen=True)
class Press:
    """Press a button."""

    button: int


@dataclass(frozen=True)
class Slide:
    """Pull the drawer (0) or the window (1) by its handle."""

    slide: int
    position: float
    """Where to [m]."""


@dataclass(frozen=True, eq=False)
class SceneState:
    """How things stand, or how they should."""

    cube: np.ndarray
    """(3,) [m]."""
    buttons: np.ndarray
    """(2,) 0 locks drawer or window, 1 unlocks it."""
    slides: np.ndarray
    """(2,) positions of drawer and window [m]."""


def next_step(now: SceneState, goal: SceneState) -> Move | Press | Slide | None:
    """Return what is to be done next, None when all is as wanted."""
    if np.linalg.norm(now.cube - goal.cube) > IN_PLACE:
        into_drawer = goal.cube[2] > DRAWER_HEIGHT
        if not into_drawer:
            return Move(0, tuple(goal.cube.tolist()))
        lies_in_it = now.cube[2] > DRAWER_HEIGHT and now.cube[1] < DRAWER_SIDE
        if not lies_in_it:  # else it comes to its goal with the drawer
            if now.slides[DRAWER] > DRAWER_OPEN_ENOUGH:
                return _pull(DRAWER, DRAWER_OPEN, now)
            return Move(0, IN_DRAWER)
    for slide in (DRAWER, WINDOW):
        if abs(now.slides[slide] - goal.slides[slide]) > SLIDE_TOLERANCE:
            return _pull(slide, float(goal.slides[slide]), now)
    wrong = np.flatnonzero(now.buttons != goal.buttons)
    return Press(int(wrong[0])) if wrong.size else None


def _pull(slide: int, position: float, now: SceneState) -> Press | Slide:
    return Slide(slide, position) if now.buttons[slide] else Press(slide)
