"""The physics of the cell: the arm with its drives, the gripper and the cube."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from poco_ros.cell import kinematics as piper
from poco_ros.cell.config import SceneConfig
from poco_ros.cell.drive import SetPoint
from poco_ros.cell.mjcf import build_mjcf
from poco_ros.cell.renderer import Snapshot

_ARM = slice(0, 6)
_FINGERS = slice(6, 8)
_CUBE = slice(8, 15)
_CUBE_SPEED = 2.0  # [m/s]
_FRICTION, _IDLE_FRICTION = 0.2, 0.8  # of a joint, driven and pushed through its gears [N m]
_SINKING = 40.0  # damping of a joint whose arm was stopped by its emergency stop [N m s/rad]
CONTROL_PERIOD = 0.005
"""How often the drives move their set points [s]."""


@dataclass(frozen=True)
class CubePose:
    """Where the cube is."""

    position: np.ndarray
    """(3,) [m], of its centre, in the base frame."""
    yaw: float
    """Turn about the vertical [rad]; the cube looks the same every 90 degrees."""


class Scene:
    """The simulated hardware. Not thread-safe: one thread drives it."""

    def __init__(self, config: SceneConfig) -> None:
        self.config = config
        self.model = mujoco.MjModel.from_xml_string(build_mjcf(config))
        self.data = mujoco.MjData(self.model)
        self._substeps = max(1, round(CONTROL_PERIOD / config.timestep))
        self._gain = self.model.actuator_gainprm.copy()
        self._bias = self.model.actuator_biasprm.copy()
        self._gravcomp = self.model.body_gravcomp.copy()
        self._damping = self.model.dof_damping[_ARM].copy()
        self._arm_bodies = [self.model.body(f"link{i + 1}").id for i in range(piper.JOINTS)]
        self._powered = np.ones(piper.JOINTS + 1, bool)
        home = np.asarray(config.home)
        if home.shape != (piper.JOINTS,):
            raise ValueError(f"home has {home.size} joints, expected {piper.JOINTS}")
        self.arm_drive = SetPoint(home, config.joint_speed, config.joint_acceleration)
        self.gripper_drive = SetPoint(np.zeros(1), config.gripper_speed, 2.0)
        self.set_grip_force(config.gripper_force)
        self.place_arm(home)
        self.place_cube(np.array([np.mean(config.cube_x), np.mean(config.cube_y)]), 0.0)

    # -- commands ---------------------------------------------------------------------------------
    def command_joints(self, target: np.ndarray) -> None:
        """Set the joint target (6,) [rad]; what lies beyond a limit stops at it."""
        self.arm_drive.target[:] = np.clip(target, piper.JOINT_LOWER, piper.JOINT_UPPER)

    def command_gripper(self, opening: float) -> None:
        """Set the opening between the fingers [m]."""
        self.gripper_drive.target[0] = np.clip(opening, 0.0, piper.GRIPPER_STROKE)

    def set_speed(self, share: float) -> None:
        """Set the share of the joint speed that motions may use, 0 to 1."""
        self.arm_drive.speed = self.config.joint_speed * float(np.clip(share, 0.0, 1.0))

    def set_grip_force(self, newton: float) -> None:
        """Bound the force of the gripper [N]."""
        self.model.actuator_forcerange[piper.JOINTS] = (-newton, newton)

    def set_power(self, powered: Sequence[bool]) -> None:
        """Switch the six motors and the gripper on or off, (7,); an arm without power falls.

        A motor that is switched on holds the place where it is.
        """
        wanted = np.asarray(powered, bool)
        rising = wanted & ~self._powered
        if np.array_equal(wanted, self._powered):
            return
        for index in np.flatnonzero(rising):
            if index < piper.JOINTS:
                self.arm_drive.position[index] = self.joint_positions[index]
                self.arm_drive.target[index] = self.joint_positions[index]
                self.arm_drive.velocity[index] = 0.0
            else:
                self.gripper_drive.jump(np.array([self.gripper_opening]))
        self._powered = wanted.copy()
        self.model.dof_damping[_ARM] = self._damping
        self.model.actuator_gainprm[:] = self._gain * wanted[:, None]
        self.model.actuator_biasprm[:] = self._bias * wanted[:, None]
        self.model.dof_frictionloss[_ARM] = np.where(wanted[:piper.JOINTS], _FRICTION,
                                                     _IDLE_FRICTION)
        # gravity is compensated by the drives: a chain is held up only while all its motors work
        held = bool(wanted[:piper.JOINTS].all())
        self.model.body_gravcomp[:] = self._gravcomp * held

    def sink(self) -> None:
        """Let the arm come down slowly, its motors a damping and no more, until power is cut."""
        if not self._powered[:piper.JOINTS].any():
            return
        self.model.actuator_gainprm[:piper.JOINTS] = 0.0
        self.model.actuator_biasprm[:piper.JOINTS] = 0.0
        self.model.dof_damping[_ARM] = _SINKING
        self.model.body_gravcomp[:] = 0.0

    def hold(self) -> None:
        """Stop where the arm is now."""
        self.arm_drive.jump(self.joint_positions)

    # -- placing by hand --------------------------------------------------------------------------
    def place_arm(self, joints: np.ndarray, opening: float = piper.GRIPPER_STROKE) -> None:
        """Put the arm at ``joints`` (6,) [rad] at once and at rest."""
        self.data.qpos[_ARM] = joints
        self.data.qpos[_FINGERS] = opening / 2
        self.data.qvel[:8] = 0.0
        self.arm_drive.jump(np.asarray(joints))
        self.gripper_drive.jump(np.array([opening]))
        self._write_controls()
        mujoco.mj_forward(self.model, self.data)

    def place_cube(self, place: np.ndarray, yaw: float) -> None:
        """Put the cube down at ``place`` (2,) [m], turned by ``yaw`` [rad]."""
        half = self.config.cube_size / 2
        self.data.qpos[_CUBE] = (place[0], place[1], half, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        self.data.qvel[8:14] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def scatter_cube(self, rng: np.random.Generator) -> None:
        """Put the cube down somewhere in the configured region."""
        place = np.array([rng.uniform(*self.config.cube_x), rng.uniform(*self.config.cube_y)])
        self.place_cube(place, rng.uniform(*self.config.cube_yaw))

    # -- time -------------------------------------------------------------------------------------
    def step(self) -> None:
        """Let ``CONTROL_PERIOD`` pass."""
        self.arm_drive.advance(CONTROL_PERIOD)
        self.gripper_drive.advance(CONTROL_PERIOD)
        self._write_controls()
        mujoco.mj_step(self.model, self.data, self._substeps)
        # a cube that slips out of a pinch must not fly off faster than a thrown one
        speed = float(np.linalg.norm(self.data.qvel[8:11]))
        if speed > _CUBE_SPEED:
            self.data.qvel[8:11] *= _CUBE_SPEED / speed

    def run(self, duration: float) -> None:
        """Let ``duration`` [s] pass, rounded to whole control periods."""
        for _ in range(max(1, round(duration / CONTROL_PERIOD))):
            self.step()

    def _write_controls(self) -> None:
        self.data.ctrl[:piper.JOINTS] = self.arm_drive.position
        self.data.ctrl[piper.JOINTS] = self.gripper_drive.position[0] / 2

    # -- measurements -----------------------------------------------------------------------------
    @property
    def time(self) -> float:
        """Simulated time [s]."""
        return float(self.data.time)

    @property
    def joint_positions(self) -> np.ndarray:
        """Joints (6,) [rad]."""
        return self.data.qpos[_ARM].copy()

    @property
    def joint_velocities(self) -> np.ndarray:
        """Joint speeds (6,) [rad/s]."""
        return self.data.qvel[_ARM].copy()

    @property
    def motor_torques(self) -> np.ndarray:
        """Torques of the six motors [N m] and force of the gripper [N], (7,)."""
        return self.data.actuator_force.copy()

    @property
    def gripper_opening(self) -> float:
        """Opening between the fingers [m]."""
        return float(self.data.qpos[_FINGERS].sum())

    @property
    def cube(self) -> CubePose:
        """Pose of the cube."""
        w, x, y, z = self.data.qpos[11:15]
        yaw = float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))
        return CubePose(self.data.qpos[8:11].copy(), yaw)

    @property
    def tool_position(self) -> np.ndarray:
        """Point between the finger tips (3,) [m]."""
        return self.data.site("tool").xpos.copy()

    def lifted(self, height: float) -> bool:
        """Whether the cube's centre is above ``height`` [m] and between the fingers."""
        cube = self.data.qpos[8:11]
        return bool(cube[2] > height and np.linalg.norm(cube - self.tool_position) < 0.06)

    def snapshot(self) -> Snapshot:
        """Return what a renderer needs of this instant."""
        return Snapshot.of(self.data)
