"""Every frame of the emulated arm means to the SDK's parser what was meant, and the reverse."""

from __future__ import annotations

from typing import Any

import can
import numpy as np
import pytest
from piper_sdk.kinematics.piper_fk import C_PiperForwardKinematics
from piper_sdk.piper_msgs.msg_v2 import (
    ArmMsgGripperCtrl,
    ArmMsgJointCtrl,
    ArmMsgMotionCtrl_2,
    ArmMsgType,
    PiperMessage,
)
from piper_sdk.protocol.protocol_v2 import C_PiperParserV2

from poco_ros.cell import kinematics as piper
from poco_ros.cell import piper_protocol as protocol
from poco_ros.cell.config import CanConfig, SceneConfig
from poco_ros.cell.frames import Frame, pack, unpack
from poco_ros.cell.piper_arm import PiperArm
from poco_ros.cell.scene import Scene

JOINTS = np.array([0.35, 1.21, -0.87, -1.1, 0.63, 1.57])


def parsed(*frames: Frame) -> PiperMessage:
    """Return what the SDK reads out of frames."""
    parser, message = C_PiperParserV2(), PiperMessage()
    for frame in frames:
        assert parser.DecodeMessage(can.Message(arbitration_id=frame.identifier, data=frame.data,
                                                is_extended_id=False), message)
    return message


def encoded(kind: Any, **parts: Any) -> Frame:
    """Return the frame that the SDK makes of a command."""
    message, frame = PiperMessage(), can.Message(is_extended_id=False)
    message.type_ = kind
    for name, value in parts.items():
        setattr(message, name, value)
    assert C_PiperParserV2().EncodeMessage(message, frame)
    return Frame(frame.arbitration_id, bytes(frame.data))


def report() -> protocol.ArmReport:
    return protocol.ArmReport(
        control_mode=1, arm_state=5, moving=True, limit_bits=0b000100, silent_bits=0b100000,
        flange=piper.link_frames(JOINTS)[-1], joints=JOINTS,
        velocities=np.array([0.5, -0.25, 0.0, 1.0, -1.5, 3.0]),
        torques=np.array([2.0, -4.0, 1.0, 0.5, -0.5, 0.25, 0.9]), opening=0.0425,
        enabled=(True, True, False, True, True, True, True),
        errors=(False, True, False, False, False, False, False))


def test_joints_and_gripper() -> None:
    message = parsed(*protocol.joint_frames(report()))
    for index in range(6):
        angle = getattr(message.arm_joint_feedback, f"joint_{index + 1}")
        assert np.radians(angle / 1000) == pytest.approx(JOINTS[index], abs=1e-5)
    assert message.gripper_feedback.grippers_angle == 42500
    assert message.gripper_feedback.grippers_effort == 900
    assert message.gripper_feedback.foc_status.driver_enable_status
    assert not message.gripper_feedback.foc_status.driver_error_status


def test_status() -> None:
    status = parsed(*protocol.status_frames(report())).arm_status_msgs
    assert (int(status.ctrl_mode), int(status.arm_status), int(status.mode_feed)) == (1, 5, 1)
    assert int(status.motion_status) == 1
    errors = status.err_status
    assert errors.joint_3_angle_limit and errors.communication_status_joint_6
    assert not errors.joint_1_angle_limit and not errors.communication_status_joint_3


def test_pose_is_the_sdks_own_forward_kinematics() -> None:
    pose = parsed(*protocol.pose_frames(report())).arm_end_pose
    expected = C_PiperForwardKinematics(dh_is_offset=1).CalFK(JOINTS.tolist())[5]
    shown = [pose.X_axis, pose.Y_axis, pose.Z_axis, pose.RX_axis, pose.RY_axis, pose.RZ_axis]
    np.testing.assert_allclose(np.array(shown) / 1000, expected, atol=0.01)  # mm and degrees


