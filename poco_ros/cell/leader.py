"""Demonstrations by teleoperation: a scripted hand at a leader arm, or at the arm itself.

A leader arm on the same bus sends the joint and gripper commands that the follower obeys; a
program that records listens to both. When the arm is in drag teaching instead, the same hand
leads the arm itself and nothing is sent.
"""

from __future__ import annotations

import numpy as np

from poco_ros.cell import piper_protocol as protocol
from poco_ros.cell.config import LeaderConfig, ScriptConfig
from poco_ros.cell.frames import Frame
from poco_ros.cell.operator import Activity, Operator
from poco_ros.cell.pick_cube import Phase, PickCubeScript, gripper_opening
from poco_ros.cell.piper_arm import PiperArm
from poco_ros.cell.scene import Scene

_TORQUE = 1.0
_HOMING_SPEED = 0.8  # [rad/s]
_ANNOUNCE = 0.5  # how often mode and enabling are repeated [s]


class Leader:
    """Gives demonstrations while the operator watches; :meth:`step` is called every tick.

    The hand decides at the script's period; commands go out more often, in between, as a leader
    arm sends what its joints really do.
    """

    def __init__(self, config: LeaderConfig, script: ScriptConfig, scene: Scene, arm: PiperArm,
                 operator: Operator, rng: np.random.Generator) -> None:
        self.config, self._script_config = config, script
        self._scene, self._arm, self._operator, self._rng = scene, arm, operator, rng
        self.remaining = config.demonstrations
        """Demonstrations still to be given; the leader is silent at 0."""
        self._script: PickCubeScript | None = None
        self._pose = np.append(scene.joint_positions, scene.gripper_opening)
        self._from = self._to = self._pose
        self._decided = self._sent = self._announced = -np.inf
        self._trials = operator.trials
        self._active = False

    def start(self, demonstrations: int) -> None:
        """Give so many more demonstrations."""
        self.remaining = demonstrations

    def step(self) -> list[Frame]:
        """Return the frames that the leader sends now."""
        now = self._scene.time
        if self.remaining <= 0 and (not self._active or self._at_home()):
            self._active = False
            return []
        if not self._active:
            self._take_over()
        if now - self._decided >= self._script_config.period - 1e-9:
            self._decided = now
            self._from, self._to = self._to, self._decide()
        share = min(1.0, (now - self._decided) / self._script_config.period)
        self._pose = self._from + share * (self._to - self._from)
        if self._arm.led_by_hand:
            self._scene.command_joints(self._pose[:-1])
            self._scene.command_gripper(self._pose[-1])
            return []
        if now - self._sent < 1.0 / self.config.rate - 1e-9:
            return []
        self._sent = now
        frames = []
        if now - self._announced >= _ANNOUNCE:
            self._announced = now
            frames.append(protocol.mode_command(protocol.CAN_CONTROL, protocol.MOVE_JOINTS,
                                                self.config.speed_percent))
            if not all(self._arm.enabled):
                frames.append(protocol.enable_command(7, True))
        frames += protocol.joint_commands(self._pose[:-1])
        frames.append(protocol.gripper_command(float(self._pose[-1]), _TORQUE))
        return frames

    def _take_over(self) -> None:
        """Begin where the arm is."""
        self._active = True
        self._pose = np.append(self._scene.joint_positions, self._scene.gripper_opening)
        self._from = self._to = self._pose
        self._decided = self._sent = self._announced = -np.inf
        self._script = None
        self._trials = self._operator.trials

    def _decide(self) -> np.ndarray:
        """Return where the leader's joints and gripper should be a period later, (7,)."""
        if self._operator.trials != self._trials:  # the attempt was labelled
            self._trials = self._operator.trials
            self.remaining -= self._script is not None
            self._script = None
        watched = self._operator.activity is Activity.WATCH and self.remaining > 0
        if self._script is None and not watched:
            return self._towards_home()
        if self._script is None:
            self._script = PickCubeScript(self._script_config, self._rng)
        if self._script.phase is Phase.DONE and not self._scene.lifted(0.0):
            return self._towards_home()  # missed: going home shows the operator that it is over
        action = self._script.next_action(self._to[:-1], float(self._to[-1]), self._scene.cube)
        joints = self._to[:-1] + action[:-1] * self._script_config.joint_step
        return np.append(joints, gripper_opening(float(action[-1])))

    def _home(self) -> np.ndarray:
        return np.append(self._scene.config.home, gripper_opening(1.0))

    def _at_home(self) -> bool:
        return bool(np.abs(self._pose - self._home()).max() < 1e-3)

    def _towards_home(self) -> np.ndarray:
        goal = self._home()
        reach = np.full(7, _HOMING_SPEED * self._script_config.period)
        reach[-1] = self._script_config.gripper_step
        change = goal - self._to
        joints = change[:-1] * min(1.0, float((reach[:-1] / np.maximum(
            np.abs(change[:-1]), 1e-9)).min()))
        return self._to + np.append(joints, np.clip(change[-1], -reach[-1], reach[-1]))
