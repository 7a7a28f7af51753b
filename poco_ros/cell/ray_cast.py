"""Where the rays of a pinhole camera meet simple shapes; whole rectangles of pixels at once.

A ray is ``origin + t * direction`` in the shape's own frame, with directions whose component along
the optical axis is 1, so ``t`` is the depth [m]. Each function returns ``(depth, shade)``, both
(h, w) float32: depth is inf where the shape is missed, shade is the Lambert term of the surface
that is met, 0 to 1. ``light`` (3,) points towards the light, in the shape's frame.
"""

from __future__ import annotations

import numpy as np

Rays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""x, y and z of the directions, each (h, w) float32."""
Hit = tuple[np.ndarray, np.ndarray]

_TINY = np.float32(1e-9)
INFINITE = np.float32(np.inf)


def local_rays(columns: np.ndarray, rows: np.ndarray, rotation: np.ndarray) -> Rays:
    """Return the directions in a shape's frame.

    Args:
        columns: (w,) x of the directions in the camera's frame, at depth 1.
        rows: (h,) y of the directions in the camera's frame, at depth 1.
        rotation: (3, 3) from the camera's frame (looking along -z) to the shape's frame.
    """
    return tuple(  # type: ignore[return-value]
        (rotation[axis, 0] * columns)[None, :] + (rotation[axis, 1] * rows - rotation[axis, 2])[
            :, None]
        for axis in range(3))


def plane(origin: np.ndarray, rays: Rays, light: np.ndarray) -> Hit:
    """Meet the plane z = 0, seen from above."""
    depth = -origin[2] / np.minimum(rays[2], -_TINY)
    depth[rays[2] > -1e-6] = INFINITE
    return depth, np.full_like(depth, max(light[2], 0.0))


def box(origin: np.ndarray, rays: Rays, half: np.ndarray, light: np.ndarray) -> Hit:
    """Meet the box of half sizes ``half`` (3,), from outside.

    Only faces that look towards the camera can be met, at most one of them by each ray.
    """
    depth = np.full_like(rays[0], INFINITE)
    shade = np.zeros_like(rays[0])
    for axis in range(3):
        if abs(origin[axis]) <= half[axis]:
            continue
        side = np.sign(origin[axis])
        face = (side * half[axis] - origin[axis]) / (
            rays[axis] + np.copysign(_TINY, rays[axis]))
        met = face > 0
        for other in (axis - 2, axis - 1):
            met &= np.abs(origin[other] + face * rays[other]) <= half[other]
        np.copyto(depth, face, where=met)
        np.copyto(shade, max(side * light[axis], 0.0), where=met)
    return depth, shade


def cylinder(origin: np.ndarray, rays: Rays, radius: float, half: float, light: np.ndarray) -> Hit:
    """Meet the cylinder around z of half length ``half``, with flat ends."""
    side, x, y, z = _side(origin, rays, radius)
    side[np.abs(z) > half] = INFINITE
    shade = np.maximum((x * light[0] + y * light[1]) / radius, 0.0)
    end = np.copysign(half, origin[2])
    cap = (end - origin[2]) / (rays[2] + np.copysign(_TINY, rays[2]))
    missed = ((origin[0] + cap * rays[0]) ** 2 + (origin[1] + cap * rays[1]) ** 2 > radius**2)
    cap[missed | (cap <= 0) | (abs(origin[2]) <= half)] = INFINITE
    nearer = cap < side
    shade[nearer] = max(np.sign(end) * light[2], 0.0)
    return np.minimum(side, cap), shade


def capsule(origin: np.ndarray, rays: Rays, radius: float, half: float, light: np.ndarray) -> Hit:
    """Meet the capsule around z: a cylinder of half length ``half`` with round ends."""
    depth, x, y, z = _side(origin, rays, radius)
    beyond = np.abs(z) > half
    end = np.copysign(np.float32(half), z)
    ball = _ball(origin, rays, radius, end)
    depth = np.where(beyond, ball, depth)
    with np.errstate(invalid="ignore"):
        x, y, z = (origin[axis] + depth * rays[axis] for axis in range(3))
        along = np.where(beyond, z - end, 0.0)
        shade = np.maximum((x * light[0] + y * light[1] + along * light[2]) / radius, 0.0)
    shade[~np.isfinite(depth)] = 0.0
    return depth, shade


def sphere(origin: np.ndarray, rays: Rays, radius: float, light: np.ndarray) -> Hit:
    """Meet the sphere around the origin."""
    depth = _ball(origin, rays, radius, np.float32(0.0))
    with np.errstate(invalid="ignore"):
        shade = sum((origin[axis] + depth * rays[axis]) * light[axis] for axis in range(3))
    shade = np.maximum(shade / radius, 0.0)
    shade[~np.isfinite(depth)] = 0.0
    return depth, shade


def _ball(origin: np.ndarray, rays: Rays, radius: float, height: np.ndarray | np.floating
          ) -> np.ndarray:
    above = origin[2] - height
    a = rays[0] ** 2 + rays[1] ** 2 + rays[2] ** 2
    b = origin[0] * rays[0] + origin[1] * rays[1] + above * rays[2]
    c = origin[0] ** 2 + origin[1] ** 2 + above**2 - radius**2
    discriminant = b * b - a * c
    depth = (-b - np.sqrt(np.maximum(discriminant, 0.0))) / a
    depth[(discriminant < 0) | (depth <= 0)] = INFINITE
    return depth


def _side(
    origin: np.ndarray, rays: Rays, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Meet the endless cylinder; return depth and the place that is met (0 where it is missed)."""
    a = rays[0] ** 2 + rays[1] ** 2 + _TINY
    b = origin[0] * rays[0] + origin[1] * rays[1]
    discriminant = b * b - a * (origin[0] ** 2 + origin[1] ** 2 - radius**2)
    depth = (-b - np.sqrt(np.maximum(discriminant, 0.0))) / a
    missed = (discriminant < 0) | (depth <= 0)
    x, y, z = (origin[axis] + depth * rays[axis] for axis in range(3))
    depth[missed] = INFINITE
    return depth, x, y, z
