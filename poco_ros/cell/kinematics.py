"""Where the arm's links are for given joint angles, and which angles put the tool somewhere.

The arm is an AgileX Piper: modified Denavit-Hartenberg parameters (Craig's convention) as in the
forward kinematics of ``piper_sdk`` with the 2 degree offset of joints 2 and 3.
"""

from __future__ import annotations

import numpy as np

DEGREE = np.pi / 180.0
JOINTS = 6

LINK_LENGTH = np.array([0.0, 0.0, 0.28503, -0.02198, 0.0, 0.0])
"""a_{i-1} [m]."""
LINK_TWIST = np.array([0.0, -90.0, 0.0, 90.0, -90.0, 90.0]) * DEGREE
"""alpha_{i-1} [rad]."""
JOINT_OFFSET = np.array([0.0, -172.22, -102.78, 0.0, 0.0, 0.0]) * DEGREE
"""theta_i at joint angle 0 [rad]."""
LINK_OFFSET = np.array([0.123, 0.0, 0.0, 0.25075, 0.0, 0.091])
"""d_i [m]."""

JOINT_LOWER = np.array([-150.0, 0.0, -170.0, -100.0, -70.0, -120.0]) * DEGREE
JOINT_UPPER = np.array([150.0, 180.0, 0.0, 100.0, 70.0, 120.0]) * DEGREE
"""Joint limits [rad]."""
GRIPPER_STROKE = 0.07
"""Widest opening between the fingers [m]."""
TOOL_LENGTH = 0.125
"""From the flange (frame 6) to the point between the finger tips, along the flange's z [m]."""


def link_frames(joints: np.ndarray) -> np.ndarray:
    """Return the frames of links 1 to 6 in the base frame, (6, 4, 4); ``joints`` (6,) [rad]."""
    theta = np.asarray(joints, np.float64) + JOINT_OFFSET
    cos_t, sin_t = np.cos(theta), np.sin(theta)
    cos_a, sin_a = np.cos(LINK_TWIST), np.sin(LINK_TWIST)
    local = np.zeros((JOINTS, 4, 4))
    local[:, 0, 0], local[:, 0, 1], local[:, 0, 3] = cos_t, -sin_t, LINK_LENGTH
    local[:, 1, 0], local[:, 1, 1] = sin_t * cos_a, cos_t * cos_a
    local[:, 1, 2], local[:, 1, 3] = -sin_a, -sin_a * LINK_OFFSET
    local[:, 2, 0], local[:, 2, 1] = sin_t * sin_a, cos_t * sin_a
    local[:, 2, 2], local[:, 2, 3] = cos_a, cos_a * LINK_OFFSET
    local[:, 3, 3] = 1.0
    for index in range(1, JOINTS):
        local[index] = local[index - 1] @ local[index]
    return local


def tool_frame(joints: np.ndarray) -> np.ndarray:
    """Return the frame of the tool point, (4, 4): the flange's axes, moved along its z."""
    frame = link_frames(joints)[-1].copy()
    frame[:3, 3] += TOOL_LENGTH * frame[:3, 2]
    return frame


def tool_jacobian(frames: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return d(position [m], rotation [rad]) / d(joints) at ``point`` (3,), (6, 6)."""
    axes = frames[:, :3, 2]
    linear = np.cross(axes, point - frames[:, :3, 3])
    return np.concatenate([linear.T, axes.T])


def rotation_error(target: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Return the rotation vector [rad] that turns ``current`` (3, 3) towards ``target``, (3,).

    Half the sum of the axes' cross products: exact in direction, sin(angle) in length.
    """
    return 0.5 * np.cross(current.T, target.T).sum(axis=0)


def down_frame(position: np.ndarray, yaw: float, tilt: float = 0.0) -> np.ndarray:
    """Return a tool frame (4, 4) at ``position`` that points down.

    The fingers open along the horizontal direction ``yaw`` + 90 degrees [rad]; ``tilt`` leans the
    approach direction outwards, away from the base [rad].
    """
    outward = np.arctan2(position[1], position[0])
    approach = np.array([np.sin(tilt) * np.cos(outward), np.sin(tilt) * np.sin(outward),
                         -np.cos(tilt)])
    opening = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    opening -= approach * (approach @ opening)
    opening /= np.linalg.norm(opening)
    frame = np.eye(4)
    frame[:3, 0], frame[:3, 1], frame[:3, 2] = np.cross(opening, approach), opening, approach
    frame[:3, 3] = position
    return frame


def solve_tool(
    target: np.ndarray, start: np.ndarray, iterations: int = 30, damping: float = 0.03,
    rotation_weight: float = 0.3,
) -> tuple[np.ndarray, float]:
    """Find joint angles that bring the tool to ``target`` (4, 4), from ``start`` (6,) [rad].

    Damped least squares within the joint limits: a joint at its limit stops there and the others
    make up for it as far as they can.

    Returns:
        The joint angles (6,) [rad] and the distance [m] that is left.
    """
    joints = np.clip(np.asarray(start, np.float64), JOINT_LOWER, JOINT_UPPER)
    weights = np.array([1.0, 1.0, 1.0, rotation_weight, rotation_weight, rotation_weight])
    distance = np.inf
    for _ in range(iterations):
        frames = link_frames(joints)
        tool = frames[-1, :3, 3] + TOOL_LENGTH * frames[-1, :3, 2]
        turn = rotation_error(target[:3, :3], frames[-1, :3, :3])
        error = np.concatenate([target[:3, 3] - tool, turn])
        distance = float(np.linalg.norm(error[:3]))
        if distance < 2e-4 and np.linalg.norm(turn) < 2e-3:
            break
        jacobian = tool_jacobian(frames, tool) * weights[:, None]
        regular = jacobian @ jacobian.T + damping**2 * np.eye(6)
        step = jacobian.T @ np.linalg.solve(regular, error * weights)
        joints = np.clip(joints + np.clip(step, -0.3, 0.3), JOINT_LOWER, JOINT_UPPER)
    return joints, distance
