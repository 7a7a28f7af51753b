"""Forward kinematics agrees with the arm maker's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from piper_sdk.kinematics import C_PiperForwardKinematics

from poco_ros.robot.kinematics import JOINT_LOWER, JOINT_UPPER, link_frames, watch_points

SDK = C_PiperForwardKinematics(0x01)
joints = st.tuples(*(st.floats(low, high)
                     for low, high in zip(JOINT_LOWER, JOINT_UPPER, strict=True))).map(np.array)


@given(joints)
def test_every_link_is_where_piper_sdk_says(positions: np.ndarray) -> None:
    expected = np.array(SDK.CalFK(list(positions)))[:, :3] * 1e-3
    np.testing.assert_allclose(link_frames(positions)[:, :3, 3], expected, atol=1e-9)


@given(joints)
def test_link_frames_are_rotations(positions: np.ndarray) -> None:
    rotations = link_frames(positions)[:, :3, :3]
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1),
                               np.broadcast_to(np.eye(3), (6, 3, 3)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0, atol=1e-9)


def test_orientation_of_the_flange_is_piper_sdks() -> None:
    positions = np.array([0.3, 1.1, -0.9, 0.4, 0.7, -0.5])
    roll, pitch, yaw = np.deg2rad(SDK.CalFK(list(positions))[-1][3:])
    rotation = link_frames(positions)[-1, :3, :3]
    assert np.arctan2(rotation[2, 1], rotation[2, 2]) == pytest.approx(roll)
    assert -np.arcsin(rotation[2, 0]) == pytest.approx(pitch)
    assert np.arctan2(rotation[1, 0], rotation[0, 0]) == pytest.approx(yaw)


def test_tool_tip_is_a_tools_length_beyond_the_flange() -> None:
    points = watch_points(np.array([0.0, 1.2, -1.0, 0.0, 0.9, 0.0]), 0.135)
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(0.135)
