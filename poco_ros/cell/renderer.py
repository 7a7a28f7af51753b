"""A small renderer for the cell's shapes: exact occlusion, soft shadows, no graphics library.

Rays are cast against boxes, cylinders, capsules, spheres and planes of a MuJoCo model, each only
within the rectangle of pixels that it can cover. A picture of 128 x 128 takes a few milliseconds
of one core, where MuJoCo's own renderer without a graphics card takes a hundred.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import mujoco
import numpy as np

from poco_ros.cell import ray_cast

_NEAR = 0.01
_AMBIENT, _DIFFUSE, _SHADOW = 0.42, 0.62, 0.66
_SHADES, _BRIGHTEST = 256, 1.05  # steps from black to the brightest shade
_GEOM = mujoco.mjtGeom
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)


@dataclass(frozen=True)
class Snapshot:
    """Where everything is at one instant; safe to render while the simulation goes on."""

    positions: np.ndarray
    """(nq,) generalised positions."""
    geom_position: np.ndarray
    geom_rotation: np.ndarray
    camera_position: np.ndarray
    camera_rotation: np.ndarray

    @classmethod
    def of(cls, data: mujoco.MjData) -> Snapshot:
        """Copy what a picture needs out of ``data``."""
        return cls(data.qpos.copy(), data.geom_xpos.copy(),
                   data.geom_xmat.reshape(-1, 3, 3).copy(), data.cam_xpos.copy(),
                   data.cam_xmat.reshape(-1, 3, 3).copy())


@dataclass(frozen=True)
class _View:
    """A snapshot as one camera sees it."""

    position: np.ndarray
    rotation: np.ndarray
    corners: np.ndarray
    """(geoms, 8, 3) corners of the boxes around all shapes, in the world."""


class Renderer:
    """Pictures of one model through one of its cameras."""

    def __init__(self, model: mujoco.MjModel, camera: str, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._camera = model.camera(camera).id
        self._moving_camera = bool(model.cam_bodyid[self._camera])
        self._focal = height / 2 / np.tan(np.radians(model.cam_fovy[self._camera]) / 2)
        self._columns = ((np.arange(width) + 0.5 - width / 2) / self._focal).astype(np.float32)
        self._rows = ((height / 2 - np.arange(height) - 0.5) / self._focal).astype(np.float32)
        self._light = np.array([0.30, -0.42, 0.86])
        self._light /= np.linalg.norm(self._light)
        self._type, self._size = model.geom_type.copy(), model.geom_size.astype(np.float32)
        fixed = model.geom_bodyid == 0
        self._fixed = [int(i) for i in np.flatnonzero(fixed)]
        self._moving = [int(i) for i in np.flatnonzero(~fixed)]
        self._ground = np.zeros(model.ngeom + 1, bool)
        for name in ("table", "mat"):
            self._ground[model.geom(name).id] = True
        self._palette = _shaded_palette(model)
        self._corners = np.stack([_CORNERS * self._half_sizes(i) for i in range(model.ngeom)])
        self._backdrop: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def render(self, snapshot: Snapshot) -> np.ndarray:
        """Return the picture, (height, width, 3) uint8, RGB."""
        shade, which = self._draw_all(snapshot)
        colours = (shade * np.float32(_SHADES / _BRIGHTEST)).astype(np.int32)
        colours += which.astype(np.int32) * _SHADES
        return self._palette[colours]

    def shapes(self, snapshot: Snapshot) -> np.ndarray:
        """Return which geom each pixel shows, (height, width) uint8; ngeom is the background."""
        return self._draw_all(snapshot)[1]

    def _draw_all(self, snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray]:
        """Return brightness and geom of each pixel."""
        corners = np.matmul(self._corners, snapshot.geom_rotation.transpose(0, 2, 1))
        corners += snapshot.geom_position[:, None, :]
        view = _View(snapshot.camera_position[self._camera],
                     snapshot.camera_rotation[self._camera], corners)
        depth, shade, which = self._draw_fixed(snapshot, view)
        self._cast_shadows(view, shade, which)
        self._draw(snapshot, view, self._moving, depth, shade, which)
        return shade, which

    def _draw_fixed(self, snapshot: Snapshot, view: _View
                    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._backdrop is None or self._moving_camera:
            depth = np.full((self.height, self.width), np.inf, np.float32)
            shade = np.ones((self.height, self.width), np.float32)
            which = np.full((self.height, self.width), len(self._type), np.uint8)
            self._draw(snapshot, view, self._fixed, depth, shade, which)
            self._backdrop = depth, shade, which
        depth, shade, which = self._backdrop
        return depth.copy(), shade.copy(), which.copy()

    def _half_sizes(self, geom: int) -> np.ndarray:
        kind, size = self._type[geom], self._size[geom].astype(np.float64)
        if kind == _GEOM.mjGEOM_BOX:
            return size
        if kind == _GEOM.mjGEOM_CYLINDER:
            return np.array([size[0], size[0], size[1]])
        if kind == _GEOM.mjGEOM_CAPSULE:
            return np.array([size[0], size[0], size[0] + size[1]])
        if kind == _GEOM.mjGEOM_SPHERE:
            return np.full(3, size[0])
        if kind == _GEOM.mjGEOM_PLANE:
            return np.array([1e3, 1e3, 0.0])
        raise ValueError(f"geom {geom} has type {kind}, which this renderer does not draw; "
                         "use box, cylinder, capsule, sphere or plane, or renderer: mujoco")

    def _project(self, view: _View, points: np.ndarray
                 ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return pixels (n, 8, 2) of world points (n, 8, 3); which n are all, which all not, in
        front of the camera."""
        local = (points - view.position) @ view.rotation
        depth = -local[..., 2]
        in_front, behind = depth.min(axis=-1) > _NEAR, depth.max(axis=-1) <= _NEAR
        pixels = local[..., :2] * (self._focal / np.maximum(depth, _NEAR))[..., None]
        pixels *= (1, -1)
        pixels += (self.width / 2, self.height / 2)
        return pixels, in_front, behind

    def _draw(self, snapshot: Snapshot, view: _View, geoms: list[int], depth: np.ndarray,
              shade: np.ndarray, which: np.ndarray) -> None:
        pixels, in_front, behind = self._project(view, view.corners[geoms])
        size = (self.width, self.height)
        first = np.clip(np.floor(pixels.min(axis=1)), 0, size).astype(int)
        last = np.clip(np.ceil(pixels.max(axis=1)), 0, size).astype(int)
        first[~in_front], last[~in_front] = 0, size
        last[behind] = 0
        for geom, (left, top), (right, bottom) in zip(geoms, first, last, strict=True):
            if left >= right or top >= bottom:
                continue
            rotation = snapshot.geom_rotation[geom]
            rays = ray_cast.local_rays(self._columns[left:right], self._rows[top:bottom],
                                       (rotation.T @ view.rotation).astype(np.float32))
            origin = ((view.position - snapshot.geom_position[geom]) @ rotation)
            met, lambert = self._meet(geom, origin.astype(np.float32), rays,
                                      (self._light @ rotation).astype(np.float32))
            area = np.s_[top:bottom, left:right]
            visible = met < depth[area]
            np.copyto(depth[area], met, where=visible)
            lambert *= np.float32(_DIFFUSE)
            lambert += np.float32(_AMBIENT)
            np.copyto(shade[area], lambert, where=visible)
            np.copyto(which[area], np.uint8(geom), where=visible)

    def _meet(self, geom: int, origin: np.ndarray, rays: ray_cast.Rays, light: np.ndarray
              ) -> ray_cast.Hit:
        kind, size = self._type[geom], self._size[geom]
        if kind == _GEOM.mjGEOM_BOX:
            return ray_cast.box(origin, rays, size, light)
        if kind == _GEOM.mjGEOM_CYLINDER:
            return ray_cast.cylinder(origin, rays, size[0], size[1], light)
        if kind == _GEOM.mjGEOM_CAPSULE:
            return ray_cast.capsule(origin, rays, size[0], size[1], light)
        if kind == _GEOM.mjGEOM_SPHERE:
            return ray_cast.sphere(origin, rays, size[0], light)
        return ray_cast.plane(origin, rays, light)

    def _cast_shadows(self, view: _View, shade: np.ndarray, which: np.ndarray) -> None:
        """Darken the table where the light is blocked."""
        ground = view.corners[self._moving].copy()
        ground[..., :2] -= ground[..., 2:] * (self._light[:2] / self._light[2])
        ground[..., 2] = 0.0
        pixels, in_front, _ = self._project(view, ground)
        fixed_point = (np.clip(pixels, -4096, 4096) * 16).astype(np.int32)
        mask = np.zeros((self.height, self.width), np.uint8)
        for outline in fixed_point[in_front]:
            cv2.fillConvexPoly(mask, cv2.convexHull(outline), (255,), cv2.LINE_AA, 4)
        size = 2 * (self.height // 42) + 1
        soft = cv2.GaussianBlur(mask, (size, size), 0).astype(np.float32)
        darkened = shade * (1.0 - (1.0 - _SHADOW) / 255.0 * soft)
        np.copyto(shade, darkened, where=self._ground[which])


def _shaded_palette(model: mujoco.MjModel) -> np.ndarray:
    """Return colours (geoms + 1, one for the background, times _SHADES; 3) uint8."""
    base = np.concatenate([model.geom_rgba[:, :3], [[0.60, 0.66, 0.72]]]) * 255
    shades = (np.arange(_SHADES) + 0.5) * (_BRIGHTEST / _SHADES)
    return np.clip(base[:, None, :] * shades[:, None], 0, 255).astype(np.uint8).reshape(-1, 3)


class MujocoRenderer:
    """MuJoCo's own renderer behind the same method; needs a working ``MUJOCO_GL``.

    A graphics context belongs to the thread that made it: one thread makes it and renders.
    """

    def __init__(self, model: mujoco.MjModel, camera: str, width: int, height: int) -> None:
        self._model, self._camera = model, camera
        self._data = mujoco.MjData(model)
        self._thread = ThreadPoolExecutor(1, f"mujoco {camera}")
        self._renderer = self._thread.submit(mujoco.Renderer, model, height, width).result()

    def render(self, snapshot: Snapshot) -> np.ndarray:
        """Return the picture, (height, width, 3) uint8, RGB."""
        return self._thread.submit(self._render, snapshot.positions).result()

    def _render(self, positions: np.ndarray) -> np.ndarray:
        self._data.qpos[:] = positions
        mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, self._camera)
        return self._renderer.render()
