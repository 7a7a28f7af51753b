"""Square: the nut is taken by its handle, turned so that its hole fits, and let down the peg."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from poco_ros.data.directed.robomimic.hand import OPEN, Hand, Script
from poco_ros.data.directed.robomimic.operators import Style
from poco_ros.data.directed.robomimic.task import MOST_TURN, Grasp, Task, likely
from poco_ros.data.directed.robomimic.yaw import unit, wrapped, yaw_of
from sim_bridge.robosuite_env import SquareEnvironment

HANDLE_NEAR, HANDLE_FAR = 0.054, 0.068
"""Where the handle is taken, from the middle of the nut [m]."""
OVER = 0.995
"""Height of the nut over the peg's top, at which it is brought to it [m]."""
HIGHER = 0.10
"""It is carried at most so much higher [m]."""
MISALIGNED = 0.03
"""Standard deviation of the place over the peg, for an error of 1 [m]."""
DOWN = 0.86
"""A nut whose middle is below this height is on the peg, or beside it [m]."""
JAMMED = 12
"""Steps without a way down after which the nut sits on the peg's top, and is lifted again."""


class SquareTask(Task):
    """The nut on the table, and the square peg."""

    environment: SquareEnvironment
    safe_height = 1.0

    def __init__(self, environment: SquareEnvironment, hand: Hand, style: Style,
                 tries: int) -> None:
        super().__init__(environment, hand, style, tries)
        self._along = float(np.random.uniform(HANDLE_NEAR, HANDLE_FAR))

    def grasp_point(self) -> np.ndarray:
        """Return a point of the handle, (3,) [m]."""
        nut = self.environment
        return (nut.object_position() + self._along * nut.object_rotation()[:, 0]
                + np.array([0.0, 0.0, 0.004]))

    def grasps(self) -> list[Grasp]:
        """Return the two turns of the hand that put the fingers onto the handle's sides."""
        handle = self._nut_yaw()
        return [Grasp(wrapped(handle + half), unit(handle)) for half in (0.0, np.pi)]

    def _nut_yaw(self) -> float:
        """Return which way the handle points [rad] from the world's x axis."""
        return yaw_of(self.environment.object_rotation()[:, 0])

    def _turned(self) -> float:
        """Return how the hand should be turned over the peg: one of the ways the hole fits."""
        yaw, handle = self.hand.yaw, self._nut_yaw()
        turns = [wrapped(quarter * np.pi / 2.0 - handle) for quarter in range(4)]
        goal, along = self.environment.goal, self._along
        possible = [turn for turn in turns if abs(yaw + turn) < MOST_TURN
                    and self.reaches(goal + along * unit(handle + turn))]
        return yaw + likely(possible or turns, 0.5)

    def finish(self) -> Script:
        """Lift the nut, bring its hole over the peg, and let it down."""
        hand, style, goal = self.hand, self.style, self.environment.goal
        height = OVER + HIGHER * style.carry
        error = np.array([*np.random.normal(0.0, MISALIGNED * style.error, 2), 0.0])
        yaw = self._turned()
        up = self.hover(hand.position, height if style.in_an_arc else OVER)
        if not (yield from self.bring(up, hand.yaw)):
            return False

        def over(at: float) -> np.ndarray:
            """Where the hand should be so that the hole is at a height over the peg."""
            offset = hand.position - self.environment.object_position()
            return self.hover(goal + offset + error, at + offset[2])

        for at in (height, OVER):
            if not (yield from self.bring(partial(over, at), yaw, within=0.006, most=90)):
                return False
        yield from hand.rest()
        return (yield from self._let_down(over, yaw))

    def _let_down(self, over: Callable[[float], np.ndarray], yaw: float) -> Script:
        """Lower the nut until it is down or goes no further, and open the hand."""
        hand, nut = self.hand, self.environment

        def lowering() -> Script:
            lowest, stuck = np.inf, 0
            while nut.object_position()[2] > DOWN and stuck < JAMMED and self.held():
                height = float(nut.object_position()[2])
                stuck = 0 if height < lowest - 0.001 else stuck + 1
                lowest = min(lowest, height)
                yield hand.toward(over(height - 0.03), yaw, 0.6)
            return True

        if not (yield from self.carry(lowering())):
            return False
        yield from hand.set_grip(OPEN)
        if not nut.subgoals()[-1]:
            self.misplaced += 1
        return bool(nut.subgoals()[-1])
