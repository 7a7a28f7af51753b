"""robosuite's Lift behind the house's contract, with RoboMimic's low-dimensional observation."""

from __future__ import annotations

from typing import Any

import numpy as np

from poco_ros.core.errors import ConfigError
from poco_ros.core.task import TaskConfig
from sim_bridge.quiet import mujoco, quiet_import
from sim_bridge.render import Camera, View
from sim_bridge.simulated import SimulatedEnvironment

try:
    with quiet_import():
        import robosuite
        from robosuite.environments.manipulation.lift import Lift
except ImportError as error:
    raise ConfigError(
        f"robosuite cannot be imported ({error}). If it is not installed: make setup (on Python"
        " 3.13 pip alone leaves it out). If the message names libGL: this machine has no OpenGL"
        " library, and OpenCV's package with windows wants one; install opencv-python-headless"
        " instead of opencv-python") from error

VIEW = View(Camera((0.60, -0.75, 1.30), (-0.10, 0.0, 0.94), 40.0), groups=(1,),
            lamp=(0.9, -0.9, 2.6))
OBSERVED = ("object-state", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
"""RoboMimic's low-dimensional keys, in its order: cube pose (7) and gripper-to-cube (3), position
(3) and quaternion x, y, z, w (4) of the hand, finger joints (2)."""
OBSERVATION_SIZE = 19
ACTION_DIM = 7
"""Steps of x, y, z and of the orientation (axis-angle), and the gripper: -1 opens, 1 closes."""
CONTROL_HZ = 20
NEAR = 0.03
"""The hand is at the cube below this distance [m]."""
CONTROLLER: dict[str, Any] = {
    "type": "BASIC",
    "body_parts": {"right": {
        "type": "OSC_POSE", "input_max": 1, "input_min": -1,
        "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
        "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
        "kp": 150, "damping_ratio": 1, "impedance_mode": "fixed",
        "kp_limits": [0, 300], "damping_ratio_limits": [0, 10],
        "position_limits": None, "orientation_limits": None, "uncouple_pos_ori": True,
        "input_type": "delta", "input_ref_frame": "base", "interpolation": None,
        "ramp_ratio": 0.2, "gripper": {"type": "GRIP"},
    }},
}
"""RoboMimic's operational-space controller: steps of at most 5 cm and 0.5 rad."""


class LiftEnvironment(SimulatedEnvironment):
    """A Panda lifts a cube from a table, at 20 Hz."""

    view = VIEW

    def __init__(self, task: TaskConfig) -> None:
        if task.number != 1:
            raise ConfigError(f"lift has only task 1, not {task.number}")
        self.simulator: Lift = robosuite.make(
            "Lift", robots="Panda", controller_configs=CONTROLLER, renderer="mujoco",
            has_renderer=False, has_offscreen_renderer=False, use_camera_obs=False,
            use_object_obs=True, control_freq=CONTROL_HZ, ignore_done=True, seed=0)
        self.observed: dict[str, np.ndarray] = {}
        """All that robosuite observes in the current state, by its own names."""
        joints = tuple(f"joint{index}" for index in range(1, 8))
        super().__init__(task, OBSERVATION_SIZE, ACTION_DIM, 1.0 / CONTROL_HZ,
                         (*joints, "gripper"))

    def _begin(self, seed: int) -> np.ndarray:
        # robosuite takes a seed when it is made only; its parts share this one generator.
        generator = np.random.default_rng(seed).bit_generator
        self.simulator.rng.bit_generator.state = generator.state
        self.observed = self.simulator.reset()
        return self._state()

    def _advance(self, action: np.ndarray) -> np.ndarray:
        self.observed = self.simulator.step(action)[0]
        return self._state()

    def _state(self) -> np.ndarray:
        return np.concatenate([self.observed[key] for key in OBSERVED])

    def subgoals(self) -> np.ndarray:
        """Return whether the hand is at the cube, the cube is held, the cube is lifted, (3,).

        A later one implies those before it.
        """
        simulator = self.simulator
        hand = simulator.robots[0].gripper["right"]
        lifted = bool(simulator._check_success())
        held = lifted or bool(simulator._check_grasp(gripper=hand, object_geoms=simulator.cube))
        near = held or float(simulator._gripper_to_target(
            gripper=hand, target=simulator.cube.root_body, target_type="body",
            return_distance=True)) < NEAR
        return np.array([near, held, lifted])

    def joint_positions(self) -> np.ndarray:
        """Return the arm's joints [rad] and the distance between the fingers [m], (8,)."""
        robot, data = self.simulator.robots[0], self.simulator.sim.data
        fingers = data.qpos[robot._ref_gripper_joint_pos_indexes["right"]]
        return np.append(data.qpos[robot._ref_joint_pos_indexes], np.abs(fingers).sum())

    def _simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        return self.simulator.sim.model._model, self.simulator.sim.data._data

    def close(self) -> None:
        """Release simulator and renderer; the environment is unusable afterwards."""
        super().close()
        self.simulator.close()
