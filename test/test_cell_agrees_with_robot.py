"""The cell's defaults fit the robot's shipped settings, so that the two work together as they are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cell_support import quick_config, running, wait_until

from poco_ros.cell import kinematics as piper
from poco_ros.cell.config import CellConfig
from poco_ros.cell.pick_cube import gripper_opening
from poco_ros.core.config import load
from poco_ros.robot.actions import ActionMapping
from poco_ros.robot.arm import ArmCommand
from poco_ros.robot.config import RobotConfig
from poco_ros.robot.joints import in_order
from poco_ros.robot.key_source import CharacterDecoder
from poco_ros.robot.keypad import KeypadConfig
from poco_ros.robot.kinematics import JOINT_NAMES
from poco_ros.robot.piper import Piper

ROBOT = Path(__file__).resolve().parent.parent / "config/robot"
CELL = CellConfig()


@pytest.fixture(scope="module")
def robot() -> RobotConfig:
    return load(RobotConfig, ROBOT / "piper.yaml")


def test_home_is_one_pose(robot: RobotConfig) -> None:
    pose = in_order(robot.homing.pose, JOINT_NAMES, "homing.pose")
    np.testing.assert_allclose(pose, CELL.scene.home)


def test_an_action_means_the_same(robot: RobotConfig) -> None:
    mapping = ActionMapping(robot.actions, JOINT_NAMES)
    action = np.array([1.0, -1.0, 0.5, 0.0, 0.25, -0.5, 0.3])
    before = np.asarray(CELL.scene.home)
    pose = mapping.pose(action, ArmCommand(before, 0.0))
    np.testing.assert_allclose(pose.positions, before + action[:6] * CELL.script.joint_step)
    assert pose.gripper == pytest.approx(gripper_opening(action[6]))


def test_the_hands_motions_pass_the_safety_filter(robot: RobotConfig) -> None:
    assert 1 / robot.control.rate == pytest.approx(CELL.script.period)
    assert min(robot.safety.joint_step.values()) >= CELL.script.joint_step
    slowest = min(robot.safety.joint_velocity.values())
    assert slowest * CELL.script.period >= CELL.script.joint_step
    assert robot.safety.gripper_step >= CELL.script.gripper_step


def test_every_key_of_the_operator_means_what_he_means() -> None:
    keys = load(KeypadConfig, ROBOT / "keypad.yaml").keys
    for meaning in ("success", "failure", "discard", "ready", "stop"):
        typed = getattr(CELL.operator, f"{meaning}_key").encode()
        [name] = CharacterDecoder().decode(typed)
        found = keys.meaning(name)
        assert found is not None and found.value == meaning


def test_gripper_and_joints_reach_as_far(robot: RobotConfig) -> None:
    assert robot.actions.gripper_open == piper.GRIPPER_STROKE
    for index, name in enumerate(JOINT_NAMES):
        low, high = robot.safety.joint_limits[name]
        assert piper.JOINT_LOWER[index] - 1e-3 <= low < high <= piper.JOINT_UPPER[index] + 1e-3


def test_the_arm_driver_reads_the_emulated_arm_over_its_bus(tmp_path: Path,
                                                            robot: RobotConfig) -> None:
    with running(quick_config(tmp_path, cameras=[])) as cell:
        # the cell computes in this very process: on a busy machine it is late with its frames
        arm = Piper(replace(robot.arm, interface="poco_cell", channel=str(cell.hub.path),
                            silence_timeout=0.8, lock_folder=tmp_path / "locks"))
        arm.open()
        try:
            assert [fault.code for fault in arm.read().faults] == ["not_enabled"]
            arm.enable()
            target = arm.read().positions + np.array([0.2, 0.3, -0.3, 0.1, 0.1, -0.2])
            arm.command(ArmCommand(target, 0.05))
            wait_until(lambda: np.abs(arm.read().positions - target).max() < 0.01, "it arrives")
            assert not arm.read().faults
        finally:
            arm.close()
