"""On the robot an observation has two sources: pictures' features, and the arm's joints.

The arm owns time: a measurement of its joints, at t_k, makes the observation s_k, together with
the newest features that were taken by then. Features that are older than allowed are a hole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from poco_ros.core.errors import DataError
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.task import JOINTS_PART


class HoleError(DataError):
    """An observation cannot be made: a part of it is missing or too old; it is named."""


class ObservationJoiner:
    """Joins features and joints by stamp, at every measurement of the joints."""

    def __init__(self, layout: ObservationLayout, max_age: float) -> None:
        """Make observations of ``layout``; features are at most ``max_age`` [s] older."""
        self.layout = layout
        self._max_age = round(max_age * 1e9)
        self._features: deque[tuple[int, Mapping[str, np.ndarray]]] = deque(maxlen=8)
        self.age = float("nan")
        """Of the features in the last observation [s]."""

    def add_features(self, stamp: int, parts: Mapping[str, np.ndarray]) -> None:
        """Take the features of all cameras; ``stamp`` [ns] is that of the oldest picture."""
        if self._features and stamp < self._features[-1][0]:
            self._features.clear()  # the clock went back
        self._features.append((stamp, parts))

    def observe(self, stamp: int, joints: np.ndarray) -> np.ndarray:
        """Return s_k (O,) at ``stamp`` [ns] = t_k, with ``joints`` (J,) [rad, gripper in m].

        Raises:
            HoleError: no features were taken by then, or they are too old.
            DataError: a part is missing, has another size or is not finite.
        """
        found = next(((at, parts) for at, parts in reversed(self._features) if at <= stamp), None)
        if found is None:
            raise HoleError("no features of the cameras have come yet")
        at, parts = found
        self.age = (stamp - at) / 1e9
        if stamp - at > self._max_age:
            raise HoleError(f"the features of the cameras are {self.age:.3f} s old, allowed are"
                            f" {self._max_age / 1e9:g} s")
        return self.layout.assemble({**parts, JOINTS_PART: joints})
