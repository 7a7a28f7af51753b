"""The contract of an environment that lives in this process.

``poco train``, evaluation workers and the ``sim_bridge`` node drive any environment through it.
Termination (the task ended: success) and truncation (time ran out) are kept apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from poco_ros.core.observation import ObservationLayout


@dataclass(frozen=True)
class EnvironmentSpec:
    """What a policy and a graph must know of an environment."""

    task: str
    """Name of the task, such as ``cube-single-task1``; policies of another task are refused."""
    observation: ObservationLayout
    action_dim: int
    """A: actions are (A,) float32, normalised to [-1, 1]."""
    max_episode_steps: int
    """The episode is truncated after this many steps."""
    control_period: float
    """Time from one action to the next [s]."""
    joint_names: tuple[str, ...]
    """Joints that ``joint_positions`` reports, gripper last."""


@dataclass(frozen=True)
class Step:
    """What one action led to."""

    observation: np.ndarray
    """s_{t+1}, (O,) float32."""
    reward: float
    terminated: bool
    """The task has ended (success): no value follows, nothing is bootstrapped."""
    truncated: bool
    """Time ran out: the state has a value, which is bootstrapped."""
    success: bool


class Environment(ABC):
    """One environment. After an end, ``reset`` must be called: ``step`` raises until then."""

    spec: EnvironmentSpec

    @abstractmethod
    def reset(self, seed: int) -> np.ndarray:
        """Start an episode that is a function of ``seed``; return s_0, (O,) float32."""

    @abstractmethod
    def step(self, action: np.ndarray) -> Step:
        """Apply ``action`` (A,), in [-1, 1], for one control period.

        Raises:
            DataError: wrong shape or not finite.
            RuntimeError: the episode has ended, or none was begun.
        """

    @abstractmethod
    def joint_positions(self) -> np.ndarray:
        """Return the joints named in ``spec.joint_names`` [rad, gripper in m], (J,) float64."""

    @abstractmethod
    def render(self, width: int, height: int) -> np.ndarray:
        """Return a picture (height, width, 3) uint8, RGB."""

    @abstractmethod
    def close(self) -> None:
        """Release simulator and renderer; the environment is unusable afterwards."""
