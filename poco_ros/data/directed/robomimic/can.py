"""Can: it is carried over two walls into its quarter of the other bin, and let go."""

from __future__ import annotations

import numpy as np

from poco_ros.data.directed.robomimic.hand import OPEN, Script
from poco_ros.data.directed.robomimic.task import Grasp, Task
from poco_ros.data.directed.robomimic.yaw import unit, wrapped, yaw_of
from sim_bridge.robosuite_env import CanEnvironment

GRIP = 0.02
"""The hand takes a standing can so far over its middle: the palm is then clear of its top [m]."""
STANDS = 0.85
"""Cosine of the tilt below which a can is no longer taken as a standing one."""
LOW, HIGH = 1.00, 1.18
"""Heights at which the can is carried [m]."""
SPREAD = np.array([0.045, 0.055])
"""The can is put down at most so far from the middle of its quarter [m]."""
MISPLACED = 0.12
"""Standard deviation of the place where it is let go, for an error of 1 [m]."""
FLOOR = 0.885
"""Height of the hand when the can is put down [m]."""


class CanTask(Task):
    """The can in the bin; its quarter is the far right one of the other bin."""

    environment: CanEnvironment
    safe_height = 1.02

    def _axis(self) -> np.ndarray:
        """Return the can's own axis, (3,), world frame."""
        return self.environment.object_rotation()[:, 2]

    def _stands(self) -> bool:
        return bool(abs(self._axis()[2]) > STANDS)

    def grasp_point(self) -> np.ndarray:
        """Return a point on the can's axis, a little over its middle when it stands, (3,) [m]."""
        height = GRIP if self._stands() else 0.005
        return self.environment.object_position() + np.array([0.0, 0.0, height])

    def grasps(self) -> list[Grasp]:
        """Return turns of the hand: any for a can that stands, two for one that lies."""
        if self._stands():
            turns = [wrapped(turn) for turn in np.radians([-60, -30, 0, 30, 60])]
        else:  # the fingers open across its axis
            lies = yaw_of(self._axis())
            turns = [wrapped(lies + half) for half in (0.0, np.pi)]
        middle = np.array([0.1, -0.25, 0.0])  # of the first bin; the walls are the other way
        way = middle - self.environment.object_position()
        return [Grasp(turn, np.sign(way @ unit(turn) or 1.0) * unit(turn)) for turn in turns]

    def finish(self) -> Script:
        """Carry the can over its quarter, put it down or drop it, and get out of the way."""
        hand, style, goal = self.hand, self.style, self.environment.goal
        height = LOW + (HIGH - LOW) * style.carry
        spot = goal.copy()
        spot[:2] += np.random.uniform(-1.0, 1.0, 2) * SPREAD
        spot = self.within_reach(spot)
        spot[:2] += np.random.normal(0.0, MISPLACED * style.error, 2)
        yaw = hand.yaw if np.random.random() < 0.5 else 0.0
        up = self.hover(hand.position, height if style.in_an_arc else LOW)
        over = self.hover(spot, height)
        release = self.hover(spot, FLOOR + (height - FLOOR) * style.drops)
        for place, turn, speed in ((up, hand.yaw, 1.0), (over, yaw, 1.0), (release, yaw, 0.8)):
            if not (yield from self.bring(place, turn, speed=speed)):
                return False
        yield from hand.set_grip(OPEN)
        yield from hand.go(hand.position + np.array([0.0, 0.0, 0.1]), hand.yaw, within=0.03)
        if not self.environment.subgoals()[-1]:
            self.misplaced += 1
        return bool(self.environment.subgoals()[-1])
