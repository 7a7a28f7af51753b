"""Pick Cube as an environment in this process: the same scene and cameras, without the plugs.

For quick experiments. A policy that learns here meets the same pictures and the same physics in
the emulated cell, in observations of the same layout; of the plugs' timing the delays can be had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from poco_ros.cell import kinematics as piper
from poco_ros.cell.cameras import make_camera
from poco_ros.cell.config import CameraConfig, CellConfig
from poco_ros.cell.pick_cube import ACTION_DIM, PickCubeScript, gripper_opening
from poco_ros.cell.scene import CONTROL_PERIOD, CubePose, Scene
from poco_ros.core.environment import Environment, EnvironmentSpec, Step
from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.seeding import derive_seed
from poco_ros.core.task import JOINTS_PART

TASK = "pick-cube"
JOINT_NAMES = (*(f"joint{i + 1}" for i in range(piper.JOINTS)), "gripper")
CUBE_SIZE = 5  # x, y, z [m], cos and sin of four times the yaw: the cube repeats every 90 degrees


@dataclass(frozen=True)
class PictureFeatures:
    """What turns pictures into parts of the observation."""

    sizes: tuple[tuple[str, int], ...]
    """Names and sizes of the parts."""
    compute: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
    """Camera name -> picture (H, W, 3) uint8 RGB, to part name -> values."""


@dataclass(frozen=True)
class Delays:
    """When a tick of the robot's graph acts and looks."""

    action: float
    """From a measurement to the command that answers it [s]."""
    picture: tuple[float, float]
    """Age of a picture when its features are used, evenly distributed between these [s]."""


