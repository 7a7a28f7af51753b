"""The operators as the house's demonstrators."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from poco_ros.core.robomimic import ACTION_DIM
from poco_ros.data.directed.contract import Demonstrator
from poco_ros.data.directed.robomimic.can import CanTask
from poco_ros.data.directed.robomimic.hand import Hand, Script
from poco_ros.data.directed.robomimic.lift import LiftTask
from poco_ros.data.directed.robomimic.operators import OPERATORS, Operator, draw_style
from poco_ros.data.directed.robomimic.square import SquareTask
from poco_ros.data.directed.robomimic.task import Task
from sim_bridge.robosuite_env import RobosuiteEnvironment

TASKS: dict[str, type[Task]] = {"lift": LiftTask, "can": CanTask, "square": SquareTask}


class RobomimicDemonstrator(Demonstrator):
    """Lets an operator work: one who is named beforehand, or any."""

    def __init__(self, environment: RobosuiteEnvironment, noise: float, noise_smoothing: float,
                 attempts: int) -> None:
        self._environment = environment
        self._noise, self._smoothing, self._attempts = noise, noise_smoothing, attempts
        self.operator: Operator | None = None
        """Who works in the episodes that begin from now on; None = drawn for each."""
        self.task: Task | None = None
        """What goes on in the current episode."""
        self._script: Script | None = None

    def begin(self) -> None:
        """Draw how the episode is worked through."""
        operator = self.operator or OPERATORS[np.random.randint(len(OPERATORS))]
        style = draw_style(operator, self._noise)
        steps = self._environment.spec.max_episode_steps
        noise = np.random.normal(0.0, style.error, (steps, 4))
        if self._smoothing > 0:
            noise = gaussian_filter1d(noise, self._smoothing, axis=0)
        hand = Hand(self._environment, style, noise)
        self.task = TASKS[self._environment.task.domain](
            self._environment, hand, style, self._attempts)
        self._script = self.task.script()

    def act(self) -> np.ndarray | None:
        """Return the next action (7,) in [-1, 1]; None when the operator gave up."""
        assert self.task is not None and self._script is not None, "begin comes first"
        if self._environment.subgoals().all():
            action = np.zeros(ACTION_DIM)
            action[-1] = self.task.hand.grip  # done: hold still
            return action
        return next(self._script, None)

    @property
    def mishaps(self) -> int:
        """How often something went wrong in the current episode."""
        task = self.task
        return 0 if task is None else task.missed + task.slipped + task.misplaced

    @property
    def notes(self) -> tuple[str, ...]:
        """Who worked, and what went wrong on the way."""
        if self.task is None:
            return ()
        task = self.task
        mishaps = {"missed": task.missed, "slipped": task.slipped, "misplaced": task.misplaced}
        return (task.style.operator.name,
                *(f"{what} {count}" for what, count in mishaps.items() if count))
