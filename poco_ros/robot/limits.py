"""Limits of a single tick, in joint space.

A limit leads a requested pose back towards the pose that was commanded before. All limits keep
one law: every value of the result lies between its value in ``previous`` and its value in the
request. ``previous`` itself is allowed, and each of these limits is a box, so limits can be
applied one after the other and none of them undoes another. An arm that was held outside its
ranges is led back into them, whatever is asked, and the limits that follow bound that motion too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class Limit(ABC):
    """One thing that a command must not do."""

    name: str
    """What the limit is called in reasons and counters."""

    @abstractmethod
    def apply(self, requested: np.ndarray, previous: np.ndarray, elapsed: float,
              scale: float = 1.0) -> np.ndarray:
        """Return the nearest allowed pose, (J+1,) [rad, ..., m].

        Args:
            requested: pose asked for, (J+1,), finite.
            previous: pose commanded a tick before, (J+1,).
            elapsed: time since then [s].
            scale: share of the full step that is allowed now, more than 0 to 1 (soft start).
        """


class PositionLimit(Limit):
    """Joints and gripper stay within their ranges."""

    name = "position limit"

    def __init__(self, lower: np.ndarray, upper: np.ndarray) -> None:
        """Take the ranges, (J+1,) each [rad, ..., m]."""
        self.lower, self.upper = lower, upper

    def apply(self, requested: np.ndarray, previous: np.ndarray, elapsed: float,
              scale: float = 1.0) -> np.ndarray:
        """Cut every value to its range."""
        return self.clip(requested)

    def clip(self, pose: np.ndarray) -> np.ndarray:
        """Return a pose (J+1,) with every value in its range."""
        return np.clip(pose, self.lower, self.upper)


class StepLimit(Limit):
    """No value changes by more than its step in one tick."""

    name = "step limit"

    def __init__(self, step: np.ndarray) -> None:
        """Take the largest changes, (J+1,) [rad, ..., m]."""
        self.step = step

    def apply(self, requested: np.ndarray, previous: np.ndarray, elapsed: float,
              scale: float = 1.0) -> np.ndarray:
        """Cut every change to its step."""
        reach = self.step * scale
        return np.clip(requested, previous - reach, previous + reach)


class VelocityLimit(Limit):
    """No joint is asked to be faster than its velocity; the direction of the change is kept.

    Time that passed beyond one period (a missed tick) is not made up for. A tick that comes soon
    after a late one has half a period of grace, so that jitter is not taken for haste.
    """

    name = "velocity limit"

    def __init__(self, velocity: np.ndarray, period: float) -> None:
        """Take the joints' velocities (J,) [rad/s] and the period of a tick [s]."""
        self.velocity = velocity
        self.period = period

    def apply(self, requested: np.ndarray, previous: np.ndarray, elapsed: float,
              scale: float = 1.0) -> np.ndarray:
        """Shrink the joints' change as a whole until the fastest of them keeps its velocity."""
        reach = self.velocity * min(max(2.0 * elapsed, 0.0), self.period) * scale
        change = requested[:-1] - previous[:-1]
        excess = float((np.abs(change) / np.maximum(reach, 1e-12)).max())
        if excess <= 1.0:
            return requested
        return np.append(previous[:-1] + change / excess, requested[-1])
