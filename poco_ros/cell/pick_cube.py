"""A scripted hand that picks up the cube, imperfectly: what a demonstrator would do.

:class:`PickCubeScript` only decides motions. What carries them is elsewhere: the leader arm on the
CAN bus (``leader.py``), or a simulation in this process (``simulation.py``).
"""

from __future__ import annotations

import enum

import numpy as np

from poco_ros.cell import kinematics as piper
from poco_ros.cell.config import ScriptConfig
from poco_ros.cell.scene import CubePose

ACTION_DIM = 7
_GRASP_HEIGHT = 0.022  # of the tool point above the table when the fingers close [m]
_CLOSE_TICKS = 7
_LOST = 0.15  # the arm is this far from where it was asked to be: start again from there [rad]


class Phase(enum.Enum):
    """What the hand is doing."""

    APPROACH = "approach"
    DESCEND = "descend"
    CLOSE = "close"
    LIFT = "lift"
    DONE = "done"


def gripper_action(opening: float) -> float:
    """Return the action, -1 closed to 1 open, of an opening [m]."""
    return float(np.clip(2.0 * opening / piper.GRIPPER_STROKE - 1.0, -1.0, 1.0))


def gripper_opening(action: float) -> float:
    """Return the opening [m] of an action, -1 closed to 1 open."""
    return float(np.clip((action + 1.0) / 2.0, 0.0, 1.0)) * piper.GRIPPER_STROKE


class PickCubeScript:
    """One attempt: above the cube, down, close, up.

    The hand misjudges the cube by an error drawn once an attempt, and trembles. Both are functions
    of the random generator, so an attempt can be repeated.
    """

    def __init__(self, config: ScriptConfig, rng: np.random.Generator) -> None:
        self.config = config
        self._rng = rng
        self.phase = Phase.APPROACH
        self._misjudged = rng.normal(0.0, 1.0, 2) * config.position_noise
        self._twisted = rng.normal(0.0, 1.0) * config.yaw_noise
        self._tremor = np.zeros(piper.JOINTS)
        self._reference: np.ndarray | None = None
        self._grasp: np.ndarray | None = None
        self._above: np.ndarray | None = None
        self._closing = 0
        self._opening = 0.0

    def next_action(self, joint_positions: np.ndarray, gripper: float, cube_pose: CubePose
                    ) -> np.ndarray:
        """Return the next action (7,) float32 in [-1, 1]: six joint changes and the gripper.

        Args:
            joint_positions: (6,) measured [rad].
            gripper: measured opening [m].
            cube_pose: where the cube really is; it is looked at once, at the beginning.
        """
        if self._reference is None or np.abs(self._reference - joint_positions).max() > _LOST:
            self._reference = np.array(joint_positions, np.float64)
        if self._above is None:
            self._plan(cube_pose, self._reference)
            self._opening = float(gripper)
        wanted = self._wanted_joints(self._reference)
        change = wanted - self._reference
        change += self._next_tremor() * self.config.joint_step
        step = np.clip(change / self.config.joint_step, -1.0, 1.0)
        self._reference = np.clip(self._reference + step * self.config.joint_step,
                                  piper.JOINT_LOWER, piper.JOINT_UPPER)
        closed = self.phase in (Phase.CLOSE, Phase.LIFT, Phase.DONE)
        wider = self.config.gripper_step * (-1.0 if closed else 1.0)
        self._opening = float(np.clip(self._opening + wider, 0.0, piper.GRIPPER_STROKE))
        return np.append(step, gripper_action(self._opening)).astype(np.float32)

    def _plan(self, cube: CubePose, joints: np.ndarray) -> None:
        place = cube.position[:2] + self._misjudged
        outward = np.arctan2(place[1], place[0])
        quarter = np.pi / 2
        yaw = cube.yaw + self._twisted
        yaw -= quarter * round((yaw - outward) / quarter)
        self._grasp = piper.down_frame(np.array([*place, _GRASP_HEIGHT]), yaw, self.config.tilt)
        above = self._grasp.copy()
        above[2, 3] = self.config.approach_height
        self._above, _ = piper.solve_tool(above, joints)

    def _wanted_joints(self, joints: np.ndarray) -> np.ndarray:
        """Return where the joints should be a tick later, moving on to the next phase in time."""
        assert self._above is not None and self._grasp is not None
        if self.phase is Phase.APPROACH:
            gap = self._above - joints
            longest = float(np.abs(gap).max())
            if longest < 0.03:
                self.phase = Phase.DESCEND
            # the joint with the longest way sets the pace
            return joints + gap * min(1.0, 0.75 * self.config.joint_step / max(longest, 1e-9))
        if self.phase is Phase.DESCEND:
            wanted, left = self._straight(joints, self._grasp)
            if left < 0.004:
                self.phase = Phase.CLOSE
            return wanted
        if self.phase is Phase.CLOSE:
            self._closing += 1
            if self._closing >= _CLOSE_TICKS:
                self.phase = Phase.LIFT
            return joints
        up = self._grasp.copy()
        up[2, 3] = self.config.lift_height
        wanted, left = self._straight(joints, up)
        if left < 0.01:
            self.phase = Phase.DONE
        return wanted if self.phase is Phase.LIFT else joints

    def _straight(self, joints: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, float]:
        """Return joints a tick further on the straight line to ``goal``, and the way left [m]."""
        tool = piper.tool_frame(joints)[:3, 3]
        way = goal[:3, 3] - tool
        left = float(np.linalg.norm(way))
        stride = self.config.speed * self.config.period
        frame = goal.copy()
        frame[:3, 3] = tool + way * min(1.0, stride / max(left, 1e-9))
        return piper.solve_tool(frame, joints, iterations=8)[0], left

    def _next_tremor(self) -> np.ndarray:
        keep = self.config.noise_smoothing
        fresh = self._rng.normal(0.0, self.config.action_noise, piper.JOINTS)
        self._tremor = keep * self._tremor + np.sqrt(1.0 - keep**2) * fresh
        return self._tremor
