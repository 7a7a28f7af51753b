"""Pictures by MuJoCo's own OpenGL renderer, for machines that have a GPU (``MUJOCO_GL=egl``)."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from poco_ros.core.errors import ConfigError
from sim_bridge.quiet import mujoco
from sim_bridge.render import Painter, View

MAX_GEOMS = 2000


class OpenGL(Painter):
    """Draws with one OpenGL context, made at the first picture and again when the size grows."""

    def __init__(self, model: mujoco.MjModel, view: View, backend: str) -> None:
        self.model = model
        self._view, self._backend = view, backend
        self._size = (0, 0)
        self._gl: Any = None
        self._context: Any = None
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[list(view.groups)] = 1
        self._option.sitegroup[:] = 0

    def picture(self, data: mujoco.MjData, width: int, height: int) -> np.ndarray:
        """Return a picture of ``data``, (height, width, 3) uint8, RGB.

        Raises:
            ConfigError: this OpenGL does not work here.
        """
        if (width, height) != self._size:
            self._open(width, height)
        self._gl.make_current()
        free = mujoco.MjvCamera()
        mujoco.mjv_updateScene(self.model, data, self._option, None, free,
                               mujoco.mjtCatBit.mjCAT_ALL, self._scene)
        _, up, forward = self._view.camera.axes()
        near, far = self.model.vis.map.znear, self.model.vis.map.zfar
        extent = self.model.stat.extent
        half = near * extent * np.tan(np.radians(self._view.camera.fovy) / 2.0)
        for camera in self._scene.camera:
            camera.pos, camera.up, camera.forward = self._view.camera.position, up, forward
            camera.frustum_center, camera.frustum_width = 0.0, half * width / height
            camera.frustum_bottom, camera.frustum_top = -half, half
            camera.frustum_near, camera.frustum_far = near * extent, far * extent
        viewport = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(viewport, self._scene, self._context)
        pixels = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, viewport, self._context)
        return np.ascontiguousarray(pixels[::-1])

    def _open(self, width: int, height: int) -> None:
        self.close()
        visual = self.model.vis.global_
        visual.offwidth, visual.offheight = width, height
        try:
            self._gl = importlib.import_module(f"mujoco.{self._backend}").GLContext(width, height)
            self._gl.make_current()
            self._context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except Exception as error:  # the libraries below raise whatever they find
            self.close()
            raise ConfigError(
                f"MUJOCO_GL={self._backend} does not work on this machine"
                f" ({type(error).__name__}: {error}); unset it and pictures are made on the"
                " processor") from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._size = (width, height)

    def close(self) -> None:
        """Free the OpenGL context."""
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
        if self._gl is not None:
            self._gl.free()
        self._gl = self._context = None
        self._size = (0, 0)
