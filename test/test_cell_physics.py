"""What the simulated hardware does: it keeps its speeds and forces, and falls without power."""

from __future__ import annotations

import numpy as np
import pytest

from poco_ros.cell import kinematics as piper
from poco_ros.cell.config import CellConfig, SceneConfig
from poco_ros.cell.drive import SetPoint
from poco_ros.cell.scene import CONTROL_PERIOD, Scene


@pytest.fixture
def scene() -> Scene:
    return Scene(SceneConfig())


def test_a_held_pose_stays_within_a_tenth_of_a_degree(scene: Scene) -> None:
    scene.place_arm(np.array([0.4, 1.6, -1.2, 0.3, 0.5, -0.6]))
    before = scene.joint_positions
    scene.run(2.0)
    assert np.abs(scene.joint_positions - before).max() < np.radians(0.1)


def test_arm_reaches_what_is_commanded_and_never_exceeds_its_speed(scene: Scene) -> None:
    target = np.array([0.8, 1.9, -1.5, 0.4, 0.2, -0.5])
    scene.set_speed(0.4)
    scene.command_joints(target)
    fastest = 0.0
    for _ in range(400):
        scene.step()
        fastest = max(fastest, np.abs(scene.joint_velocities).max())
    assert np.abs(scene.joint_positions - target).max() < 5e-3
    assert fastest < 0.4 * scene.config.joint_speed * 1.05


def test_targets_beyond_the_limits_stop_at_them(scene: Scene) -> None:
    scene.command_joints(np.full(6, 10.0))
    scene.run(3.0)
    assert (scene.joint_positions <= piper.JOINT_UPPER + 0.01).all()


def test_set_point_obeys_speed_and_acceleration_whatever_is_asked() -> None:
    rng = np.random.default_rng(0)
    drive = SetPoint(np.zeros(3), 1.5, 6.0)
    before = drive.velocity.copy()
    for step in range(2000):
        if step % 40 == 0:
            drive.target[:] = rng.uniform(-2, 2, 3)
        drive.advance(CONTROL_PERIOD)
        assert np.abs(drive.velocity).max() <= 1.5 + 1e-9
        assert np.abs(drive.velocity - before).max() <= 6.0 * CONTROL_PERIOD + 1e-9
        before = drive.velocity.copy()


def test_set_point_arrives_and_overshoots_by_less_than_a_fiftieth_of_a_degree() -> None:
    rng = np.random.default_rng(1)
    drive = SetPoint(np.zeros(3), 1.5, 6.0)
    for _ in range(10):
        start, target = drive.position.copy(), rng.uniform(-2, 2, 3)
        drive.target[:] = target
        low, high = np.minimum(start, target) - 3e-4, np.maximum(start, target) + 3e-4
        for _ in range(800):
            drive.advance(CONTROL_PERIOD)
            assert (drive.position >= low).all() and (drive.position <= high).all()
        np.testing.assert_allclose(drive.position, target, atol=1e-6)


def test_without_power_the_arm_falls_and_with_power_it_stays_where_it_is(scene: Scene) -> None:
    scene.place_arm(np.array([0.0, 1.2, -1.0, 0.0, 0.3, 0.0]))
    height = scene.tool_position[2]
    scene.set_power([False] * 7)
    scene.run(0.4)
    fallen = scene.tool_position[2]
    assert fallen < height - 0.03
    scene.set_power([True] * 7)
    caught = scene.joint_positions
    scene.run(1.0)
    assert np.abs(scene.joint_positions - caught).max() < 0.2  # it brakes, it does not jump back
    assert scene.tool_position[2] < height - 0.03


def test_grip_force_is_bounded_by_what_was_commanded(scene: Scene) -> None:
    scene.place_arm(np.asarray(scene.config.home))
    scene.data.qpos[8:11] = scene.tool_position
    scene.set_grip_force(12.0)
    scene.command_gripper(0.0)
    scene.run(0.5)
    assert np.abs(scene.motor_torques[6]) <= 12.0 + 1e-9


def test_cube_is_scattered_within_its_region_by_the_seed_alone() -> None:
    config = CellConfig().scene
    scenes = Scene(config), Scene(config)
    generators = np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(50):
        for scene, rng in zip(scenes, generators, strict=True):
            scene.scatter_cube(rng)
        first, second = scenes[0].cube, scenes[1].cube
        np.testing.assert_array_equal(first.position, second.position)
        assert config.cube_x[0] <= first.position[0] <= config.cube_x[1]
        assert config.cube_y[0] <= first.position[1] <= config.cube_y[1]
        assert config.cube_yaw[0] - 1e-9 <= first.yaw <= config.cube_yaw[1] + 1e-9


def test_a_clumsy_hand_never_makes_the_cube_fly(scene: Scene) -> None:
    rng = np.random.default_rng(1)
    for _ in range(6):
        scene.place_arm(np.array([0.0, 1.75, -0.9, 0.0, 0.7, 0.0]))
        scene.scatter_cube(rng)
        target = scene.joint_positions
        for _ in range(60):
            target = target + rng.normal(0.0, 0.08, 6)
            scene.command_joints(target)
            scene.command_gripper(rng.uniform(0.0, 0.07))
            scene.run(1 / 15)
            assert np.isfinite(scene.data.qpos).all()
            assert np.linalg.norm(scene.data.qvel[8:11]) <= 2.3
