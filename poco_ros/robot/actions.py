"""The meaning of an action: normalised values to a pose, and a pose back to normalised values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poco_ros.robot.arm import ArmCommand
from poco_ros.robot.config import ActionConfig
from poco_ros.robot.joints import in_order


class ActionMapping:
    """Actions (A,) in [-1, 1], A = J + 1: change of each joint, then the gripper's opening.

    A joint's change is relative to the pose that was commanded last, not to the measured one: a
    pose that sags under gravity would otherwise creep away. The gripper is absolute, -1 closed
    and 1 open.
    """

    def __init__(self, config: ActionConfig, joint_names: Sequence[str]) -> None:
        self.joint_delta = in_order(config.joint_delta, joint_names, "joint_delta")
        """(J,) [rad] at action 1."""
        self._closed = config.gripper_closed
        self._stroke = config.gripper_open - config.gripper_closed
        self.widest = config.gripper_open
        """Opening at action 1 [m]."""
        self.action_dim = len(self.joint_delta) + 1

    def pose(self, action: np.ndarray, previous: ArmCommand) -> ArmCommand:
        """Return the pose that ``action`` (A,) asks for after ``previous``."""
        action = np.asarray(action, np.float64)
        opening = self._closed + 0.5 * (action[-1] + 1.0) * self._stroke
        return ArmCommand(previous.positions + action[:-1] * self.joint_delta, float(opening))

    def action(self, pose: ArmCommand, previous: ArmCommand) -> np.ndarray:
        """Return the action (A,) float32 in [-1, 1] that leads from ``previous`` to ``pose``.

        It is the inverse of :meth:`pose`; what lies beyond the range of an action is cut off.
        """
        return np.clip(self.unbounded(pose, previous), -1.0, 1.0)

    def unbounded(self, pose: ArmCommand, previous: ArmCommand) -> np.ndarray:
        """Return :meth:`action` before it is cut to [-1, 1], (A,) float32."""
        joints = (pose.positions - previous.positions) / self.joint_delta
        gripper = 2.0 * (pose.gripper - self._closed) / self._stroke - 1.0
        return np.append(joints, gripper).astype(np.float32)
