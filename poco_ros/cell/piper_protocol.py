"""The frames of a Piper arm, both ways: what programs command and what the arm reports.

Big-endian, 8 bytes each. Units on the bus: 0.001 degree, 0.001 mm, 0.001 N m, 0.001 rad/s; here
rad, m, N m, rad/s.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from poco_ros.cell.frames import Frame

STOP, MODE = 0x150, 0x151
JOINTS_12, JOINTS_34, JOINTS_56, GRIPPER = 0x155, 0x156, 0x157, 0x159
LEADER, ENABLE, QUERY, LIMITS = 0x470, 0x471, 0x472, 0x473
SET_LIMITS, CONFIGURE, ACKNOWLEDGE, ACCELERATION, FIRMWARE = 0x474, 0x475, 0x476, 0x47C, 0x4AF
STATUS, POSE, JOINT_STATE, GRIPPER_STATE = 0x2A1, 0x2A2, 0x2A5, 0x2A8
MOTOR, DRIVER = 0x251, 0x261

JOINT_PAIRS = {JOINTS_12: 0, JOINTS_34: 2, JOINTS_56: 4}
"""Command frame -> index of the first of its two joints."""

STANDBY, CAN_CONTROL, TEACHING = 0, 1, 2
"""Control modes."""
MOVE_JOINTS = 1
NORMAL, EMERGENCY_STOPPED, BEYOND_LIMIT, NO_JOINT_ANSWER, JOINT_ERROR = 0, 1, 4, 5, 9
"""States of the arm."""
ENABLED_BIT, ERROR_BIT, HOMED_BIT = 0x40, 0x20, 0x80

_RAD = np.pi / 180000.0  # of 0.001 degree


def _milli_degrees(angle: float) -> int:
    return round(angle / _RAD)


# -- commands, as programs send them ------------------------------------------------------------
def mode_command(control: int, move: int, speed_percent: int) -> Frame:
    """Choose who controls the arm, how it moves, and at which share of its speed [%]."""
    return Frame(MODE, struct.pack(">BBB5x", control, move, speed_percent))


def joint_commands(joints: np.ndarray) -> list[Frame]:
    """Ask for joint targets (6,) [rad]: three frames."""
    return [Frame(identifier, struct.pack(">ii", _milli_degrees(joints[first]),
                                          _milli_degrees(joints[first + 1])))
            for identifier, first in JOINT_PAIRS.items()]


def gripper_command(opening: float, torque: float, code: int = 1) -> Frame:
    """Ask for an opening [m] with a torque [N m]; code 1 enables, 3 also clears errors."""
    return Frame(GRIPPER, struct.pack(">iHBB", round(opening * 1e6), round(torque * 1e3), code, 0))


def enable_command(motor: int, enabled: bool) -> Frame:
    """Switch a motor, 1 to 6, or all of them with 7 or 255."""
    return Frame(ENABLE, struct.pack(">BB6x", motor, 2 if enabled else 1))


def stop_command(code: int) -> Frame:
    """1: emergency stop, the arm sinks slowly. 2: reset, which cuts the power: the arm falls."""
    return Frame(STOP, struct.pack(">B7x", code))


def teach_command(code: int) -> Frame:
    """1: let a person lead the arm by hand. 2: end that."""
    return Frame(STOP, struct.pack(">BBB5x", 0, 0, code))


def read_joint_pair(data: bytes) -> tuple[float, float]:
    """Return the two joint targets of a command frame [rad]."""
    first, second = struct.unpack(">ii", data)
    return first * _RAD, second * _RAD


def read_gripper(data: bytes) -> tuple[float, float, int, int]:
    """Return opening [m], torque [N m], code and zeroing of a gripper command."""
    opening, torque, code, zero = struct.unpack(">iHBB", data)
    return opening * 1e-6, torque * 1e-3, code, zero


# -- reports, as the arm sends them -------------------------------------------------------------
@dataclass
class ArmReport:
    """What the arm tells of itself."""

    control_mode: int = STANDBY
    arm_state: int = NORMAL
    move_mode: int = MOVE_JOINTS
    teach_state: int = 0
    moving: bool = False
    limit_bits: int = 0
    """Bit i: joint i+1 was asked to leave its limits."""
    silent_bits: int = 0
    """Bit i: joint i+1 does not answer its controller."""
    flange: np.ndarray = field(default_factory=lambda: np.eye(4))
    """(4, 4) pose of the flange in the base frame."""
    joints: np.ndarray = field(default_factory=lambda: np.zeros(6))
    velocities: np.ndarray = field(default_factory=lambda: np.zeros(6))
    torques: np.ndarray = field(default_factory=lambda: np.zeros(7))
    """(7,): six joints [N m], then the gripper [N m]."""
    opening: float = 0.0
    enabled: Sequence[bool] = (False,) * 7
    errors: Sequence[bool] = (False,) * 7


def status_frames(report: ArmReport) -> list[Frame]:
    """0x2A1."""
    return [Frame(STATUS, struct.pack(
        ">8B", report.control_mode, report.arm_state, report.move_mode, report.teach_state,
        report.moving, 0, report.limit_bits, report.silent_bits))]


def pose_frames(report: ArmReport) -> list[Frame]:
    """0x2A2 to 0x2A4: place, then roll, pitch and yaw of the flange."""
    rotation = report.flange[:3, :3]
    pitch = np.arctan2(-rotation[2, 0], np.hypot(rotation[0, 0], rotation[1, 0]))
    roll = np.arctan2(rotation[2, 1], rotation[2, 2])
    yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
    values = [round(float(value) * 1e6) for value in report.flange[:3, 3]]
    values += [_milli_degrees(float(angle)) for angle in (roll, pitch, yaw)]
    return [Frame(POSE + i, struct.pack(">ii", *values[2 * i:2 * i + 2])) for i in range(3)]


def joint_frames(report: ArmReport) -> list[Frame]:
    """0x2A5 to 0x2A8: the joints and the gripper."""
    values = [_milli_degrees(float(angle)) for angle in report.joints]
    frames = [Frame(JOINT_STATE + i, struct.pack(">ii", *values[2 * i:2 * i + 2]))
              for i in range(3)]
    code = HOMED_BIT | (ENABLED_BIT if report.enabled[6] else 0) | (
        ERROR_BIT if report.errors[6] else 0)
    frames.append(Frame(GRIPPER_STATE, struct.pack(
        ">ihBB", round(report.opening * 1e6), _int16(report.torques[6] * 1e3), code, 0)))
    return frames


def motor_frames(report: ArmReport) -> list[Frame]:
    """0x251 to 0x256: speed, current and place of each motor."""
    frames = []
    for index in range(6):
        per_ampere = 1.18125 if index < 3 else 0.95844  # [N m/A], as the SDK converts back
        current = _int16(report.torques[index] / per_ampere * 1e3)
        frames.append(Frame(MOTOR + index, struct.pack(
            ">hhi", _int16(report.velocities[index] * 1e3), current,
            round(float(report.joints[index]) * 1e3))))
    return frames


def driver_frames(report: ArmReport) -> list[Frame]:
    """0x261 to 0x266: voltage, temperatures, state and current of each driver."""
    frames = []
    for index in range(6):
        code = (ENABLED_BIT if report.enabled[index] else 0) | (
            ERROR_BIT if report.errors[index] else 0)
        current = min(abs(int(report.torques[index] * 100)), 0xFFFF)
        frames.append(Frame(DRIVER + index, struct.pack(">HhbBH", 240, 36, 34, code, current)))
    return frames


def limits_frame(joint: int, lower: float, upper: float, speed: float) -> Frame:
    """0x473: limits [rad] and speed [rad/s] of ``joint``, 1 to 6."""
    return Frame(LIMITS, struct.pack(">BhhHx", joint, round(np.degrees(upper) * 10),
                                     round(np.degrees(lower) * 10), round(speed * 1e3)))


def acceleration_frame(joint: int, acceleration: float) -> Frame:
    """0x47C: acceleration [rad/s^2] of ``joint``, 1 to 6."""
    return Frame(ACCELERATION, struct.pack(">BH5x", joint, round(acceleration * 1e3)))


def acknowledge_frame(command: int) -> Frame:
    """0x476: a setting was taken; ``command`` is the identifier of its frame."""
    return Frame(ACKNOWLEDGE, struct.pack(">B7x", command & 0xFF))


def firmware_frames(version: str) -> list[Frame]:
    """0x4AF: hardware and software versions in ASCII, 8 bytes a frame."""
    text = f"H-V1.2-1{version}20260101".encode("ascii")
    text += b" " * (-len(text) % 8)
    return [Frame(FIRMWARE, text[start:start + 8]) for start in range(0, len(text), 8)]


def _int16(value: float) -> int:
    return int(np.clip(round(float(value)), -32768, 32767))
