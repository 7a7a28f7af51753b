"""Consistent measurements out of the Piper's stream of CAN frames.

Three frames carry the joints of one instant. The SDK's getters hand out live objects that a reader
can find half updated; here a measurement counts only when its three frames came in order and
close together, and it is handed over whole.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from poco_ros.robot import piper_protocol as can_id
from poco_ros.robot.piper_protocol import from_angle_units, from_length_units

_TWO_INTS = struct.Struct(">ii")
_GRIPPER = struct.Struct(">ihB")
_SPEED = struct.Struct(">h")
_WILD_ANGLE = 720_000  # 0.001 degree: no joint turns that far, the frame is noise
_MOTORS = 6
_REPORTS = (can_id.GRIPPER, can_id.STATUS, *can_id.MOTOR_STATE)


@dataclass(frozen=True, eq=False)
class Measurement:
    """All that the frames said up to one consistent set of joints."""

    positions: np.ndarray
    """(6,) [rad]."""
    velocities: np.ndarray | None
    """(6,) [rad/s]; None before every motor has reported."""
    gripper: float
    """[m]."""
    gripper_state: int
    monotonic_ns: int
    wall_ns: int
    motor_states: tuple[int | None, ...]
    """Status byte of each motor; None before it has reported."""
    control_mode: int | None
    arm_status: int
    error_bits: int
    """Low byte: joints that do not communicate; high byte: joints beyond their limits."""
    ages: Mapping[int, float]
    """How old what it says of gripper, status and motors is, by identifier of the frame [s]; of a
    frame that has not come since the bus was silent, how long the joints have come again."""
    from_before: frozenset[int]
    """Those frames that have not come since: what they say is of before the silence."""


@dataclass(frozen=True, eq=False)
class LeaderPose:
    """What a leader arm on the same bus commands."""

    positions: np.ndarray
    """(6,) [rad]."""
    gripper: float | None
    """[m]; None when it commands no gripper."""
    monotonic_ns: int


class JointSet:
    """Collects the three joint frames of one instant."""

    def __init__(self, first: int, spread: float) -> None:
        self._first = first
        self._spread = spread
        self._angles = [0] * 6
        self._next = 0
        self._began = 0.0
        self.torn = 0
        """Sets that were given up: a frame was lost, out of order, late or wild."""

    def feed(self, arbitration_id: int, data: bytes, bus_time: float) -> np.ndarray | None:
        """Take one of the three frames; return (6,) [rad] when it completes a set."""
        part = arbitration_id - self._first
        if part != self._next and self._next != 0:
            self.torn += 1
            self._next = 0
        if part != self._next:
            return None  # the middle or the end of a set whose beginning was lost
        angles = _TWO_INTS.unpack(data)
        if part == 0:
            self._began = bus_time
        if abs(bus_time - self._began) > self._spread or max(map(abs, angles)) > _WILD_ANGLE:
            self.torn += 1
            self._next = 0
            return None
        self._angles[2 * part:2 * part + 2] = angles
        self._next = (part + 1) % 3
        if self._next:
            return None
        return np.array([from_angle_units(angle) for angle in self._angles])


class PiperFeedback:
    """Takes frames on one thread, gives measurements on any.

    At first and after a silence of the bus, which is one where it is a fault, there is no
    measurement before gripper, status and motors have been reported too: somebody may have taken
    the arm meanwhile. What is not reported within the report timeout counts as missing from then
    on.
    """

    def __init__(self, snapshot_spread: float, silence_timeout: float,
                 report_timeout: float) -> None:
        self._silence_ns, self._report_timeout = round(silence_timeout * 1e9), report_timeout
        self._joints = JointSet(can_id.JOINTS_12, snapshot_spread)
        # A leader's frames come from software, their spread is not the firmware's.
        self._leader_joints = JointSet(can_id.LEADER_JOINTS_12, max(snapshot_spread, 0.02))
        self._speeds: list[float | None] = [None] * _MOTORS
        self._motor_states: list[int | None] = [None] * _MOTORS
        self._gripper: tuple[float, int] | None = None
        self._control_mode: int | None = None
        self._arm_status = 0
        self._error_bits = 0
        self._reported: dict[int, int] = {}
        """Since when each of the frames is awaited that are not of the joints [ns]."""
        self._from_before: set[int] = set()
        """Those that have not come since the joints come (again)."""
        self._joints_since: int | None = None
        """When the joints came (again) [ns]."""
        self._joints_at = 0
        self._leader_gripper: float | None = None
        self._changed = threading.Condition()
        self._newest: Measurement | None = None
        self._leader: LeaderPose | None = None

    @property
    def newest(self) -> Measurement | None:
        """The newest consistent measurement, None before the first."""
        return self._newest

    @property
    def leader(self) -> LeaderPose | None:
        """The newest pose that a leader commanded, None when there is none."""
        return self._leader

    @property
    def torn(self) -> int:
        """Measurements that were not consistent and were left out."""
        return self._joints.torn

    def wait(self, timeout: float) -> Measurement | None:
        """Return the newest measurement, waiting for the first [s]; None when none came."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None, timeout)
            return self._newest

    def feed(self, arbitration_id: int, data: bytes, bus_time: float, monotonic_ns: int,
             wall_ns: int) -> bool:
        """Take one frame; return False when it is not one that this class reads.

        Args:
            arbitration_id: of the frame.
            data: its payload.
            bus_time: when the bus interface says that it came [s]; only differences count.
            monotonic_ns: when this program got it.
            wall_ns: the same on the wall clock.
        """
        if can_id.JOINTS_12 <= arbitration_id <= can_id.JOINTS_56:
            if len(data) == 8:
                positions = self._joints.feed(arbitration_id, data, bus_time)
                if positions is not None and self._all_is_reported(monotonic_ns) \
                        and self._gripper is not None:
                    self._publish(positions, self._gripper, monotonic_ns, wall_ns)
            return True
        if arbitration_id == can_id.GRIPPER and len(data) >= 7:
            opening, _, state = _GRIPPER.unpack_from(data)
            self._gripper = (from_length_units(opening), state)
            self._note_report(arbitration_id, monotonic_ns)
            return True
        if arbitration_id in can_id.MOTOR_SPEED and len(data) == 8:
            self._speeds[arbitration_id - can_id.MOTOR_SPEED.start] = (
                _SPEED.unpack_from(data)[0] * 1e-3)
            return True
        if arbitration_id in can_id.MOTOR_STATE and len(data) == 8:
            self._motor_states[arbitration_id - can_id.MOTOR_STATE.start] = data[5]
            self._note_report(arbitration_id, monotonic_ns)
            return True
        if arbitration_id == can_id.STATUS and len(data) == 8:
            self._control_mode, self._arm_status = data[0], data[1]
            self._error_bits = data[6] << 8 | data[7]
            self._note_report(arbitration_id, monotonic_ns)
            return True
        return False

    def feed_leader(self, arbitration_id: int, data: bytes, bus_time: float,
                    monotonic_ns: int) -> None:
        """Take a command frame of another controller, as a leader arm sends them."""
        if can_id.LEADER_JOINTS_12 <= arbitration_id <= can_id.LEADER_JOINTS_56 and len(data) == 8:
            positions = self._leader_joints.feed(arbitration_id, data, bus_time)
            if positions is not None:
                self._leader = LeaderPose(positions, self._leader_gripper, monotonic_ns)
        elif arbitration_id == can_id.LEADER_GRIPPER and len(data) == 8:
            self._leader_gripper = from_length_units(_GRIPPER.unpack_from(data)[0])

    def _note_report(self, arbitration_id: int, monotonic_ns: int) -> None:
        self._reported[arbitration_id] = monotonic_ns
        self._from_before.discard(arbitration_id)

    def _all_is_reported(self, monotonic_ns: int) -> bool:
        """Take note of a set of joints; return whether the rest is known too, or is late."""
        if self._joints_since is None or monotonic_ns - self._joints_at > self._silence_ns:
            self._joints_since = monotonic_ns
            self._reported = dict.fromkeys(_REPORTS, monotonic_ns)
            self._from_before = set(_REPORTS)
        self._joints_at = monotonic_ns
        return not self._from_before \
            or (monotonic_ns - self._joints_since) * 1e-9 > self._report_timeout

    def _publish(self, positions: np.ndarray, gripper: tuple[float, int], monotonic_ns: int,
                 wall_ns: int) -> None:
        speeds = [speed for speed in self._speeds if speed is not None]
        velocities = np.array(speeds) if len(speeds) == _MOTORS else None
        ages = {identifier: (monotonic_ns - came) * 1e-9
                for identifier, came in self._reported.items()}
        measurement = Measurement(positions, velocities, gripper[0], gripper[1], monotonic_ns,
                                  wall_ns, tuple(self._motor_states), self._control_mode,
                                  self._arm_status, self._error_bits, ages,
                                  frozenset(self._from_before))
        before, self._newest = self._newest, measurement
        if before is None:
            with self._changed:
                self._changed.notify_all()
