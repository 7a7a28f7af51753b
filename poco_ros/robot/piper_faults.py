"""What is wrong with a Piper, read from one measurement."""

from __future__ import annotations

from poco_ros.robot import piper_protocol as can_id
from poco_ros.robot.arm import ArmFault
from poco_ros.robot.kinematics import JOINT_NAMES
from poco_ros.robot.piper_feedback import Measurement

_REPORTS = {can_id.GRIPPER: "the gripper", can_id.STATUS: "the status of the arm",
            **{identifier: f"the driver of {name}"
               for identifier, name in zip(can_id.MOTOR_STATE, JOINT_NAMES, strict=True)}}


def find_faults(measured: Measurement, age: float, silence_timeout: float,
                report_timeout: float) -> list[ArmFault]:
    """Return all faults, the gravest first.

    Args:
        measured: newest measurement.
        age: time since it was taken [s].
        silence_timeout: a measurement that is older means that the bus is silent [s].
        report_timeout: what it says of gripper, status or a driver and is older is not known [s].
    """
    faults = []
    if age > silence_timeout:
        faults.append(ArmFault("bus_silent", f"no measurement for {age:.2f} s; is the arm powered"
                               " and its cable in?", mute=True))
    faults += _missing_reports(measured, report_timeout)
    faults += _status_faults(measured)
    faults += _motor_faults(measured)
    return faults


def _missing_reports(measured: Measurement, limit: float) -> list[ArmFault]:
    missing = [identifier for identifier, age in measured.ages.items() if age > limit]
    if not missing:
        return []
    words = ", ".join(f"{_REPORTS[identifier]} (frame 0x{identifier:X})" for identifier in missing)
    # Without the status nobody knows whether a person leads the arm: then he is left alone. Nor
    # is a gripper commanded to where it was before the bus was silent.
    return [ArmFault("report_missing", f"no report of {words} for {limit:g} s, though the joints"
                     " are reported; look for the cause, such as a loose cable, before you go on",
                     mute=can_id.STATUS in missing
                     or can_id.GRIPPER in measured.from_before)]


def _status_faults(measured: Measurement) -> list[ArmFault]:
    faults = []
    status = measured.arm_status
    led = status in can_id.LED_STATUS
    if status and not led:
        words = can_id.ARM_STATUS.get(status, "unknown")
        faults.append(ArmFault("arm_status", f"the arm reports {status}: {words}",
                               mute=status in can_id.DEAF_STATUS,
                               clears=status in can_id.CLEARED_STATUS))
    for index, name in enumerate(JOINT_NAMES):
        if measured.error_bits & 1 << index:
            faults.append(ArmFault("joint_communication", f"{name} does not communicate"))
        if measured.error_bits & 1 << (8 + index):
            faults.append(ArmFault("joint_limit", f"{name} is beyond the arm's own limit",
                                   clears=True))
    if led or measured.control_mode == can_id.TEACHING:
        # Commands would end teaching; whoever guides the arm by hand must be left alone.
        doing = f" ({can_id.ARM_STATUS[status]})" if led else ""
        faults.append(ArmFault("teaching", f"the arm is in teaching mode{doing}; press its button"
                               " to leave it", mute=True))
    return faults


def _motor_faults(measured: Measurement) -> list[ArmFault]:
    faults = []
    off = []
    for name, state in zip(JOINT_NAMES, measured.motor_states, strict=True):
        if state is None or not state & can_id.MOTOR_ENABLED:
            off.append(name)
        faults += [ArmFault("motor", f"{name}: {words}", clears=True)
                   for bit, words in can_id.MOTOR_FAULTS.items() if state and state & bit]
    faults += [ArmFault("gripper", f"gripper: {words}", clears=True)
               for bit, words in can_id.GRIPPER_FAULTS.items() if measured.gripper_state & bit]
    if off:
        faults.append(ArmFault("not_enabled", f"no power on {', '.join(off)}", mute=True,
                               clears=True))
    return faults
