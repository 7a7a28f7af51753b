"""Importing simulators without their noise, and without a side effect on this process.

``from sim_bridge.quiet import mujoco``, so that no simulator starts or even looks for an OpenGL:
mujoco does when it is imported, and on a machine without one ``MUJOCO_GL=egl`` would keep it from
stepping too. Pictures come from :mod:`sim_bridge.render`, which reads that variable itself.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_import() -> Iterator[None]:
    """Silence what mujoco, OGBench and robosuite say and do while they are imported.

    dm_control would start GLFW and complain that there is no display; robosuite would warn of
    packages that nothing here uses, and leave ``MUJOCO_GL=egl`` behind for every later process.
    """
    before = os.environ.get("MUJOCO_GL")
    disabled = logging.root.manager.disable
    os.environ["MUJOCO_GL"] = "disable"
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        if before is None:
            os.environ.pop("MUJOCO_GL", None)
        else:
            os.environ["MUJOCO_GL"] = before


with quiet_import():
    import mujoco

__all__ = ["mujoco", "quiet_import"]
