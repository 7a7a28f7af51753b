"""What the three tasks share: a thing is picked up, again if it was missed or slipped away."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from poco_ros.data.directed.robomimic.hand import CLOSED, OPEN, Hand, Position, Script
from poco_ros.data.directed.robomimic.operators import Style
from sim_bridge.robosuite_env import RobosuiteEnvironment

AIM = np.array([0.055, 0.055, 0.02])
"""Standard deviation of the aim at a thing, for an error of 1 [m]."""
SLIPS = 0.4
"""How often a carried thing slips out of the fingers, for an error of 1."""
SLIPS_IN = (2, 40)
"""When it does: between so many steps after it was taken."""
ABOVE, BESIDE = 0.09, 0.10
"""From how far over a thing, or beside it, the hand comes [m]."""
LOST = 0.03
"""A thing that has moved so far in the hand has slipped [m]."""
EMPTY = 0.004
"""Fingers that are closer than this hold nothing [m]."""
MOST_TURN = 1.9
"""The wrist can turn so far from where it began [rad]."""
REACH = 0.80
"""The hand, pointing down, gets so far from the shoulder, seen from above [m]."""


@dataclass(frozen=True, eq=False)
class Grasp:
    """How a thing is taken."""

    yaw: float
    """Of the hand [rad]."""
    side: np.ndarray
    """(3,) unit vector: from where the hand can come if not from above, world frame."""


class Task(ABC):
    """One attempt at a task, by one operator; a subclass knows the thing and its place."""

    def __init__(self, environment: RobosuiteEnvironment, hand: Hand, style: Style,
                 tries: int) -> None:
        self.environment, self.hand, self.style = environment, hand, style
        self.tries = tries
        """Times that the thing is taken, or put down, before the operator gives up."""
        self.missed = self.slipped = self.misplaced = 0
        self._way_at_grasp, self._slips_in = 0.0, 0

    @abstractmethod
    def grasp_point(self) -> np.ndarray:
        """Return where the hand should be when it takes the thing as it lies now, (3,) [m]."""

    @abstractmethod
    def grasps(self) -> list[Grasp]:
        """Return the ways to take the thing as it lies now."""

    @abstractmethod
    def finish(self) -> Script:
        """Do what comes after the thing was taken; False: it slipped, or is not where it should.
        """

    @property
    @abstractmethod
    def safe_height(self) -> float:
        """Height of the hand over everything [m]."""

    def out_of_reach(self) -> bool:
        """Return whether the thing cannot be taken any more."""
        return bool(self.environment.object_position()[2] < 0.7)

    def script(self) -> Script:
        """Do the whole task, with what goes wrong on the way and what is done about it."""
        for _ in range(self.tries):
            if self.out_of_reach():
                return False
            if (yield from self._take()):
                yield from self.finish()  # whoever steps looks for the success
            else:
                self.missed += 1
            yield from self._back_off()
        return False

    def held(self) -> bool:
        """Return whether the thing is in the hand, as an operator sees it."""
        way = np.linalg.norm(self.grasp_point() - self.hand.position)
        return bool(way < self._way_at_grasp + LOST) and self.hand.opening > EMPTY

    def _take(self) -> Script:
        hand, style = self.hand, self.style
        grasp = self._choose()
        error = np.random.normal(0.0, 1.0, 3) * AIM * style.error
        start = error + (BESIDE * grasp.side + np.array([0.0, 0.0, 0.4 * ABOVE])
                         if style.from_the_side else np.array([0.0, 0.0, ABOVE]))
        yield from hand.go(lambda: self.grasp_point() + start, grasp.yaw, within=0.03)
        yield from hand.rest()
        yield from hand.go(lambda: self.grasp_point() + error, grasp.yaw, speed=0.7,
                           within=0.009, most=45)
        yield from hand.set_grip(CLOSED)
        self._way_at_grasp = float(np.linalg.norm(self.grasp_point() - hand.position))
        self._slips_in = int(np.random.randint(*SLIPS_IN)) if style.errs(SLIPS) else 0
        return bool(hand.opening > EMPTY and self._way_at_grasp < 0.06)

    def _choose(self) -> Grasp:
        """Return one of the grasps that the wrist can reach; small turns are likelier."""
        yaw = self.hand.yaw
        ways = [grasp for grasp in self.grasps() if abs(grasp.yaw) < MOST_TURN] or self.grasps()
        ways_by_turn = {grasp.yaw - yaw: grasp for grasp in ways}
        return ways_by_turn[likely(list(ways_by_turn), 0.8)]

    def _back_off(self) -> Script:
        """Let go, and go up to look again."""
        hand = self.hand
        yield from hand.set_grip(OPEN, 4)
        up = np.array([*hand.position[:2], max(hand.position[2] + 0.05, self.safe_height)])
        return (yield from hand.go(up, hand.yaw, within=0.04, most=30))

    def carry(self, moving: Script) -> Script:
        """Move with what is held; False as soon as it has slipped out of the hand."""
        for action in moving:
            self._slips_in -= 1
            if self._slips_in == 0:
                yield from self.hand.set_grip(OPEN, 5)
                self.slipped += 1
                return False
            yield action
        if not self.held():
            self.slipped += 1
        return self.held()

    def bring(self, place: Position, yaw: float, *, within: float = 0.03, speed: float = 1.0,
              most: int = 70) -> Script:
        """Bring what is held to ``place`` (3,) [m] and ``yaw``; False when it slipped."""
        return (yield from self.carry(self.hand.go(
            place, yaw, within=within, speed=speed, most=most, going_well=self.held)))

    def reaches(self, place: np.ndarray) -> bool:
        """Return whether the arm reaches ``place`` (3,) [m] with the hand pointing down."""
        return bool(np.linalg.norm((place - self.environment.shoulder)[:2]) <= REACH)

    def within_reach(self, place: np.ndarray) -> np.ndarray:
        """Return ``place`` (3,) [m], or else the farthest place on the way there."""
        if self.reaches(place):
            return place
        shoulder = self.environment.shoulder[:2]
        way = place[:2] - shoulder
        return np.array([*(shoulder + REACH / np.linalg.norm(way) * way), place[2]])

    def hover(self, over: np.ndarray, height: float) -> np.ndarray:
        """Return the place at ``height`` over a point, both [m]."""
        return np.array([over[0], over[1], height])


def likely(turns: list[float], width: float) -> float:
    """Draw one of ``turns`` [rad], a small one rather than a large; ``width`` [rad] says how."""
    chances = np.exp(-np.abs(turns) / width)
    return turns[int(np.random.choice(len(turns), p=chances / chances.sum()))]
