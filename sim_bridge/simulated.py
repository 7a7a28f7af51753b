"""What all simulated environments share: rewards and their timing, ends, checks, pictures."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from poco_ros.core.environment import Environment, EnvironmentSpec, Step
from poco_ros.core.errors import DataError
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.task import TaskConfig
from sim_bridge.painters import make_painter
from sim_bridge.quiet import mujoco
from sim_bridge.render import Painter, View

STATE = "state"
"""Name of the one part of a simulated observation."""


class SimulatedEnvironment(Environment):
    """A simulator with a task. A subclass says how to begin, how to move and what is reached."""

    view: View
    """What pictures of this environment show, and from where."""

    def __init__(self, task: TaskConfig, observation_size: int, action_dim: int,
                 control_period: float, joint_names: tuple[str, ...]) -> None:
        self.task = task
        self.spec = EnvironmentSpec(
            task=task.name,
            observation=ObservationLayout(((STATE, observation_size),)),
            action_dim=action_dim,
            max_episode_steps=task.step_limit,
            control_period=control_period,
            joint_names=joint_names,
        )
        self._running = False
        self._steps = 0
        self._reached = np.zeros(1, bool)
        self._painter: Painter | None = None

    @abstractmethod
    def _begin(self, seed: int) -> np.ndarray:
        """Put the simulation into the initial state of ``seed``; return the observation (O,)."""

    @abstractmethod
    def _advance(self, action: np.ndarray) -> np.ndarray:
        """Move on by one control period; return the observation (O,)."""

    @abstractmethod
    def subgoals(self) -> np.ndarray:
        """Return which subgoals (S,) hold in the current state; all of them together: success."""

    @abstractmethod
    def _simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """Return the model and the state that pictures are made of."""

    def reset(self, seed: int) -> np.ndarray:
        """Start an episode that is a function of ``seed``; return s_0, (O,) float32."""
        observation = self._checked(self._begin(seed))
        self._running, self._steps, self._reached = True, 0, self.subgoals()
        return observation

    def step(self, action: np.ndarray) -> Step:
        """Apply ``action`` (A,), in [-1, 1], for one control period.

        The reward is 1 at success and else 0 (sparse) or the share of the subgoals (staged), plus
        the task's offset; it describes the state after the step (post) or before it (pre). The
        step that is judged a success ends the episode.

        Raises:
            DataError: wrong shape, not finite or outside [-1, 1].
            RuntimeError: the episode has ended, or none was begun.
        """
        if not self._running:
            raise RuntimeError(f"{self.spec.task}: no episode is running; call reset first")
        observation = self._checked(self._advance(self._checked_action(action)))
        before, self._reached = self._reached, self.subgoals()
        judged = before if self.task.success_timing == "pre" else self._reached
        success = bool(judged.all())
        earned = float(success) if self.task.reward == "sparse" else float(judged.mean())
        self._steps += 1
        truncated = not success and self._steps >= self.spec.max_episode_steps
        self._running = not (success or truncated)
        return Step(observation, earned + self.task.reward_offset, success, truncated, success)

    def render(self, width: int, height: int) -> np.ndarray:
        """Return a picture (height, width, 3) uint8, RGB, of the current state.

        Raises:
            DataError: the size is not positive.
        """
        if width < 1 or height < 1:
            raise DataError(f"a picture of {width} x {height} pixels cannot be made")
        model, data = self._simulation()
        if self._painter is None or self._painter.model is not model:
            self._drop_painter()
            self._painter = make_painter(model, self.view)
        return self._painter.picture(data, width, height)

    def close(self) -> None:
        """Release simulator and renderer; the environment is unusable afterwards."""
        self._running = False
        self._drop_painter()

    def _drop_painter(self) -> None:
        if self._painter is not None:
            self._painter.close()
            self._painter = None

    def _checked(self, observation: np.ndarray) -> np.ndarray:
        narrow = np.asarray(observation, np.float32)
        self.spec.observation.check(narrow)
        return narrow

    def _checked_action(self, action: np.ndarray) -> np.ndarray:
        """Return the action (A,) as float64 numbers that float32 can hold: what is executed is
        what is stored."""
        action = np.asarray(action, np.float32)
        if action.shape != (self.spec.action_dim,):
            raise DataError(f"{self.spec.task}: action has shape {action.shape}, expected"
                            f" ({self.spec.action_dim},)")
        if not np.isfinite(action).all():
            raise DataError(f"{self.spec.task}: action is not finite: {action}")
        if np.abs(action).max() > 1.0 + 1e-6:
            raise DataError(f"{self.spec.task}: action {action} leaves [-1, 1]; normalise it")
        return action.astype(np.float64)
