"""OGBench's manipulation environments, made a function of their seed, and a little quicker.

Two things are changed and nothing else; a test holds every number equal to OGBench's own, bit for
bit.

- *Repeatable.* At reset OGBench takes a few random actions in the goal state, drawn from an action
  space that nobody seeded; they leave traces in the first observation. Here that space is seeded
  with the episode.
- *Quicker.* OGBench works out what can be observed three times a step; here once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from poco_ros.core.errors import ConfigError
from sim_bridge.quiet import quiet_import

try:
    with quiet_import():
        from gymnasium.spaces import Box
        from ogbench.manipspace.envs.cube_env import CubeEnv
        from ogbench.manipspace.envs.manipspace_env import ManipSpaceEnv
        from ogbench.manipspace.envs.puzzle_env import PuzzleEnv
        from ogbench.manipspace.envs.scene_env import SceneEnv
except ImportError as error:
    raise ConfigError(f"OGBench cannot be imported ({error}). Remedy: make setup (on Python 3.13"
                      " pip alone leaves it out)") from error

ARM_JOINTS = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
"""The UR5e's joints, in the order of its actuators."""
CLOSED = 0.8
"""Angle of the Robotiq gripper's driver joint when it is closed [rad]; 0 is open."""
OPEN_WIDTH = 0.085
"""Distance between the open fingers [m]."""


class Repeatable(ManipSpaceEnv):
    """Mixed in before one of OGBench's environments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._actions = Box(-1.0, 1.0, (5,), np.float32)
        self._info: dict[str, Any] | None = None
        self._resetting = False
        super().__init__(*args, **kwargs)

    @property
    def action_space(self) -> Box:
        """The action space, one object that is seeded at reset (OGBench makes a new one)."""
        return self._actions

    def reset(self, seed: int | None = None, **kwargs: Any) -> Any:
        """Start an episode; with ``seed``, every random draw of it follows from the seed."""
        if seed is not None:
            self._actions.seed(seed)
        self._resetting = True  # things are moved about without a step
        try:
            return super().reset(seed=seed, **kwargs)
        finally:
            self._resetting, self._info = False, None

    def compute_ob_info(self) -> dict[str, Any]:
        """Return what can be observed now, worked out once a state."""
        if self._info is None or self._resetting:
            self._info = super().compute_ob_info()
        return self._info

    def post_step(self) -> None:
        """Follow up on the physics; what was observed before is old now."""
        self._info = None
        super().post_step()

    def set_new_target(self, *args: Any, **kwargs: Any) -> Any:
        """Choose another target (data collection); what is observed names it."""
        self._info = None
        return super().set_new_target(*args, **kwargs)

    def set_state(self, *args: Any, **kwargs: Any) -> None:
        """Put the simulation into a given state."""
        self._info = None
        super().set_state(*args, **kwargs)

    def successes(self) -> np.ndarray:
        """Return which of the task's subgoals (S,) hold now, in the order of OGBench's rewards:
        cubes, buttons, drawer, window."""
        parts = self._compute_successes()
        if isinstance(parts, tuple):
            cubes, buttons, drawer, window = parts
            parts = [*cubes, *buttons, drawer, window]
        return np.array(parts, dtype=bool)

    def joint_positions(self) -> np.ndarray:
        """Return the arm's joints [rad] and the distance between the fingers [m], (7,)."""
        closed = np.clip(self._data.qpos[self._gripper_opening_joint_id] / CLOSED, 0.0, 1.0)
        return np.append(self._data.qpos[self._arm_joint_ids], OPEN_WIDTH * (1.0 - closed))


class Cube(Repeatable, CubeEnv):
    """cube-single, cube-double, cube-triple."""


class Scene(Repeatable, SceneEnv):
    """scene."""


class Puzzle(Repeatable, PuzzleEnv):
    """puzzle-3x3."""


CLASSES: dict[str, tuple[type[Repeatable], str]] = {
    "cube-single": (Cube, "single"),
    "cube-double": (Cube, "double"),
    "cube-triple": (Cube, "triple"),
    "scene": (Scene, "scene"),
    "puzzle-3x3": (Puzzle, "3x3"),
}
"""Domain -> class, and OGBench's name of the variant."""


def make_task(domain: str, number: int) -> Repeatable:
    """Return OGBench's single-task variant ``<domain>-singletask-task<number>-v0``.

    Rewards and ends are left to the caller, so OGBench's own timing of them plays no role.
    """
    cls, variant = CLASSES[domain]
    fixed_order = {} if cls is Puzzle else {"permute_blocks": False}
    return cls(env_type=variant, reward_task_id=number, **fixed_order)


def make_collection(domain: str) -> Repeatable:
    """Return the variant that OGBench collects play data with; it never ends by itself."""
    cls, variant = CLASSES[domain]
    return cls(env_type=variant, terminate_at_goal=False, mode="data_collection")
