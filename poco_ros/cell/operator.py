"""The person at the keypad: puts the cube back, presses ready, watches, labels what he saw.

He sees what a person sees: whether the arm moves, whether it is home, whether the cube is up. He
knows nothing of the programs that drive the arm.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import numpy as np

from poco_ros.cell.config import OperatorConfig
from poco_ros.cell.scene import Scene

_REST_SPEED = 0.03  # slower counts as still [rad/s]
_REST_TIME = 0.4  # [s]
_HOME_TOLERANCE = 0.12  # [rad]
_OPEN = 0.05  # the gripper holds nothing when it is wider [m]
_TRIAL_OVER = 1.5  # home and still for so long in a trial: the program ended it [s]


class Activity(enum.Enum):
    """What the operator is doing."""

    WAIT_FOR_ARM = "waits until the arm is home"
    RESET_SCENE = "puts the cube back"
    PRESS_READY = "is about to press ready"
    WATCH = "watches"
    PRESS_LABEL = "is about to press a label"


class Operator:
    """One operator; :meth:`step` is called often, with the scene's time."""

    def __init__(self, config: OperatorConfig, scene: Scene, press: Callable[[str], bool],
                 rng: np.random.Generator) -> None:
        """``press`` types a key and says whether anybody listened."""
        self.config, self._scene, self._press, self._rng = config, scene, press, rng
        self.enabled = config.enabled
        self.activity = Activity.WAIT_FOR_ARM
        self.trials = self.successes = 0
        """Trials that were labelled, and labelled as a success."""
        self.began = 0
        """Trials that were begun: ready was typed, and the arm moved."""
        self._since = scene.time
        self._still_since: float | None = None
        self._moved_at: float | None = None
        self._lifted_since: float | None = None
        self._key, self._due = "", 0.0

    def step(self) -> None:
        """Look, think, press."""
        now = self._scene.time
        still = bool(np.abs(self._scene.joint_velocities).max() < _REST_SPEED)
        self._still_since = (self._still_since if self._still_since is not None else now) if (
            still) else None
        if not self.enabled:
            self._turn_to(Activity.WAIT_FOR_ARM, now)
            return
        {Activity.WAIT_FOR_ARM: self._wait_for_arm, Activity.RESET_SCENE: self._reset_scene,
         Activity.PRESS_READY: self._press_ready, Activity.WATCH: self._watch,
         Activity.PRESS_LABEL: self._press_label}[self.activity](now)

    def _turn_to(self, activity: Activity, now: float) -> None:
        self.activity, self._since = activity, now

    def _reaction(self, now: float) -> float:
        """Return when a key that is decided on now will be pressed."""
        return now + self.config.reaction_time * float(self._rng.uniform(0.6, 1.6))

    def _still_for(self, now: float) -> float:
        return 0.0 if self._still_since is None else now - self._still_since

    def _at_home(self) -> bool:
        away = np.abs(self._scene.joint_positions - self._scene.config.home).max()
        return bool(away < _HOME_TOLERANCE and self._scene.gripper_opening > _OPEN)

    def _wait_for_arm(self, now: float) -> None:
        still = self._still_for(now)
        if still > _REST_TIME and (self._at_home() or now - self._since > self.config.patience):
            self._turn_to(Activity.RESET_SCENE, now)

    def _reset_scene(self, now: float) -> None:
        if now - self._since >= self.config.reset_time:
            self._scene.scatter_cube(self._rng)
            self._due = self._reaction(now)
            self._turn_to(Activity.PRESS_READY, now)

    def _press_ready(self, now: float) -> None:
        if now < self._due:
            return
        if not self._press(self.config.ready_key):  # nobody listens: try again a little later
            self._due = now + 0.5
            return
        self._moved_at = self._lifted_since = None
        self._turn_to(Activity.WATCH, now)

    def _watch(self, now: float) -> None:
        if self._moved_at is None:
            if self._still_since is None:
                self._moved_at = now
                self.began += 1
            elif now - self._since > self.config.ready_again:  # it was too early, or not heard
                self._due = now
                self._turn_to(Activity.PRESS_READY, now)
            return
        if self._scene.lifted(self.config.lift_height):
            self._lifted_since = self._lifted_since if self._lifted_since is not None else now
            if now - self._lifted_since >= self.config.hold_time:
                self._decide(self.config.success_key, now)
            return
        self._lifted_since = None
        ended = self._still_for(now) > _TRIAL_OVER and self._at_home()
        if ended or now - self._moved_at > self.config.trial_time:
            self._decide(self.config.failure_key, now)

    def _decide(self, key: str, now: float) -> None:
        self._key, self._due = key, self._reaction(now)
        self._turn_to(Activity.PRESS_LABEL, now)

    def _press_label(self, now: float) -> None:
        if now < self._due:
            return
        self._press(self._key)
        self.trials += 1
        self.successes += self._key == self.config.success_key
        self._turn_to(Activity.WAIT_FOR_ARM, now)
