"""RoboMimic's Lift, Can and Square in robosuite, behind the house's contract."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from poco_ros.core.errors import ConfigError
from poco_ros.core.robomimic import (
    ACTION_DIM,
    CONTROL_HZ,
    POSITION_STEP,
    ROBOMIMIC_TASKS,
    ROBOSUITE,
    ROBOT_PARTS,
    ROTATION_STEP,
)
from poco_ros.core.task import TaskConfig
from sim_bridge.quiet import mujoco, quiet_import
from sim_bridge.render import Camera, View
from sim_bridge.simulated import SimulatedEnvironment

try:
    with quiet_import():
        import robosuite
        from robosuite.environments.manipulation.lift import Lift
        from robosuite.environments.manipulation.manipulation_env import ManipulationEnv
        from robosuite.environments.manipulation.nut_assembly import NutAssemblySquare
        from robosuite.environments.manipulation.pick_place import PickPlaceCan
except ImportError as error:
    raise ConfigError(
        f"robosuite cannot be imported ({error}). If it is not installed: make setup (on Python"
        " 3.13 pip alone leaves it out). If the message names libGL: this machine has no OpenGL"
        " library, and OpenCV's package with windows wants one; install opencv-python-headless"
        " instead of opencv-python") from error
if not robosuite.__version__.startswith(f"{ROBOSUITE}."):
    raise ConfigError(f"robosuite {robosuite.__version__} is installed; RoboMimic's tasks need"
                      f" {ROBOSUITE}: other versions observe and control otherwise; make setup")

OBSERVED = ("object-state", *(name for name, _ in ROBOT_PARTS))
"""RoboMimic's low-dimensional keys, in its order. ``object-state`` is ``object`` there: for Lift
the cube's pose (7) and the way from hand to cube (3); for Can and Square the object's pose seen
from the hand (7), then its pose (7). Quaternions are x, y, z, w."""
NEAR = 0.03
"""The hand is at the object below this distance [m]."""
_MOST = [*[POSITION_STEP] * 3, *[ROTATION_STEP] * 3]
CONTROLLER: dict[str, Any] = {
    "type": "BASIC",
    "body_parts": {"right": {
        "type": "OSC_POSE", "input_max": 1, "input_min": -1,
        "output_max": _MOST, "output_min": [-most for most in _MOST],
        "kp": 150, "damping_ratio": 1, "impedance_mode": "fixed",
        "kp_limits": [0, 300], "damping_ratio_limits": [0, 10],
        "position_limits": None, "orientation_limits": None, "uncouple_pos_ori": True,
        "input_type": "delta", "input_ref_frame": "base", "interpolation": None,
        "ramp_ratio": 0.2, "gripper": {"type": "GRIP"},
    }},
}
"""RoboMimic's operational-space controller: steps of at most 5 cm and 0.5 rad."""
OPTIONS: dict[str, Any] = {
    "robots": ["Panda"], "controller_configs": CONTROLLER, "control_freq": CONTROL_HZ,
    "has_renderer": False, "has_offscreen_renderer": False, "use_camera_obs": False,
    "use_object_obs": True, "ignore_done": True, "reward_shaping": False,
    # RoboMimic's files say False, which gives the same states bit for bit and takes longer.
    "lite_physics": True,
}
"""What robosuite makes the task with, and what robomimic makes it again with from a file."""
ROBOSUITE_TYPE = 1
"""robomimic's number of robosuite's environments."""


class RobosuiteEnvironment(SimulatedEnvironment):
    """A Panda at 20 Hz. A subclass has the object, and says how far the task is."""

    hand_site = "gripper0_right_grip_site"
    """Between the fingers."""

    def __init__(self, task: TaskConfig) -> None:
        self.robomimic = ROBOMIMIC_TASKS[task.domain]
        self.simulator: ManipulationEnv = robosuite.make(
            self.robomimic.env_name, renderer="mujoco", seed=0, **OPTIONS)
        self.observed: dict[str, np.ndarray] = {}
        """All that robosuite observes in the current state, by its own names."""
        joints = tuple(f"joint{index}" for index in range(1, 8))
        super().__init__(task, self.robomimic.layout.size, ACTION_DIM, 1.0 / CONTROL_HZ,
                         (*joints, "gripper"))

    @property
    @abstractmethod
    def held_thing(self) -> Any:
        """robosuite's object that is to be held."""

    @abstractmethod
    def _stages(self) -> list[bool]:
        """Return what of the task holds now, (S,), success last."""

    def _begin(self, seed: int) -> np.ndarray:
        # robosuite takes a seed when it is made only; its parts share this one generator.
        generator = np.random.default_rng(seed).bit_generator
        self.simulator.rng.bit_generator.state = generator.state
        self.simulator.reset()
        # At the first look the object's pose seen from the hand is zeros: robosuite works it out
        # from what it saw of the object the time before.
        self.observed = self.simulator._get_observations(force_update=True)
        return self._state()

    def _advance(self, action: np.ndarray) -> np.ndarray:
        self.observed = self.simulator.step(action)[0]
        return self._state()

    def _state(self) -> np.ndarray:
        return np.concatenate([self.observed[key] for key in OBSERVED])

    def subgoals(self) -> np.ndarray:
        """Return which stages of the task are reached, (S,); a later one implies those before."""
        return np.logical_or.accumulate(self._stages()[::-1])[::-1]

    def holds(self) -> bool:
        """Return whether both fingers touch the object."""
        hand = self.simulator.robots[0].gripper["right"]
        return bool(self.simulator._check_grasp(gripper=hand, object_geoms=self.held_thing))

    def object_position(self) -> np.ndarray:
        """Return where the object is, (3,) [m], world frame."""
        return self._body("xpos", self.held_thing.root_body)

    def object_rotation(self) -> np.ndarray:
        """Return the object's orientation, (3, 3), world frame."""
        return self._body("xmat", self.held_thing.root_body).reshape(3, 3)

    @property
    def shoulder(self) -> np.ndarray:
        """The first joint of the arm, (3,) [m], world frame."""
        return self._body("xpos", "robot0_link1")

    def hand_rotation(self) -> np.ndarray:
        """Return the orientation of the hand as it is controlled, (3, 3), world frame."""
        data = self.simulator.sim.data
        return np.array(data.get_site_xmat(self.hand_site)).reshape(3, 3)

    def joint_positions(self) -> np.ndarray:
        """Return the arm's joints [rad] and the distance between the fingers [m], (8,)."""
        robot, data = self.simulator.robots[0], self.simulator.sim.data
        fingers = data.qpos[robot._ref_gripper_joint_pos_indexes["right"]]
        return np.append(data.qpos[robot._ref_joint_pos_indexes], np.abs(fingers).sum())

    def flat_state(self) -> np.ndarray:
        """Return time, joint positions and velocities as robomimic's files have them, (D,)."""
        return np.array(self.simulator.sim.get_state().flatten())

    def model_xml(self) -> str:
        """Return the model of this episode as MuJoCo's XML."""
        return str(self.simulator.sim.model.get_xml())

    def env_args(self) -> dict[str, Any]:
        """Return what robomimic makes this environment again from."""
        return {"env_name": self.robomimic.env_name, "env_version": robosuite.__version__,
                "type": ROBOSUITE_TYPE, "env_kwargs": OPTIONS}

    def _body(self, what: str, name: str) -> np.ndarray:
        model, data = self.simulator.sim.model, self.simulator.sim.data
        return np.array(getattr(data, f"body_{what}")[model.body_name2id(name)])

    def _is_near(self, target: str, kind: str) -> bool:
        return float(self.simulator._gripper_to_target(
            gripper=self.simulator.robots[0].gripper["right"], target=target, target_type=kind,
            return_distance=True)) < NEAR

    def _simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        return self.simulator.sim.model._model, self.simulator.sim.data._data

    def close(self) -> None:
        """Release simulator and renderer; the environment is unusable afterwards."""
        super().close()
        self.simulator.close()


