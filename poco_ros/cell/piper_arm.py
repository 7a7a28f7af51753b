"""The controller inside the emulated arm: obeys command frames, moves the scene, reports."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from poco_ros.cell import kinematics as piper
from poco_ros.cell import piper_protocol as protocol
from poco_ros.cell.config import CanConfig
from poco_ros.cell.frames import Frame
from poco_ros.cell.scene import CONTROL_PERIOD, Scene

_ALL = range(7)
_REPLY_DELAY = 0.01  # the SDK empties its version buffer just after it has asked [s]
_REACHED = 0.005  # a target counts as reached so near [rad]
_TORQUE_ARM = 0.035  # from grip force [N] to motor torque [N m]


class PiperArm:
    """Speaks Piper's protocol for the arm in a :class:`Scene`.

    Frames go in through :meth:`receive`; :meth:`tick` is called every ``CONTROL_PERIOD`` before
    the scene steps and returns the frames that are due. The motors start without power.
    """

    def __init__(self, scene: Scene, config: CanConfig) -> None:
        self.scene, self.config = scene, config
        self.report_delay = 0.0
        """Fault: everything is sent so much later [s]."""
        self.blocked_joints: set[int] = set()
        """Fault: these joints, 0 to 5, do not answer: they hold and obey nothing."""
        self._report = protocol.ArmReport(enabled=[False] * 7, errors=[False] * 7)
        self._switching: dict[int, tuple[bool, float]] = {}
        self._target = scene.joint_positions
        self._opening, self._torque = scene.gripper_opening, 1.0
        self._ticks = 0
        self._replies: deque[tuple[float, Frame]] = deque()
        self._delayed: deque[tuple[float, list[Frame]]] = deque()
        # one kind after the other, so that they do not all fall due in the same tick
        self._schedule: list[tuple[int, int, Callable[[protocol.ArmReport], list[Frame]]]] = []
        for phase, (rate, frames) in enumerate((
                (config.joint_rate, protocol.joint_frames),
                (config.status_rate, protocol.status_frames),
                (config.pose_rate, protocol.pose_frames),
                (config.motor_rate, protocol.motor_frames),
                (config.driver_rate, protocol.driver_frames))):
            self._schedule.append((max(1, round(1 / (rate * CONTROL_PERIOD))), phase, frames))
        scene.set_power(self._report.enabled)

    @property
    def enabled(self) -> tuple[bool, ...]:
        """Which motors have power: six joints and the gripper."""
        return tuple(self._report.enabled)

    @property
    def delayed(self) -> int:
        """How many bursts of frames are held back by a fault."""
        return len(self._delayed)

    @property
    def led_by_hand(self) -> bool:
        """Whether the arm gives way to a person's hand (drag teaching)."""
        return self._report.control_mode == protocol.TEACHING

    def break_motor(self, joint: int) -> None:
        """Fault: the driver of ``joint``, 0 to 5, fails and cuts its power."""
        self._report.errors = [error or index == joint for index, error in
                               enumerate(self._report.errors)]
        self._report.arm_state = protocol.JOINT_ERROR
        self._switch([joint], False, 0.0)

    def repair_motors(self) -> None:
        """End that fault: no driver fails any more; the motors stay off until switched on."""
        self._clear_errors(_ALL)

    # -- commands -----------------------------------------------------------------------------
    def receive(self, frame: Frame) -> None:
        """Obey one frame; what the arm does not know, or is too short, it ignores."""
        identifier, data = frame
        if len(data) < 8:
            return
        if identifier in protocol.JOINT_PAIRS:
            self._take_joints(protocol.JOINT_PAIRS[identifier], data)
        elif identifier == protocol.GRIPPER:
            self._take_gripper(data)
        elif identifier == protocol.MODE:
            self._take_mode(data)
        elif identifier == protocol.ENABLE:
            motors = range(data[0] - 1, data[0]) if 1 <= data[0] <= 6 else _ALL
            if 6 in motors and not self._report.enabled[6]:
                self._opening = self.scene.gripper_opening  # no surprise when it comes on
            self._switch(motors, data[1] == 2, self.config.enable_time)
        elif identifier == protocol.STOP:
            self._take_stop(data)
        elif identifier == protocol.QUERY and 1 <= data[0] <= 6:
            self._answer_query(data)
        elif identifier == protocol.FIRMWARE:
            self._reply(*protocol.firmware_frames(self.config.firmware))
        elif identifier == protocol.CONFIGURE:
            if data[5] == 0xAE:  # clear the errors of one joint, or of all with 7
                self._clear_errors(range(data[0] - 1, data[0]) if data[0] <= 6 else _ALL)
            self._reply(protocol.acknowledge_frame(identifier))
        elif identifier in (protocol.SET_LIMITS, protocol.LEADER):
            self._reply(protocol.acknowledge_frame(identifier))

    def _take_joints(self, first: int, data: bytes) -> None:
        if self._report.control_mode != protocol.CAN_CONTROL or (
                self._report.move_mode != protocol.MOVE_JOINTS):
            return
        for index, angle in enumerate(protocol.read_joint_pair(data), first):
            beyond = not (piper.JOINT_LOWER[index] - 1e-4 <= angle
                          <= piper.JOINT_UPPER[index] + 1e-4)
            self._report.limit_bits &= ~(1 << index)
            if beyond:  # the arm says so and stays
                self._report.limit_bits |= 1 << index
            else:
                self._target[index] = angle

    def _take_gripper(self, data: bytes) -> None:
        opening, torque, code, _ = protocol.read_gripper(data)
        if code in (2, 3):
            self._clear_errors([6])
        self._switch([6], code in (1, 3), 0.0)
        self._opening, self._torque = opening, min(torque, 5.0)

    def _take_mode(self, data: bytes) -> None:
        if self._report.arm_state == protocol.EMERGENCY_STOPPED:
            return
        if data[0] == protocol.CAN_CONTROL and self._report.control_mode != data[0]:
            self._target = self.scene.arm_drive.position.copy()
        self._report.control_mode = data[0]
        self._report.move_mode = data[1]
        self._report.teach_state = 0
        self.scene.set_speed(min(data[2], 100) / 100.0)

    def _take_stop(self, data: bytes) -> None:
        if data[0] == 1:
            self._report.arm_state = protocol.EMERGENCY_STOPPED
            self._report.control_mode = protocol.STANDBY
            self.scene.hold()
            self.scene.sink()  # slowly, with damping (piper_sdk, issue 66)
        elif data[0] == 2:  # reset: power is cut, all errors are forgotten
            self._report.limit_bits = 0
            self._clear_errors(_ALL)
            self._report.arm_state = protocol.NORMAL
            self._report.control_mode = protocol.STANDBY
            self._switch(_ALL, False, 0.0)
        if data[2] == 1 and self._report.arm_state == protocol.NORMAL:
            self._report.control_mode = protocol.TEACHING
            self._report.teach_state = 1
        elif data[2] == 2 and self._report.control_mode == protocol.TEACHING:
            self._report.control_mode = protocol.STANDBY
            self._report.teach_state = 2
            self.scene.hold()

    def _answer_query(self, data: bytes) -> None:
        index = data[0] - 1
        if data[1] == 1:
            self._reply(protocol.limits_frame(
                data[0], piper.JOINT_LOWER[index], piper.JOINT_UPPER[index],
                self.scene.config.joint_speed))
        elif data[1] == 2:
            self._reply(protocol.acceleration_frame(data[0],
                                                    self.scene.config.joint_acceleration))

    def _switch(self, motors: range | list[int], enabled: bool, delay: float) -> None:
        for index in motors:
            pending = self._switching.get(index, (self._report.enabled[index], 0.0))
            if pending[0] != enabled and not (enabled and self._report.errors[index]):
                self._switching[index] = (enabled, self.scene.time + delay)

    def _clear_errors(self, motors: range | list[int]) -> None:
        self._report.errors = [error and index not in motors
                               for index, error in enumerate(self._report.errors)]
        if not any(self._report.errors) and self._report.arm_state == protocol.JOINT_ERROR:
            self._report.arm_state = protocol.NORMAL

    def _reply(self, *frames: Frame) -> None:
        self._replies.extend((self.scene.time + _REPLY_DELAY, frame) for frame in frames)

    # -- time ---------------------------------------------------------------------------------
    def tick(self) -> list[Frame]:
        """Let the motors follow what was commanded; return the frames that are due now."""
        now = self.scene.time
        self._switch_motors(now)
        if self._report.control_mode == protocol.CAN_CONTROL and (
                self._report.arm_state != protocol.EMERGENCY_STOPPED):
            target = self._target.copy()
            for index in range(piper.JOINTS):
                if index in self.blocked_joints or not self._report.enabled[index]:
                    target[index] = self.scene.arm_drive.position[index]
            self.scene.command_joints(target)
        if self._report.enabled[6] and not self.led_by_hand:
            self.scene.command_gripper(self._opening)
            self.scene.set_grip_force(self._torque * self.scene.config.gripper_force)
        frames = self._due_frames()
        while self._replies and self._replies[0][0] <= now:
            frames.append(self._replies.popleft()[1])
        if not self._delayed and self.report_delay <= 0.0:
            return frames
        if frames:
            self._delayed.append((now + self.report_delay, frames))
        released: list[Frame] = []
        while self._delayed and self._delayed[0][0] <= now:
            released += self._delayed.popleft()[1]
        return released

    def _switch_motors(self, now: float) -> None:
        enabled = list(self._report.enabled)
        for index, (wanted, when) in list(self._switching.items()):
            if when <= now:
                enabled[index] = wanted
                del self._switching[index]
        if enabled != list(self._report.enabled):
            self.scene.set_power(enabled)
            fresh = [index for index in range(piper.JOINTS)
                     if enabled[index] and not self._report.enabled[index]]
            self._target[fresh] = self.scene.joint_positions[fresh]
            self._report.enabled = enabled

    def _due_frames(self) -> list[Frame]:
        self._ticks += 1
        due = [frames for divider, phase, frames in self._schedule
               if (self._ticks + phase) % divider == 0]
        if not due:
            return []
        self._measure()
        return [frame for frames in due for frame in frames(self._report)]

    def _measure(self) -> None:
        report, scene = self._report, self.scene
        report.joints = scene.joint_positions
        report.velocities = scene.joint_velocities
        report.torques = scene.motor_torques
        report.torques[6] *= _TORQUE_ARM
        report.opening = scene.gripper_opening
        report.flange = piper.link_frames(report.joints)[-1]
        report.moving = bool(np.abs(self._target - report.joints).max() > _REACHED)
        report.silent_bits = sum(1 << index for index in self.blocked_joints)
        if report.arm_state in (protocol.NORMAL, protocol.BEYOND_LIMIT, protocol.NO_JOINT_ANSWER):
            report.arm_state = (
                protocol.NO_JOINT_ANSWER if self.blocked_joints else
                protocol.BEYOND_LIMIT if report.limit_bits else protocol.NORMAL)