class PickCubeSim(Environment):
    """Either the cube's pose or features of pictures, and the joint state, as the observation.

    An action (7,) moves the joint targets by up to ``script.joint_step`` each and sets the
    gripper's opening, -1 closed to 1 open. The reward is 1 when the cube has been held up.
    """

    def __init__(
        self,
        config: CellConfig | None = None,
        features: PictureFeatures | None = None,
        max_episode_steps: int = 150,
        delays: Delays | None = None,
    ) -> None:
        self.config = config or CellConfig()
        self.scene = Scene(self.config.scene)
        self._features, self._delays = features, delays
        seen = features.sizes if features else (("cube", CUBE_SIZE),)
        layout = ObservationLayout((*seen, (JOINTS_PART, ACTION_DIM)))
        self.spec = EnvironmentSpec(TASK, layout, ACTION_DIM, max_episode_steps,
                                    self.config.script.period, JOINT_NAMES)
        self._cameras = [make_camera(self.scene.model, camera, self.config.renderer,
                                     derive_seed(self.config.seed, index))
                         for index, camera in enumerate(self.config.cameras)]
        operator = self.config.operator
        self._hold_steps = max(1, round(operator.hold_time / self.spec.control_period))
        self._lift_height = operator.lift_height
        self._target = np.zeros(piper.JOINTS)
        self._opening = piper.GRIPPER_STROKE
        self._steps = self._held = 0
        self._running = False
        self._random = np.random.default_rng(0)
        self._seen: Mapping[str, np.ndarray] = {}

    def reset(self, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        self.scene.place_arm(np.asarray(self.config.scene.home))
        self.scene.scatter_cube(rng)
        for camera in self._cameras:
            camera.seed(derive_seed(seed, 7))
        self._target = self.scene.joint_positions
        self._opening = piper.GRIPPER_STROKE
        self._steps = self._held = 0
        self._running = True
        self._random, self._seen = np.random.default_rng(derive_seed(seed, 11)), {}
        return self.observe()

    def step(self, action: np.ndarray) -> Step:
        if not self._running:
            raise RuntimeError("the episode has ended, or none was begun; call reset(seed) first")
        action = np.asarray(action, np.float64)
        if action.shape != (ACTION_DIM,) or not np.isfinite(action).all():
            raise DataError(f"action {action} is not ({ACTION_DIM},) finite values")
        action = np.clip(action, -1.0, 1.0)
        waited = self._delays.action if self._delays else 0.0
        self._run(0.0, waited)
        change = action[:piper.JOINTS] * self.config.script.joint_step
        self._target = np.clip(self._target + change, piper.JOINT_LOWER, piper.JOINT_UPPER)
        self.scene.command_joints(self._target)
        step = self.config.script.gripper_step
        self._opening = float(np.clip(gripper_opening(action[-1]), self._opening - step,
                                      self._opening + step))
        self.scene.command_gripper(self._opening)
        self._look_on(waited)
        self._steps += 1
        self._held = self._held + 1 if self.scene.lifted(self._lift_height) else 0
        success = self._held >= self._hold_steps
        truncated = not success and self._steps >= self.spec.max_episode_steps
        self._running = not (success or truncated)
        return Step(self.observe(), float(success), success, truncated, success)

    def _look_on(self, now: float) -> None:
        """Run to the end of a tick that is ``now`` [s] old; with delays, look on the way."""
        end = self.spec.control_period
        if self._delays and self._features:
            looked = max(end - self._random.uniform(*self._delays.picture), now)
            self._run(now, looked)
            self._seen = self._features.compute(self.pictures())
            now = looked
        self._run(now, end)

    def _run(self, begin: float, end: float) -> None:
        """Let pass what lies between two moments of a tick [s]."""
        for _ in range(round(end / CONTROL_PERIOD) - round(begin / CONTROL_PERIOD)):
            self.scene.step()

    def observe(self) -> np.ndarray:
        """Return the observation of this instant, (O,) float32; what is seen may be older."""
        values: dict[str, np.ndarray] = {JOINTS_PART: self.joint_positions()}
        if self._features:
            values.update(self._seen or self._features.compute(self.pictures()))
        else:
            cube = self.scene.cube
            turn = 4 * cube.yaw
            values["cube"] = np.array([*cube.position, np.cos(turn), np.sin(turn)])
        return self.spec.observation.assemble(values)

    def pictures(self) -> dict[str, np.ndarray]:
        """Return a picture of each camera by name, (H, W, 3) uint8 RGB, with sensor noise."""
        snapshot = self.scene.snapshot()
        return {camera.config.name: camera.take(snapshot) for camera in self._cameras}

    @property
    def cube(self) -> CubePose:
        """Where the cube really is."""
        return self.scene.cube

    def joint_positions(self) -> np.ndarray:
        return np.append(self.scene.joint_positions, self.scene.gripper_opening)

    def render(self, width: int, height: int) -> np.ndarray:
        camera = CameraConfig("front", width, height, noise=0.0)
        return make_camera(self.scene.model, camera, self.config.renderer, 0).take(
            self.scene.snapshot())

    def close(self) -> None:
        self._running = False


def demonstrate(environment: PickCubeSim, seed: int, episode_id: str,
                after_end: int = 8) -> Episode:
    """Let the scripted hand try once; return the episode, a failure cut soon after its end.

    Args:
        environment: where it happens.
        seed: of the cube's place and of the hand's errors.
        episode_id: id of the episode.
        after_end: steps that are still recorded when the hand has given up.
    """
    observations = [environment.reset(seed)]
    script = PickCubeScript(environment.config.script,
                            np.random.default_rng(derive_seed(seed, 3)))
    actions: list[np.ndarray] = []
    rewards: list[float] = []
    step = None
    while after_end > 0 and (step is None or not (step.terminated or step.truncated)):
        joints = environment.joint_positions()
        action = script.next_action(joints[:-1], joints[-1], environment.cube)
        step = environment.step(action)
        actions.append(action)
        rewards.append(step.reward)
        observations.append(step.observation)
        after_end -= script.phase.value == "done"
    assert step is not None
    period = round(environment.spec.control_period * 1e9)
    return Episode(
        id=episode_id, observations=np.stack(observations), actions=np.stack(actions),
        rewards=np.asarray(rewards, np.float32), terminated=step.terminated,
        truncated=not step.terminated,
        outcome=Outcome.SUCCESS if step.success else Outcome.FAILURE,
        stamps=np.arange(len(observations), dtype=np.int64) * period,
        task=environment.spec.task, source="demonstration",
        notes=() if step.success else ("the hand missed the cube",))

