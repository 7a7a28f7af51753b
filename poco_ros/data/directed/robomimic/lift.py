"""Lift: the cube is taken by two of its faces and raised."""

from __future__ import annotations

import numpy as np

from poco_ros.data.directed.robomimic.hand import Script
from poco_ros.data.directed.robomimic.task import Grasp, Task
from poco_ros.data.directed.robomimic.yaw import unit, wrapped, yaw_of

RAISED = 0.12
"""How far the hand goes up [m]; 4 cm are a success."""


class LiftTask(Task):
    """The cube on the table."""

    safe_height = 0.93

    def grasp_point(self) -> np.ndarray:
        """Return the middle of the cube, (3,) [m]."""
        return self.environment.object_position()

    def grasps(self) -> list[Grasp]:
        """Return the four turns of the hand that put the fingers flat onto faces."""
        face = yaw_of(self.environment.object_rotation()[:, 0])
        turns = [wrapped(face + quarter * np.pi / 2.0) for quarter in range(4)]
        return [Grasp(turn, unit(turn + np.pi * (abs(turn) < np.pi / 2.0))) for turn in turns]

    def finish(self) -> Script:
        """Go up."""
        hand = self.hand
        up = hand.position + np.array([0.0, 0.0, RAISED + 0.1 * self.style.carry])
        return (yield from self.bring(up, hand.yaw, within=0.02))