def test_motors_and_drivers() -> None:
    source = report()
    message = parsed(*protocol.motor_frames(source), *protocol.driver_frames(source))
    for index in range(6):
        fast = getattr(message, f"arm_high_spd_feedback_{index + 1}")
        fast.can_id = 0x251 + index
        assert fast.motor_speed == round(source.velocities[index] * 1000)
        assert fast.cal_effort() == pytest.approx(source.torques[index] * 1000, abs=2)
        assert fast.pos == round(JOINTS[index] * 1000)
        slow = getattr(message, f"arm_low_spd_feedback_{index + 1}")
        assert slow.vol == 240 and slow.foc_temp == 36 and slow.motor_temp == 34
        assert slow.foc_status.driver_enable_status == source.enabled[index]
        assert slow.foc_status.driver_error_status == source.errors[index]


def test_limits_and_accelerations() -> None:
    limits = parsed(protocol.limits_frame(3, -2.9670, 0.0, 3.0)
                    ).arm_feedback_current_motor_angle_limit_max_spd
    assert (limits.motor_num, limits.min_angle_limit, limits.max_angle_limit,
            limits.max_joint_spd) == (3, -1700, 0, 3000)
    acceleration = parsed(protocol.acceleration_frame(5, 12.0)
                          ).arm_feedback_current_motor_max_acc_limit
    assert (acceleration.joint_motor_num, acceleration.max_joint_acc) == (5, 12000)


def test_commands_are_those_that_the_sdk_sends() -> None:
    milli = [round(angle) for angle in np.degrees(JOINTS) * 1000]
    command = ArmMsgJointCtrl(*milli)
    kinds = (ArmMsgType.PiperMsgJointCtrl_12, ArmMsgType.PiperMsgJointCtrl_34,
             ArmMsgType.PiperMsgJointCtrl_56)
    assert protocol.joint_commands(JOINTS) == [encoded(kind, arm_joint_ctrl=command)
                                               for kind in kinds]
    assert protocol.mode_command(1, 1, 60) == encoded(
        ArmMsgType.PiperMsgMotionCtrl_2, arm_motion_ctrl_2=ArmMsgMotionCtrl_2(1, 1, 60))
    assert protocol.gripper_command(0.03, 1.5, 3) == encoded(
        ArmMsgType.PiperMsgGripperCtrl, arm_gripper_ctrl=ArmMsgGripperCtrl(30000, 1500, 3, 0))


