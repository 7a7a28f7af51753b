"""The contract of what draws a simulation, and where its pictures are taken from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from sim_bridge.quiet import mujoco


@dataclass(frozen=True)
class Camera:
    """Where a picture is taken from."""

    position: tuple[float, float, float]
    """[m], world frame."""
    target: tuple[float, float, float]
    """The point in the middle of the picture [m], world frame."""
    fovy: float = 40.0
    """Vertical angle of view [degree]."""

    def axes(self) -> np.ndarray:
        """Return right, up and forward as the rows of a (3, 3) array of unit vectors."""
        forward = np.subtract(self.target, self.position).astype(float)
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(right, forward), forward])

    def rays(self, x: np.ndarray, y: np.ndarray, width: int, height: int) -> np.ndarray:
        """Return unit directions (N, 3) through the picture's points ``x``, ``y`` (N,) [pixel]."""
        right, up, forward = self.axes()
        size = 2.0 * np.tan(np.radians(self.fovy) / 2.0) / height
        across, above = (x - width / 2.0) * size, (height / 2.0 - y) * size
        rays = forward + across[:, None] * right + above[:, None] * up
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)


@dataclass(frozen=True)
class View:
    """What is drawn, and from where; one for each domain."""

    camera: Camera
    groups: tuple[int, ...]
    """Geom groups that are meant for eyes; the others are collision shapes."""
    lamp: tuple[float, float, float] = (1.6, -1.2, 2.4)
    """Position of the lamp [m], world frame."""
    ground: float = 0.0
    """Added to the colours of planes, 0 to 1: before a black floor a black gripper is lost."""


class Painter(ABC):
    """Draws one model."""

    model: mujoco.MjModel

    @abstractmethod
    def picture(self, data: mujoco.MjData, width: int, height: int) -> np.ndarray:
        """Return a picture of ``data``, (height, width, 3) uint8, RGB; ``data`` is only read."""

    @abstractmethod
    def close(self) -> None:
        """Release what the painter holds."""
