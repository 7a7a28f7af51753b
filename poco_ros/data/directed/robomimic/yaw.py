"""Angles about the world's vertical."""

from __future__ import annotations

import numpy as np


def unit(yaw: float) -> np.ndarray:
    """Return the direction of ``yaw`` [rad] in the plane, (3,), world frame."""
    return np.array([np.cos(yaw), np.sin(yaw), 0.0])


def yaw_of(axis: np.ndarray) -> float:
    """Return the yaw of a horizontal axis (3,) from the world's x axis [rad]."""
    return float(np.arctan2(axis[1], axis[0]))


def wrapped(yaw: float) -> float:
    """Return the same angle in [-pi, pi) [rad]."""
    return float((yaw + np.pi) % (2.0 * np.pi) - np.pi)
