"""The AgileX Piper behind the arm contract."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np

from poco_ros.core.errors import DataError
from poco_ros.robot import piper_protocol as can_id
from poco_ros.robot.arm import Arm, ArmCommand, ArmError, ArmFault, ArmState
from poco_ros.robot.bus_lock import BusLock
from poco_ros.robot.config import PiperConfig
from poco_ros.robot.kinematics import JOINT_LOWER, JOINT_NAMES, JOINT_UPPER
from poco_ros.robot.piper_faults import find_faults
from poco_ros.robot.piper_feedback import LeaderPose, Measurement
from poco_ros.robot.piper_link import PiperLink
from poco_ros.robot.piper_protocol import to_angle_units, to_length_units
from poco_ros.robot.stop_latch import StopLatch

logger = logging.getLogger(__name__)

CONFIRMATION = "the arm will fall"
"""What :meth:`Piper.reset` and :meth:`Piper.power_off` want to hear."""
_ALL_MOTORS = 7
_JOINT_MODE = 0x01
_POSITION_SPEED = 0x00
_GRIPPER_ENABLE, _GRIPPER_ENABLE_CLEAR = 0x01, 0x03
_CLEAR, _KEEP = 0xAE, 0x7FFF  # clear latched errors; leave the acceleration as it is
_ROUNDING = 1e-3  # rad
_OVERHANG = 0.06  # an arm may rest so far beyond its own limits [rad]
_FOREIGN_MEMORY = 1.0  # another controller counts as present for so long after a command [s]


class Piper(Arm):
    """A Piper on any python-can bus. Methods may be called from any thread."""

    joint_names = JOINT_NAMES

    def __init__(self, config: PiperConfig) -> None:
        self.config = config
        self._lock = BusLock(config.lock_folder, config.interface, config.channel)
        self._latch = StopLatch(self._lock.path.with_suffix(".stopped"))
        self._link: PiperLink | None = None
        self._stopped = ""
        self._gate = threading.RLock()
        self._gripper_target: float | None = None
        """Opening that was asked for last [m]; None: others may have moved the fingers since."""

    def open(self) -> None:
        """Connect and wait for the first measurement (see the contract)."""
        if self._link is not None:
            raise ArmError("the arm is open already")
        self._lock.take()
        link = PiperLink(self.config)
        try:
            link.open()
            if link.feedback.wait(self.config.open_timeout) is None:
                raise ArmError(
                    f"bus {link.bus}: no arm answered within {self.config.open_timeout:g} s; is it"
                    f" powered, is its cable in, does the bus run at {self.config.bitrate} bit/s?")
        except BaseException:
            link.close()
            self._lock.give_back()
            raise
        with self._gate:
            self._link, self._gripper_target = link, None
            self._stopped = self._stopped or self._latch.read()
            if self._stopped:
                self._latch.latch(self._stopped)
        logger.info("Piper on %s", link.bus)

    def enable(self) -> None:
        """Power the motors and hold the measured pose (see the contract)."""
        link = self._open_link()
        self._refuse_when_stopped()
        follows = self.config.other_controllers == "leader"
        if not follows:
            self._listen_for_others(link)
        deadline = time.monotonic() + self.config.enable_timeout
        measured = self._fresh(link)
        self._refuse_when_mute(link, measured, powering=True)
        if any(fault.clears and fault.code == "motor" for fault in self._faults(link, measured)):
            link.send(lambda sdk: sdk.JointConfig(_ALL_MOTORS, 0x00, 0x00, _KEEP, _CLEAR))
        opening = to_length_units(measured.gripper)
        torque = round(self.config.gripper_torque * 1000)
        # The SDK's EnablePiper answers with the state before it: the feedback is looked at here.
        while not self._motors_on(measured):
            if time.monotonic() > deadline:
                off = [name for name, state in zip(JOINT_NAMES, measured.motor_states, strict=True)
                       if state is None or not state & can_id.MOTOR_ENABLED]
                raise ArmError(f"the motors of {', '.join(off)} did not come on within"
                               f" {self.config.enable_timeout:g} s; is the emergency switch out?")
            link.send(lambda sdk: sdk.EnableArm(_ALL_MOTORS))
            time.sleep(0.05)
            measured = self._fresh(link)
            self._refuse_when_mute(link, measured, powering=True)
        if follows:
            return  # the leader commands
        # The opening is the measured one: the SDK's default would close the gripper.
        link.send(lambda sdk: sdk.GripperCtrl(opening, torque, _GRIPPER_ENABLE_CLEAR, 0))
        self._gripper_target = measured.gripper
        self.hold()
        self._await_control(link, deadline)

    def read(self) -> ArmState:
        """Return the newest consistent measurement with its faults (see the contract)."""
        link = self._open_link()
        measured = link.feedback.newest
        if measured is None:
            raise ArmError(f"bus {link.bus}: no measurement yet")
        faults = self._faults(link, measured)
        if link.send_failures:
            faults.append(ArmFault("send_failed", f"frames cannot be sent on bus {link.bus}"))
        return ArmState(JOINT_NAMES, measured.positions, measured.gripper, measured.monotonic_ns,
                        measured.wall_ns, self._motors_on(measured), measured.velocities,
                        tuple(faults))

    def command(self, command: ArmCommand) -> None:
        """Ask for a pose (see the contract)."""
        link = self._open_link()
        command.check(len(JOINT_NAMES))
        beyond = np.maximum(JOINT_LOWER - command.positions, command.positions - JOINT_UPPER)
        if beyond.max() > _ROUNDING:
            raise DataError(f"{JOINT_NAMES[int(np.argmax(beyond))]} was asked to go"
                            f" {beyond.max():.4f} rad beyond the arm's own limit")
        if self.config.other_controllers == "leader":
            raise ArmError("arm.other_controllers is 'leader': this program only reads")
        with self._gate:
            self._refuse_when_stopped()
            self._send_pose(link, command)

    def hold(self) -> ArmCommand:
        """Command the measured joints; the gripper keeps its grip unless others had the arm (see
        the contract).
        """
        link = self._open_link()
        measured = link.feedback.newest
        if measured is None:
            raise ArmError(f"bus {link.bus}: no measurement yet, there is no pose to hold")
        # An arm that rests a little outside its limits would refuse that very pose.
        positions = np.clip(measured.positions, JOINT_LOWER, JOINT_UPPER)
        beyond = np.abs(positions - measured.positions)
        if beyond.max() > _OVERHANG:
            raise ArmError(f"{JOINT_NAMES[int(np.argmax(beyond))]} is {beyond.max():.3f} rad"
                           " beyond the arm's own limit, where it cannot be asked to stay; bring"
                           " it inside by hand (teaching mode)")
        with self._gate:
            gripper = measured.gripper if self._gripper_target is None else self._gripper_target
            command = ArmCommand(positions, gripper)
            self._send_pose(link, command)
        return command

    def stop(self, reason: str) -> str:
        """Hold the measured pose and latch (see the contract)."""
        with self._gate:
            self._stopped = self._stopped or reason or "stopped"
            link = self._link
            if link is None:  # latched in this process; on disk as soon as the bus is ours
                return "nothing was sent to the arm, whose bus is not open here"
            what = self._stop_moving(link)
            self._latch.latch(self._stopped)
        logger.warning("stop (%s): %s", reason, what)
        return what

    def release(self) -> None:
        """Lift the latch of :meth:`stop`; nothing moves (see the contract)."""
        with self._gate:
            if self._link is None:
                why = self._stopped or self._latch.read()
                if why:
                    raise ArmError(f"the stop stays latched ({why}): only who has the bus can"
                                   f" release it, and bus {self.config.interface}"
                                   f" {self.config.channel} is not open here; open it first (poco"
                                   " arm configure)")
                return
            self._latch.lift()
            self._stopped = ""

    @property
    def stopped(self) -> str:
        """Why the arm is stopped; empty when it is not."""
        return self._stopped

    def leader(self) -> LeaderPose | None:
        """Return the newest pose that a leader arm on the same bus commands."""
        return self._open_link().feedback.leader

    def reset(self, confirmation: str) -> None:
        """Reset the arm's controller: the motors lose power and THE ARM FALLS.

        Only this lifts the arm's own emergency stop. It is never called by the stack itself.

        Args:
            confirmation: exactly :data:`CONFIRMATION`.
        """
        self._confirm(confirmation, "reset")
        self._open_link().send(lambda sdk: sdk.ResetPiper())

    def power_off(self, confirmation: str) -> None:
        """Cut the power of all motors: THE ARM FALLS. Never called by the stack itself.

        Args:
            confirmation: exactly :data:`CONFIRMATION`.
        """
        self._confirm(confirmation, "power_off")
        self._open_link().send(lambda sdk: sdk.DisableArm(_ALL_MOTORS))

    def close(self) -> None:
        """Disconnect; the motors stay powered and hold."""
        link, self._link = self._link, None
        if link is not None:
            link.close()
        self._lock.give_back()

    @property
    def diagnostics(self) -> dict[str, str]:
        """Return figures about the bus for people, by name."""
        link = self._open_link()
        return {"bus": link.bus, "firmware": link.firmware, "connected": str(link.connected),
                "torn_measurements": str(link.feedback.torn), "garbled_frames": str(link.garbled),
                "reconnections": str(link.reconnections)}

    def _stop_moving(self, link: PiperLink) -> str:
        """Send what stops the arm, and to a led one no more than its own emergency stop; return
        what it does now, in words."""
        what = ""
        try:
            if self.config.stop_mode == "emergency":
                link.send(lambda sdk: sdk.EmergencyStop(0x01))
                what = "the arm's own emergency stop was sent, in which it sinks slowly; only" \
                       " 'poco arm reset' lifts it"
            if self.config.other_controllers == "leader":
                return what or "the leader still leads the arm: let go of it, or use the arm's" \
                               " own emergency stop"
            mute = [str(fault) for fault in self.read().faults if fault.mute]
            if mute:  # nobody listens, or a person or another controller has the arm
                return what or f"nothing was sent to the arm: {'; '.join(mute)}"
            for _ in range(3):  # a lost frame must not undo a stop
                self.hold()
        except ArmError as error:
            return what or f"no hold reached the arm: {error}"
        return what or "the arm holds"

    def _open_link(self) -> PiperLink:
        if self._link is None:
            raise ArmError("the arm is not open")
        return self._link

    def _refuse_when_stopped(self) -> None:
        if self._stopped:
            raise ArmError(f"the arm is stopped ({self._stopped}); release the stop first")

    @staticmethod
    def _confirm(confirmation: str, what: str) -> None:
        if confirmation != CONFIRMATION:
            raise ArmError(f"{what} cuts the power of the motors. Support the arm, then confirm"
                           f" with the words {CONFIRMATION!r}")

    @staticmethod
    def _motors_on(measured: Measurement) -> bool:
        return all(state is not None and state & can_id.MOTOR_ENABLED
                   for state in measured.motor_states)

    def _listen_for_others(self, link: PiperLink) -> None:
        """Refuse to begin on a bus where somebody else commands."""
        since = time.monotonic()
        if since - link.foreign_at >= self.config.listen_time:
            time.sleep(self.config.listen_time)
        if link.foreign_at >= since - self.config.listen_time:
            raise ArmError(f"bus {link.bus}: another controller commands the arm (frame"
                           f" 0x{link.foreign_frame:X}); two of them fight over it: end the other"
                           " one, or read it as a leader with arm.other_controllers: leader")

    def _fresh(self, link: PiperLink) -> Measurement:
        """Return a measurement that is not older than the silence timeout."""
        measured = link.feedback.newest
        if measured is None or (time.monotonic_ns() - measured.monotonic_ns
                                > self.config.silence_timeout * 1e9):
            raise ArmError(f"bus {link.bus} is silent; is the arm powered and its cable in?")
        return measured

    def _faults(self, link: PiperLink, measured: Measurement) -> list[ArmFault]:
        faults = []
        if self.config.other_controllers == "refuse":
            if time.monotonic() - link.foreign_at < _FOREIGN_MEMORY:
                faults.append(ArmFault(
                    "other_controller", f"somebody else commands the arm on bus {link.bus} (frame"
                    f" 0x{link.foreign_frame:X}); end it", mute=True))
            elif link.strangers:
                faults.append(ArmFault("other_controller", link.about_strangers, mute=True))
        age = (time.monotonic_ns() - measured.monotonic_ns) * 1e-9
        faults += find_faults(measured, age, self.config.silence_timeout,
                              self.config.report_timeout)
        if any(fault.mute for fault in faults):
            self._gripper_target = None
        return faults

    def _refuse_when_mute(self, link: PiperLink, measured: Measurement,
                          powering: bool = False) -> None:
        """Raise ArmError when nothing may be sent; motors without power may be powered."""
        for fault in self._faults(link, measured):
            if fault.mute and not (powering and fault.code == "not_enabled"):
                raise ArmError(f"nothing is sent to the arm: {fault}")

    def _await_control(self, link: PiperLink, deadline: float) -> None:
        """Wait until the arm obeys the bus and what enabling lifts is lifted."""
        while True:
            measured = self._fresh(link)
            left = [fault for fault in self._faults(link, measured) if fault.clears]
            if measured.control_mode == can_id.CAN_CONTROL and not left:
                return
            if time.monotonic() > deadline:
                if left:
                    raise ArmError(f"still there: {'; '.join(map(str, left))}")
                raise ArmError(f"the arm stays in control mode {measured.control_mode}, not under"
                               " control of the bus; leave teaching mode and switch other"
                               " controllers off")
            time.sleep(0.02)
            self.hold()

    def _send_pose(self, link: PiperLink, command: ArmCommand) -> None:
        measured = link.feedback.newest
        if measured is not None:
            self._refuse_when_mute(link, measured)
        joints = [to_angle_units(float(angle)) for angle in command.positions]
        opening = to_length_units(float(np.clip(command.gripper, 0.0, None)))
        torque = round(self.config.gripper_torque * 1000)
        # The mode goes with every pose: an arm that was restarted has forgotten it.
        link.send(
            lambda sdk: sdk.MotionCtrl_2(can_id.CAN_CONTROL, _JOINT_MODE,
                                         self.config.speed_percent, _POSITION_SPEED),
            lambda sdk: sdk.JointCtrl(*joints),
            lambda sdk: sdk.GripperCtrl(opening, torque, _GRIPPER_ENABLE, 0))
        self._gripper_target = command.gripper
