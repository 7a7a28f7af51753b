"""A smooth way from one pose to others: at rest at both ends, no jump in velocity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poco_ros.robot.arm import ArmCommand

_PEAK = 1.875
"""Peak velocity of the minimum-jerk profile over its mean velocity."""


class Ramp:
    """Minimum-jerk motion through ``poses``, resting at each."""

    def __init__(self, start: ArmCommand, poses: Sequence[ArmCommand], velocity: float) -> None:
        """Plan; ``velocity`` [rad/s] is the peak of the joint with the longest way."""
        self.goal = poses[-1]
        self._legs = []
        previous = start.vector()
        for pose in poses:
            vector = pose.vector()
            way = float(np.abs(vector[:-1] - previous[:-1]).max())
            self._legs.append((previous, vector - previous, max(way * _PEAK / velocity, 0.3)))
            previous = vector
        self.duration = sum(leg[2] for leg in self._legs)
        """[s]"""

    def at(self, elapsed: float) -> ArmCommand:
        """Return the pose ``elapsed`` [s] after the start; the goal when it is over."""
        for start, change, duration in self._legs:
            if elapsed < duration:
                part = max(elapsed, 0.0) / duration
                share = part**3 * (10.0 - 15.0 * part + 6.0 * part**2)
                return ArmCommand.from_vector(start + share * change)
            elapsed -= duration
        return self.goal
