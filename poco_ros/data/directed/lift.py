"""A script that lifts robosuite's cube: over it, down, close, up; its plan is noisy."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from poco_ros.data.directed.contract import Demonstrator
from sim_bridge.robosuite_env import ACTION_DIM, LiftEnvironment

STEP = 0.05
"""The controller's largest step [m], an action of 1."""
ABOVE, HEIGHT = 0.10, 0.15
"""How far over the cube the hand begins, and how far it lifts [m]."""
APPROACH, DESCEND, CLOSE, RAISE = 18, 10, 8, 14
"""Steps of each part of the plan."""
PART_JITTER = 0.2
"""Each part is so much longer or shorter at most."""
AIM_NOISE = 0.035
"""Standard deviation of the aim at the cube, for a noise of 1 [m]."""
HAND_NOISE = 0.05
"""Standard deviation of each step's target, for a noise of 1 [m], as OGBench's plans have it."""
GAIN = 1.6
"""The arm covers about this part of a step's reverse; without it, it would lag behind its plan."""


class LiftDemonstrator(Demonstrator):
    """Follows straight lines between poses over, at and above the cube."""

    def __init__(self, environment: LiftEnvironment, noise: float, noise_smoothing: float,
                 attempts: int) -> None:
        self._environment = environment
        self._noise, self._smoothing, self._attempts = noise, noise_smoothing, attempts
        self._plan = np.zeros((0, 4))
        self._at = self._tried = 0

    def begin(self) -> None:
        """Look where the cube is, and make a plan."""
        self._plan, self._at, self._tried = self._make_plan(), 0, 1

    def act(self) -> np.ndarray | None:
        """Return the next action (7,) in [-1, 1]; None when the plan ended without success."""
        action = np.zeros(ACTION_DIM)
        if self._environment.subgoals().all():
            action[-1] = 1.0  # lifted: hold still, and hold on
            return action
        if self._at == len(self._plan):
            if self._tried == self._attempts:
                return None
            self._plan, self._at, self._tried = self._make_plan(), 0, self._tried + 1
        hand = self._observed("robot0_eef_pos")
        action[:3] = np.clip(GAIN * (self._plan[self._at, :3] - hand) / STEP, -1.0, 1.0)
        action[-1] = self._plan[self._at, 3]
        self._at += 1
        return action

    def _observed(self, name: str) -> np.ndarray:
        return self._environment.observed[name]

    def _make_plan(self) -> np.ndarray:
        """Return targets of the hand [m] and of the gripper (-1 open, 1 closed), (P, 4)."""
        cube = self._observed("cube_pos") + np.random.normal(0.0, AIM_NOISE * self._noise, 3)
        up = np.array([0.0, 0.0, 1.0])
        over, high = cube + ABOVE * up, cube + HEIGHT * up
        poses = [self._observed("robot0_eef_pos"), over, cube, cube, high]
        parts = []
        for index, (steps, grip) in enumerate(
                zip((APPROACH, DESCEND, CLOSE, RAISE), (-1, -1, 1, 1), strict=True)):
            count = round(steps * np.random.uniform(1 - PART_JITTER, 1 + PART_JITTER))
            share = np.linspace(0.0, 1.0, count + 1)[1:, None]
            line = poses[index] + share * (poses[index + 1] - poses[index])
            parts.append(np.column_stack([line, np.full(count, float(grip))]))
        plan = np.concatenate(parts)
        noise = np.random.normal(0.0, HAND_NOISE * self._noise, (len(plan), 3))
        if self._smoothing > 0:
            noise = gaussian_filter1d(noise, self._smoothing, axis=0)
        plan[:, :3] += noise
        return plan
