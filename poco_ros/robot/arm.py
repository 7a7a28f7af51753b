"""The contract of an arm: read a consistent state, command a pose, hold, stop.

SI units at this seam, whatever the hardware speaks. Joints are known by name; arrays are in the
order of ``joint_names``. An arm never moves by itself: not when it is opened, enabled, released
or closed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from poco_ros.core.errors import DataError, PocoError


class ArmError(PocoError):
    """The arm cannot do what was asked; the message says why and what to do."""


@dataclass(frozen=True)
class ArmFault:
    """Something that is wrong with the arm right now."""

    code: str
    """One word for tables and counters, such as ``bus_silent``."""
    detail: str
    """What is wrong, and what to do, in words."""
    mute: bool = False
    """Nothing may be sent while it lasts: nobody listens, or a person or another controller has
    the arm."""
    clears: bool = False
    """:meth:`Arm.enable` may lift it: a motor without power, an error that is latched."""

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


@dataclass(frozen=True, eq=False)
class ArmCommand:
    """A pose to be in."""

    positions: np.ndarray
    """(J,) float64 [rad]."""
    gripper: float
    """Opening between the fingers [m]."""

    def vector(self) -> np.ndarray:
        """Return joints and gripper as one vector, (J+1,) [rad, ..., m]."""
        return np.append(self.positions, self.gripper)

    @classmethod
    def from_vector(cls, vector: np.ndarray) -> ArmCommand:
        """Read :meth:`vector` back."""
        return cls(np.array(vector[:-1], np.float64), float(vector[-1]))

    def check(self, joints: int) -> None:
        """Raise DataError unless there are ``joints`` positions and all values are finite."""
        if self.positions.shape != (joints,):
            raise DataError(f"command has positions of shape {self.positions.shape}, expected"
                            f" ({joints},): a partial command is refused")
        if not np.isfinite(self.vector()).all():
            raise DataError(f"command is not finite: {self.positions}, gripper {self.gripper}")


@dataclass(frozen=True, eq=False)
class ArmState:
    """One consistent measurement: all values are of the same instant."""

    joint_names: tuple[str, ...]
    positions: np.ndarray
    """(J,) float64 [rad]."""
    gripper: float
    """Opening between the fingers [m]."""
    monotonic_ns: int
    """When it was measured, monotonic clock [ns]; ages are counted with it."""
    wall_ns: int
    """When it was measured, wall clock [ns]; for stamps only, it may jump."""
    enabled: bool
    """All motors are powered."""
    velocities: np.ndarray | None = None
    """(J,) float64 [rad/s], where the arm reports them."""
    faults: tuple[ArmFault, ...] = ()

    def as_command(self) -> ArmCommand:
        """Return the measured pose as a command."""
        return ArmCommand(self.positions.copy(), self.gripper)


class Arm(ABC):
    """One arm. ``open`` first; ``close`` is allowed at any time and leaves the motors as they are.
    """

    joint_names: tuple[str, ...]
    """J names, in the order of every array."""

    @abstractmethod
    def open(self) -> None:
        """Connect and wait for the first measurement.

        Raises:
            ArmError: no such bus, nobody answers, or another controller owns the bus.
        """

    @abstractmethod
    def enable(self) -> None:
        """Power the motors, clear latched errors and hold the measured pose.

        It returns when all motors are on and the arm obeys.

        Raises:
            ArmError: they do not come on, it is stopped, or the arm has a mute fault other than
                motors without power; then nothing is sent.
        """

    @abstractmethod
    def read(self) -> ArmState:
        """Return the newest consistent measurement, with the faults of this moment.

        It never waits. When the bus is silent it returns the last measurement with a fault.

        Raises:
            ArmError: there was no measurement yet, or the arm is not open.
        """

    @abstractmethod
    def command(self, command: ArmCommand) -> None:
        """Ask for a pose; returns at once.

        Raises:
            ArmError: not open, stopped, a mute fault, or the command could not be sent.
            DataError: a joint is missing, a value is not finite, or beyond the arm's own limits.
        """

    @abstractmethod
    def hold(self) -> ArmCommand:
        """Command the measured joints; return what was commanded.

        The gripper keeps its grip, unless there was a mute fault since it was commanded: then its
        opening is the measured one too.

        Raises:
            ArmError: not open, a mute fault, or the command could not be sent.
        """

    @abstractmethod
    def stop(self, reason: str) -> str:
        """Hold the measured pose and latch: commands are refused until :meth:`release`.

        The latch outlives the process. It may be called from any thread and at any time; it never
        raises because of the bus.

        Returns:
            What the arm does now, in words: where others have it, or nobody listens, no hold.
        """

    @abstractmethod
    def release(self) -> None:
        """Lift the latch of :meth:`stop`; nothing moves.

        Raises:
            ArmError: it cannot be lifted; the arm stays stopped.
        """

    @property
    @abstractmethod
    def stopped(self) -> str:
        """Why the arm is stopped; empty when it is not."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect; the motors stay powered and hold."""
