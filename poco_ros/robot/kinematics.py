"""Forward kinematics and limits of the AgileX Piper.

Modified Denavit-Hartenberg parameters (Craig's convention), as in the forward kinematics of
``piper_sdk`` with the 2 degree offset of joints 2 and 3, its default.
"""

from __future__ import annotations

import numpy as np

JOINT_NAMES = ("joint1", "joint2", "joint3", "joint4", "joint5", "joint6")
GRIPPER_NAME = "gripper"

JOINT_LOWER = np.deg2rad([-150.0, 0.0, -170.0, -100.0, -70.0, -120.0])
JOINT_UPPER = np.deg2rad([150.0, 180.0, 0.0, 100.0, 70.0, 120.0])
"""Joint limits of the arm, (6,) [rad]."""
GRIPPER_STROKE = 0.07
"""Widest opening of the gripper [m]."""

_LENGTH = (0.0, 0.0, 0.28503, -0.02198, 0.0, 0.0)
"""a_{i-1} [m]."""
_TWIST = np.deg2rad([0.0, -90.0, 0.0, 90.0, -90.0, 90.0])
"""alpha_{i-1} [rad]."""
_ZERO = np.deg2rad([0.0, -172.22, -102.78, 0.0, 0.0, 0.0])
"""theta_i when the joint reads 0 [rad]."""
_OFFSET = (0.123, 0.0, 0.0, 0.25075, 0.0, 0.091)
"""d_i [m]."""


def _fixed_part(index: int) -> np.ndarray:
    """Return the constant factor of link ``index``: Rot_x(alpha) Trans_x(a) Trans_z(d), (4, 4)."""
    cos, sin = np.cos(_TWIST[index]), np.sin(_TWIST[index])
    offset = _OFFSET[index]
    return np.array([[1.0, 0.0, 0.0, _LENGTH[index]],
                     [0.0, cos, -sin, -sin * offset],
                     [0.0, sin, cos, cos * offset],
                     [0.0, 0.0, 0.0, 1.0]])


_FIXED = np.stack([_fixed_part(index) for index in range(len(JOINT_NAMES))])


def link_frames(positions: np.ndarray) -> np.ndarray:
    """Return the frames of links 1 to 6 in the base frame, (6, 4, 4), for joints (6,) [rad].

    The last one is the flange: its z axis points out of the hand.
    """
    angles = np.asarray(positions, np.float64) + _ZERO
    cos, sin = np.cos(angles), np.sin(angles)
    frames = _FIXED.copy()
    # Right-multiplying by Rot_z(theta) mixes the first two columns only.
    x_axis, y_axis = _FIXED[:, :, 0], _FIXED[:, :, 1]
    frames[:, :, 0] = x_axis * cos[:, None] + y_axis * sin[:, None]
    frames[:, :, 1] = y_axis * cos[:, None] - x_axis * sin[:, None]
    for index in range(1, len(frames)):
        frames[index] = frames[index - 1] @ frames[index]
    return frames


def watch_points(positions: np.ndarray, tool_length: float) -> np.ndarray:
    """Return the points that must stay clear of the table, (4, 3) [m] in the base frame.

    Tool tip (first), flange, wrist (joint 5) and elbow (joint 3); ``tool_length`` [m] is the
    distance from the flange to the finger tips along the flange's z axis.
    """
    frames = link_frames(positions)
    flange = frames[5, :3, 3]
    tip = flange + tool_length * frames[5, :3, 2]
    return np.stack([tip, flange, frames[4, :3, 3], frames[2, :3, 3]])
