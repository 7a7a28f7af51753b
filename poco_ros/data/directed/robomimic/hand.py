"""The hand of the Panda, pointing down: moves to poses by the controller's small steps."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
from scipy.spatial.transform import Rotation

from poco_ros.core.robomimic import ACTION_DIM, POSITION_STEP, ROTATION_STEP
from poco_ros.data.directed.robomimic.operators import Style
from sim_bridge.robosuite_env import RobosuiteEnvironment

Script = Generator[np.ndarray, None, bool]
"""Yields actions (7,); its value says whether it came to a good end."""
Position = np.ndarray | Callable[[], np.ndarray]
"""(3,) [m], or what looks it up anew at every step."""

OPEN, CLOSED = -1.0, 1.0
"""Actions of the gripper."""
DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""The hand at yaw 0, world frame: its x axis, along which the fingers open, is the world's y."""
GAIN = 1.6
"""The arm covers about this part of a step's reverse; without it, it would lag behind."""
TURNING = 0.4
"""The noise of the yaw, relative to that of the position; both in shares of a step."""
STILL = 8
"""Steps in which the fingers close or open."""


class Hand:
    """Makes the actions of one episode."""

    def __init__(self, environment: RobosuiteEnvironment, style: Style, noise: np.ndarray) -> None:
        """Take control; ``noise`` (L, 4) is added to the steps of x, y, z and yaw, in turn."""
        self._environment, self._style = environment, style
        self._noise, self._steps = noise, 0
        self.grip = OPEN

    @property
    def position(self) -> np.ndarray:
        """Where the point between the fingers is, (3,) [m], world frame."""
        return self._environment.observed["robot0_eef_pos"]

    @property
    def yaw(self) -> float:
        """Which way the fingers open, [rad] from the world's y axis, about the world's z axis."""
        opening = self._environment.hand_rotation()[:, 0]
        return float(np.arctan2(-opening[0], opening[1]))

    @property
    def opening(self) -> float:
        """The distance between the fingers [m]."""
        return float(np.abs(self._environment.observed["robot0_gripper_qpos"]).sum())

    def toward(self, target: np.ndarray, yaw: float, speed: float = 1.0) -> np.ndarray:
        """Return the action (7,) that brings the hand nearer to ``target`` (3,) [m] and ``yaw``.

        ``speed`` is a share of the operator's own.
        """
        way = GAIN * (target - self.position) / POSITION_STEP
        most = speed * self._style.speed
        way *= min(1.0, most / max(float(np.abs(way).max()), 1e-9))
        wanted = Rotation.from_euler("z", yaw).as_matrix() @ DOWN
        turn = Rotation.from_matrix(wanted @ self._environment.hand_rotation().T).as_rotvec()
        turn = np.clip(GAIN * turn / ROTATION_STEP, -most, most)
        action = np.zeros(ACTION_DIM)
        noise = self._noise[min(self._steps, len(self._noise) - 1)]
        action[:3], action[3:6], action[6] = way + noise[:3], turn, self.grip
        action[5] += TURNING * noise[3]
        self._steps += 1
        return np.clip(action, -1.0, 1.0)

    def go(self, target: Position, yaw: float, *, speed: float = 1.0, within: float = 0.012,
           most: int = 70, going_well: Callable[[], bool] | None = None) -> Script:
        """Move to ``target`` and ``yaw``, until there or for ``most`` steps.

        False as soon as ``going_well`` says no.
        """
        for _ in range(most):
            place = target() if callable(target) else target
            turned = abs(np.angle(np.exp(1j * (yaw - self.yaw))))
            if np.linalg.norm(place - self.position) < within and turned < 0.08:
                return True
            if going_well is not None and not going_well():
                return False
            yield self.toward(place, yaw, speed)
        return True

    def set_grip(self, grip: float, steps: int = STILL) -> Script:
        """Close or open the fingers where the hand is."""
        self.grip = grip
        place, yaw = self.position.copy(), self.yaw
        for _ in range(steps):
            yield self.toward(place, yaw)
        return True

    def rest(self) -> Script:
        """Perhaps pause, as this operator does between two moves."""
        if np.random.random() < self._style.operator.pauses:
            place, yaw = self.position.copy(), self.yaw
            for _ in range(np.random.randint(3, 11)):
                yield self.toward(place, yaw)
        return True
