"""OGBench's cube, scene and puzzle tasks behind the house's contract."""

from __future__ import annotations

import numpy as np

from poco_ros.core.task import TaskConfig
from sim_bridge.ogbench_models import ARM_JOINTS, make_task
from sim_bridge.quiet import mujoco
from sim_bridge.render import Camera, View
from sim_bridge.simulated import SimulatedEnvironment

VIEW = View(Camera((1.25, -0.70, 0.72), (0.34, 0.0, 0.15), 36.0), groups=(0, 1, 2), ground=0.35)
CONTROL_PERIOD = 0.05
ACTION_DIM = 5
"""Steps of x, y, z, yaw and of the gripper's opening."""


class OGBenchEnvironment(SimulatedEnvironment):
    """One of OGBench's single-task variants: a UR5e with a Robotiq gripper at 20 Hz."""

    view = VIEW

    def __init__(self, task: TaskConfig) -> None:
        self.simulator = make_task(task.domain, task.number)
        # The first reset compiles the model and leaves the solver warm in another way than later
        # ones do; an episode must not depend on being the first.
        observation, _ = self.simulator.reset(seed=0)
        super().__init__(task, len(observation), ACTION_DIM,
                         CONTROL_PERIOD, (*ARM_JOINTS, "gripper"))

    def _begin(self, seed: int) -> np.ndarray:
        observation, _ = self.simulator.reset(seed=seed)
        return observation

    def _advance(self, action: np.ndarray) -> np.ndarray:
        return self.simulator.step(action)[0]

    def subgoals(self) -> np.ndarray:
        """Return which of the task's parts (S,) are as wanted: cubes, buttons, drawer, window."""
        return self.simulator.successes()

    def joint_positions(self) -> np.ndarray:
        """Return the arm's joints [rad] and the distance between the fingers [m], (7,)."""
        return self.simulator.joint_positions()

    def _simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        return self.simulator.model, self.simulator.data
