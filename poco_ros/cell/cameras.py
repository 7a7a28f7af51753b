"""Cameras: pictures with a sensor's noise, as arrays or as JPEG."""

from __future__ import annotations

from typing import Protocol

import cv2
import mujoco
import numpy as np

from poco_ros.cell.config import CameraConfig
from poco_ros.cell.renderer import MujocoRenderer, Renderer, Snapshot

_BANK = 64  # extra rows and columns of the noise that pictures are cut from


class _Renders(Protocol):
    def render(self, snapshot: Snapshot) -> np.ndarray: ...


class Camera:
    """One camera: renders, then adds noise that differs from picture to picture."""

    def __init__(self, config: CameraConfig, renderer: _Renders, seed: int) -> None:
        self.config = config
        self._renderer = renderer
        bank = np.random.default_rng(derive_bank(config)).normal(
            0.0, config.noise, (config.height + _BANK, config.width + _BANK, 3))
        self._bank = np.rint(bank).astype(np.int16)
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start the noise anew."""
        self._rng = np.random.default_rng(seed)

    def take(self, snapshot: Snapshot) -> np.ndarray:
        """Return a picture (height, width, 3) uint8, RGB."""
        picture = self._renderer.render(snapshot)
        if self.config.noise == 0.0:
            return picture
        top, left = self._rng.integers(0, _BANK, 2)
        noise = self._bank[top:top + self.config.height, left:left + self.config.width]
        return cv2.add(picture, noise, dtype=cv2.CV_8U)

    def jpeg(self, picture: np.ndarray) -> bytes:
        """Return ``picture`` as JPEG bytes."""
        done, encoded = cv2.imencode(".jpg", picture[:, :, ::-1],
                                     (cv2.IMWRITE_JPEG_QUALITY, self.config.quality))
        if not done:
            raise RuntimeError(f"camera {self.config.name}: the picture could not be encoded")
        return encoded.tobytes()


def derive_bank(config: CameraConfig) -> int:
    """Return the seed of a camera's noise bank: a function of its name."""
    return int.from_bytes(config.name.encode()[:6], "big")


def make_camera(model: mujoco.MjModel, config: CameraConfig, renderer: str, seed: int) -> Camera:
    """Return a camera of ``model``; ``renderer`` is ``fast`` or ``mujoco``."""
    kind = MujocoRenderer if renderer == "mujoco" else Renderer
    return Camera(config, kind(model, config.name, config.width, config.height), seed)
