"""The Cartesian limit: the arm stays above the table and its tool in a box."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from poco_ros.robot.config import WorkspaceConfig
from poco_ros.robot.kinematics import watch_points
from poco_ros.robot.limits import Limit

_HALVINGS = 12


class WorkspaceLimit(Limit):
    """Tool, flange, wrist and elbow stay above the table, the tool in its box.

    An arm that is outside already (folded at rest, say) may move as long as it does not go
    further out. A change that leads out is first tried without the joints that lead out, so that
    the arm slides along the table instead of sticking to it, and then as a whole.
    """

    name = "workspace limit"

    def __init__(self, config: WorkspaceConfig) -> None:
        self._tool_length = config.tool_length
        floor = -np.inf if config.table_height is None else (
            config.table_height + config.clearance)
        self._lower = np.full((4, 3), -np.inf)
        self._upper = np.full((4, 3), np.inf)
        self._lower[:, 2] = floor
        if config.box_lower is not None:
            self._lower[0] = np.maximum(self._lower[0], config.box_lower)
        if config.box_upper is not None:
            self._upper[0] = config.box_upper
        self.active = bool(np.isfinite(self._lower).any() or np.isfinite(self._upper).any())

    def depth(self, positions: np.ndarray) -> np.ndarray:
        """Return how far each bound is overstepped at joints (J,) [rad], (24,) [m], 0 = not."""
        points = watch_points(positions, self._tool_length)
        return np.maximum(np.concatenate([self._lower - points, points - self._upper]),
                          0.0).ravel()

    def apply(self, requested: np.ndarray, previous: np.ndarray, elapsed: float,
              scale: float = 1.0) -> np.ndarray:
        """Shrink the joints' change until no bound is overstepped further than before."""
        if not self.active:
            return requested
        start = previous[:-1]
        change = requested[:-1] - start
        allowed = self.depth(start) + 1e-9

        def inside(trial: np.ndarray) -> bool:
            return bool((self.depth(start + trial) <= allowed).all())

        if inside(change):
            return requested
        harmful = self._harmful(start, change, allowed)
        helpful = np.where(harmful, 0.0, change)
        base = helpful if inside(helpful) else np.zeros_like(change)
        rest = change - base
        share = _largest_share(lambda part: inside(base + part * rest))
        return np.append(start + base + share * rest, requested[-1])

    def _harmful(self, start: np.ndarray, change: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """Return which joints' changes lead out, each taken back alone from the whole, (J,)."""
        beyond = np.maximum(self.depth(start + change) - allowed, 0.0).sum()
        harmful = np.zeros(len(change), bool)
        for joint in range(len(change)):
            without = change.copy()
            without[joint] = 0.0
            left = np.maximum(self.depth(start + without) - allowed, 0.0).sum()
            harmful[joint] = left < beyond - 1e-9
        return harmful


def _largest_share(inside: Callable[[float], bool]) -> float:
    """Return the largest share in [0, 1) found by halving for which ``inside`` holds; 0 does."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if inside(middle) else (low, middle)
    return low