class LiftEnvironment(RobosuiteEnvironment):
    """A cube is lifted from a table. Stages: hand at the cube, cube held, cube lifted."""

    view = View(Camera((0.60, -0.75, 1.30), (-0.10, 0.0, 0.94), 40.0), groups=(1,),
                lamp=(0.9, -0.9, 2.6))
    simulator: Lift

    @property
    def held_thing(self) -> Any:
        """The cube."""
        return self.simulator.cube

    def _stages(self) -> list[bool]:
        return [self._is_near(self.held_thing.root_body, "body"), self.holds(),
                bool(self.simulator._check_success())]


class CanEnvironment(RobosuiteEnvironment):
    """A can is put from one bin into its quarter of another, and let go.

    Stages: hand at the can, can held, lifted over the walls, over its quarter, in it.
    """

    view = View(Camera((0.95, -0.75, 1.75), (0.05, 0.05, 0.90), 45.0), groups=(1,),
                lamp=(0.9, -0.9, 2.6))
    simulator: PickPlaceCan
    number = 3
    """Of the can among the objects that robosuite's task knows."""
    clear = 0.95
    """The can is over the walls of the bins above this height [m]."""

    @property
    def held_thing(self) -> Any:
        """The can."""
        return self.simulator.objects[self.number]

    @property
    def goal(self) -> np.ndarray:
        """The middle of the can's quarter, on the bin's floor, (3,) [m]."""
        return np.array(self.simulator.target_bin_placements[self.number])

    def is_over_goal(self, position: np.ndarray) -> bool:
        """Return whether a position (3,) [m] is over the can's quarter."""
        within = self.simulator.bin_size[:2] / 4.0
        return bool((np.abs(position[:2] - self.goal[:2]) < within).all())

    def _stages(self) -> list[bool]:
        held, position = self.holds(), self.object_position()
        return [self._is_near(self.held_thing.root_body, "body"), held,
                held and position[2] > self.clear, held and self.is_over_goal(position),
                bool(self.simulator._check_success())]


class SquareEnvironment(RobosuiteEnvironment):
    """A square nut is put onto a square peg by its handle.

    Stages: hand at the handle, nut held, lifted over the peg, around or over the peg, down on it.
    """

    view = View(Camera((0.85, -0.55, 1.45), (0.02, 0.10, 0.92), 40.0), groups=(1,),
                lamp=(0.9, -0.9, 2.6))
    simulator: NutAssemblySquare
    clear = 0.96
    """The nut is over the peg above this height [m]."""
    tolerance = 0.03
    """robosuite's for a nut on its peg, along x and y [m]."""

    @property
    def held_thing(self) -> Any:
        """The nut."""
        return self.simulator.nuts[0]

    @property
    def goal(self) -> np.ndarray:
        """The middle of the peg, (3,) [m]."""
        return np.array(self.simulator.sim.data.body_xpos[self.simulator.peg1_body_id])

    def _stages(self) -> list[bool]:
        held, position = self.holds(), self.object_position()
        handle = self.held_thing.important_sites["handle"]
        around = bool((np.abs(position - self.goal)[:2] < self.tolerance).all())
        return [self._is_near(handle, "site"), held, held and position[2] > self.clear,
                held and around, bool(self.simulator._check_success())]


ENVIRONMENTS: dict[str, type[RobosuiteEnvironment]] = {
    "lift": LiftEnvironment, "can": CanEnvironment, "square": SquareEnvironment}
"""Domain -> environment."""
