"""What sits between a commanded target and a motor: a set point that obeys speed and acceleration.

An arm's controller does not hand a target to its motors at once. It moves a set point towards it,
never faster than the commanded share of the joint speed, slowing down in time to stop there.
"""

from __future__ import annotations

import numpy as np


class SetPoint:
    """A set point per axis that chases a target. Units are those of the axes (rad or m)."""

    def __init__(self, start: np.ndarray, speed: float, acceleration: float) -> None:
        self.position = np.array(start, np.float64)
        self.velocity = np.zeros_like(self.position)
        self.target = self.position.copy()
        self.speed = speed
        """Greatest speed [1/s]."""
        self._acceleration = acceleration

    def jump(self, position: np.ndarray) -> None:
        """Put set point and target on ``position`` at once and at rest."""
        self.position[:] = position
        self.target[:] = position
        self.velocity[:] = 0.0

    def advance(self, duration: float) -> np.ndarray:
        """Move for ``duration`` [s]; return the new position."""
        gap = self.target - self.position
        gain = self._acceleration * duration
        # the greatest speed from which the axis still stops at its target, a tick's travel early
        reach = np.maximum(np.abs(gap) - np.abs(self.velocity) * duration / 2, 0.0)
        wanted = np.minimum(np.sqrt(2 * self._acceleration * reach), self.speed)
        wanted = np.minimum(wanted, np.abs(gap) / duration) * np.sign(gap)
        self.velocity += np.clip(wanted - self.velocity, -gain, gain)
        self.position += self.velocity * duration
        return self.position
