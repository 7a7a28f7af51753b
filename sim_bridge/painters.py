"""Which painter there is: rays on the processor, or OpenGL where it is asked for."""

from __future__ import annotations

import os

from sim_bridge.quiet import mujoco
from sim_bridge.render import Painter, View

OPENGL = ("egl", "osmesa", "glfw")
"""Values of ``MUJOCO_GL`` that ask for OpenGL."""


def make_painter(model: mujoco.MjModel, view: View) -> Painter:
    """Return OpenGL where ``MUJOCO_GL`` names one (a GPU machine: ``egl``), else the ray caster.

    OpenGL is never guessed: where it half works, trying it can end the process, and pictures
    should not differ from machine to machine by chance.

    Raises:
        ConfigError: ``MUJOCO_GL`` names an OpenGL that does not work here.
    """
    wanted = os.environ.get("MUJOCO_GL", "").strip().lower()
    if wanted in OPENGL:
        from sim_bridge.render_opengl import OpenGL
        return OpenGL(model, view, wanted)
    from sim_bridge.render_rays import RayCaster
    return RayCaster(model, view)
