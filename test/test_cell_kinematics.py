"""The emulated arm is where a Piper would be: its kinematics and limits are the SDK's."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from piper_sdk.kinematics.piper_fk import C_PiperForwardKinematics
from piper_sdk.piper_param.piper_param_manager import C_PiperParamManager

from poco_ros.cell import kinematics as piper
from poco_ros.cell.config import CellConfig, SceneConfig
from poco_ros.cell.scene import Scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(SceneConfig())


def random_joints(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(piper.JOINT_LOWER, piper.JOINT_UPPER, (count, 6))


def test_flange_is_where_the_sdk_says_within_a_hundredth_of_a_millimetre(scene: Scene) -> None:
    sdk = C_PiperForwardKinematics(dh_is_offset=1)
    for joints in random_joints(100):
        expected = np.array(sdk.CalFK(joints.tolist())[5][:3]) / 1000.0
        scene.data.qpos[:6] = joints
        mujoco.mj_kinematics(scene.model, scene.data)
        np.testing.assert_allclose(scene.data.body("link6").xpos, expected, atol=1e-5)
        np.testing.assert_allclose(piper.link_frames(joints)[-1][:3, 3], expected, atol=1e-5)


def test_tool_of_the_model_is_the_tool_of_the_kinematics(scene: Scene) -> None:
    for joints in random_joints(50):
        scene.data.qpos[:6] = joints
        mujoco.mj_kinematics(scene.model, scene.data)
        frame = piper.tool_frame(joints)
        np.testing.assert_allclose(scene.data.site("tool").xpos, frame[:3, 3], atol=1e-6)
        np.testing.assert_allclose(scene.data.body("link6").xmat.reshape(3, 3), frame[:3, :3],
                                   atol=1e-6)


def test_joint_limits_are_those_of_the_sdk() -> None:
    limits = C_PiperParamManager().GetPiperParamOrigin()
    for index in range(6):
        expected = limits["joint_limit"][f"j{index + 1}"]
        assert piper.JOINT_LOWER[index] == pytest.approx(expected[0], abs=2e-3)
        assert piper.JOINT_UPPER[index] == pytest.approx(expected[1], abs=2e-3)
    assert limits["gripper_range"] == [0.0, piper.GRIPPER_STROKE]


def test_jacobian_is_the_derivative_of_the_tool() -> None:
    for joints in random_joints(20):
        frames = piper.link_frames(joints)
        jacobian = piper.tool_jacobian(frames, piper.tool_frame(joints)[:3, 3])
        for index in range(6):
            nudge = np.zeros(6)
            nudge[index] = 1e-6
            moved = (piper.tool_frame(joints + nudge) - piper.tool_frame(joints - nudge)) / 2e-6
            np.testing.assert_allclose(jacobian[:3, index], moved[:3, 3], atol=1e-6)


def test_every_place_where_the_cube_is_put_can_be_reached_within_the_limits() -> None:
    config = CellConfig()
    home = np.asarray(config.scene.home)
    for x in np.linspace(*config.scene.cube_x, 5):
        for y in np.linspace(*config.scene.cube_y, 5):
            for yaw in (-0.7, 0.0, 0.7):
                for height in (0.02, config.script.approach_height, config.script.lift_height):
                    target = piper.down_frame(np.array([x, y, height]), np.arctan2(y, x) + yaw,
                                              config.script.tilt)
                    joints, distance = piper.solve_tool(target, home, iterations=60)
                    assert distance < 1e-3
                    assert (joints >= piper.JOINT_LOWER - 1e-9).all()
                    assert (joints <= piper.JOINT_UPPER + 1e-9).all()
