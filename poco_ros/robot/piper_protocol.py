"""The frames of the Piper's CAN protocol that the control loop itself reads.

Integers are big-endian: 0.001 degree, 0.001 mm, 0.001 rad/s.
"""

from __future__ import annotations

import math

STATUS = 0x2A1
JOINTS_12, JOINTS_34, JOINTS_56 = 0x2A5, 0x2A6, 0x2A7
GRIPPER = 0x2A8
MOTOR_SPEED = range(0x251, 0x257)
MOTOR_STATE = range(0x261, 0x267)

STOP = 0x150
LEADER_JOINTS_12, LEADER_JOINTS_34, LEADER_JOINTS_56 = 0x155, 0x156, 0x157
LEADER_GRIPPER = 0x159
COMMANDS = frozenset((*range(0x150, 0x160), 0x470, 0x471, 0x474, 0x475, 0x47A))
"""Frames that only a controller of the arm sends."""

CAN_CONTROL = 0x01
TEACHING = 0x02

ARM_STATUS = {
    0x01: "its emergency stop is active; support the arm, then run 'poco arm reset', which alone"
          " lifts it and lets the arm fall",
    0x02: "it finds no solution for the pose", 0x03: "it is at a singular point",
    0x04: "a target angle exceeds its limit", 0x05: "a joint does not communicate",
    0x06: "the brake of a joint is not released", 0x07: "it has collided",
    0x08: "it was dragged too fast", 0x09: "a joint is in error", 0x0A: "another error",
    0x0B: "it records teaching", 0x0C: "it replays teaching; end that with its button",
    0x0D: "teaching is paused",
    0x0E: "its controller is too hot", 0x0F: "its brake resistor is too hot",
}
"""Meanings of the status byte that are not 0 (normal)."""
LED_STATUS = frozenset({0x0B, 0x0D})
"""Those in which a person leads the arm by hand."""
DEAF_STATUS = frozenset({0x01, 0x0C})
"""Those in which it is not for a program to command it."""
CLEARED_STATUS = frozenset({0x02, 0x03, 0x04, 0x07, 0x09})
"""Those that a new, possible target or the clearing of the motors' errors lifts."""

MOTOR_ENABLED = 1 << 6
MOTOR_FAULTS = {1 << 0: "supply voltage too low", 1 << 1: "motor too hot",
                1 << 2: "too much current", 1 << 3: "driver too hot", 1 << 4: "collision",
                1 << 5: "driver error", 1 << 7: "stalled"}
GRIPPER_FAULTS = {bit: words for bit, words in MOTOR_FAULTS.items() if bit < 1 << 4} | {
    1 << 4: "sensor error", 1 << 5: "driver error"}

_UNITS_PER_RAD = 180_000.0 / math.pi
_UNITS_PER_M = 1_000_000.0


def to_angle_units(radians: float) -> int:
    """Return an angle [rad] in units of 0.001 degree."""
    return round(radians * _UNITS_PER_RAD)


def from_angle_units(units: int) -> float:
    """Return an angle of 0.001 degree units in rad."""
    return units / _UNITS_PER_RAD


def to_length_units(metres: float) -> int:
    """Return a length [m] in units of 0.001 mm."""
    return round(metres * _UNITS_PER_M)


def from_length_units(units: int) -> float:
    """Return a length of 0.001 mm units in m."""
    return units / _UNITS_PER_M