class TestArm:
    """The controller in the arm, frame by frame and without a bus."""

    @pytest.fixture
    def arm(self) -> PiperArm:
        return PiperArm(Scene(SceneConfig()), CanConfig())

    def live(self, arm: PiperArm, seconds: float) -> list[Frame]:
        frames = []
        for _ in range(round(seconds / 0.005)):
            frames += arm.tick()
            arm.scene.step()
        return frames

    def switch_on(self, arm: PiperArm) -> None:
        arm.receive(protocol.enable_command(7, True))
        arm.receive(protocol.mode_command(protocol.CAN_CONTROL, protocol.MOVE_JOINTS, 100))
        self.live(arm, 0.1)
        assert all(arm.enabled)

    def command(self, arm: PiperArm, joints: np.ndarray) -> None:
        for frame in protocol.joint_commands(joints):
            arm.receive(frame)

    def test_reports_come_at_their_rates(self, arm: PiperArm) -> None:
        frames = self.live(arm, 2.0)
        counts = {identifier: sum(frame.identifier == identifier for frame in frames)
                  for identifier in (0x2A5, 0x2A8, 0x2A1, 0x2A2, 0x251, 0x261)}
        assert counts == {0x2A5: 400, 0x2A8: 400, 0x2A1: 100, 0x2A2: 40, 0x251: 80, 0x261: 40}

    def test_a_command_without_power_or_in_standby_moves_nothing(self, arm: PiperArm) -> None:
        before = arm.scene.arm_drive.target.copy()
        self.command(arm, JOINTS)
        self.live(arm, 0.2)
        np.testing.assert_array_equal(arm.scene.arm_drive.target, before)

    def test_it_goes_where_it_is_told(self, arm: PiperArm) -> None:
        self.switch_on(arm)
        self.command(arm, JOINTS)
        arm.receive(protocol.gripper_command(0.02, 1.0))
        self.live(arm, 3.0)
        np.testing.assert_allclose(arm.scene.joint_positions, JOINTS, atol=3e-3)
        assert arm.scene.gripper_opening == pytest.approx(0.02, abs=1e-3)

    def test_a_target_beyond_the_limits_is_reported_and_not_obeyed(self, arm: PiperArm) -> None:
        self.switch_on(arm)
        target = arm.scene.joint_positions
        target[4] = 1.5
        self.command(arm, target)
        frames = self.live(arm, 0.5)
        status = parsed(next(f for f in reversed(frames) if f.identifier == 0x2A1))
        assert int(status.arm_status_msgs.arm_status) == protocol.BEYOND_LIMIT
        assert status.arm_status_msgs.err_status.joint_5_angle_limit
        assert arm.scene.joint_positions[4] < 1.3

    def test_emergency_stop_lets_the_arm_sink_and_only_a_reset_which_cuts_the_power_lifts_it(
            self, arm: PiperArm) -> None:
        self.switch_on(arm)
        self.command(arm, JOINTS)
        self.live(arm, 0.1)
        arm.receive(protocol.stop_command(1))
        self.live(arm, 0.1)
        height = arm.scene.tool_position[2]
        arm.receive(protocol.mode_command(protocol.CAN_CONTROL, protocol.MOVE_JOINTS, 100))
        self.command(arm, JOINTS)
        self.live(arm, 0.5)
        sunk = height - arm.scene.tool_position[2]
        assert 0.005 < sunk < 0.1, "slowly, and no command moves it"
        assert np.abs(arm.scene.joint_velocities).max() < 0.5
        assert all(arm.enabled)
        height = arm.scene.tool_position[2]
        arm.receive(protocol.stop_command(2))
        self.live(arm, 0.3)
        assert not any(arm.enabled)
        assert height - arm.scene.tool_position[2] > sunk, "it falls"

    def test_a_broken_motor_stays_off_until_its_error_is_cleared(self, arm: PiperArm) -> None:
        self.switch_on(arm)
        arm.break_motor(2)
        self.live(arm, 0.1)
        arm.receive(protocol.enable_command(7, True))
        self.live(arm, 0.1)
        assert arm.enabled == (True, True, False, True, True, True, True)
        arm.receive(Frame(protocol.CONFIGURE, bytes([3, 0, 0, 0, 0, 0xAE, 0, 0])))
        arm.receive(protocol.enable_command(3, True))
        self.live(arm, 0.1)
        assert all(arm.enabled)

    def test_frames_that_are_too_short_or_unknown_are_ignored(self, arm: PiperArm) -> None:
        rng = np.random.default_rng(0)
        for _ in range(500):
            arm.receive(Frame(int(rng.integers(0, 0x800)), rng.bytes(int(rng.integers(0, 8)))))
        for _ in range(500):
            arm.receive(Frame(int(rng.integers(0, 0x800)), rng.bytes(8)))
        self.live(arm, 0.2)
        assert np.isfinite(arm.scene.joint_positions).all()


def test_packets_carry_frames_unchanged_and_broken_ones_are_refused() -> None:
    frames = [Frame(0x155, bytes(range(8))), Frame(0x7FF, b""), Frame(0x2A5, b"abc")]
    packet = pack(frames, 12.5, 3)
    assert unpack(packet) == (12.5, 3, frames)
    for broken in (packet[:-1], b"", packet[:5]):
        with pytest.raises(ValueError, match="whole"):
            unpack(broken)
