"""The safety filter: the last word before the motors, whoever asks.

Every tick it is given what was asked for and what is measured, and it says what may be executed.
It trusts nobody: an action that is incomplete, not finite or stale, an arm that reports a fault or
does not follow, a latched stop, all end in the measured pose being held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from poco_ros.core.joining import TickStatus
from poco_ros.robot.actions import ActionMapping
from poco_ros.robot.arm import ArmCommand, ArmError, ArmState
from poco_ros.robot.config import ActionConfig, SafetyConfig, arm_limits
from poco_ros.robot.joints import in_order
from poco_ros.robot.kinematics import GRIPPER_STROKE
from poco_ros.robot.limits import Limit, PositionLimit, StepLimit, VelocityLimit
from poco_ros.robot.workspace_limit import WorkspaceLimit

_FIRST_SHARE = 0.1  # of a full step, at the beginning of a soft start


def _ranges(joints: Mapping[str, tuple[float, float]], gripper: tuple[float, float],
            joint_names: Sequence[str], margin: float = 0.0) -> PositionLimit:
    """Return ranges by name [rad], less a margin at both ends, and the gripper's [m], as a limit.
    """
    lower, upper = (in_order({name: pair[side] for name, pair in joints.items()}, joint_names,
                             "joint_limits") for side in (0, 1))
    return PositionLimit(np.append(lower + margin, gripper[0]), np.append(upper - margin,
                                                                          gripper[1]))


Verdict = TickStatus
"""What became of a request."""


@dataclass(frozen=True, eq=False)
class Decision:
    """What may be executed in this tick."""

    command: ArmCommand
    """Pose for the arm; with STOPPED it is not to be sent, the arm holds by itself."""
    requested: np.ndarray
    """(A,) float32 in [-1, 1]: as asked; what cannot be read is 0."""
    executed: np.ndarray
    """(A,) float32 in [-1, 1]: the action that the command amounts to; learned from."""
    verdict: Verdict
    reason: str = ""
    """Why, when not NOMINAL."""
    fault: bool = False
    """Held because something is wrong with the arm, not with the action: a person must look."""
    blocked: bool = False
    """The fault is that the arm cannot go where it was asked to."""


class SafetyFilter:
    """Turns requests into commands. One thread at a time.

    :meth:`enter` begins at a measured pose; then one of :meth:`act`, :meth:`move`, :meth:`rest`
    and :meth:`hold` is called a tick. ``pose`` is what was commanded last.
    """

    def __init__(self, safety: SafetyConfig, actions: ActionConfig, joint_names: Sequence[str],
                 period: float) -> None:
        self.joint_names = tuple(joint_names)
        self.mapping = ActionMapping(actions, joint_names)
        self._config = safety
        self._period = period
        self._positions = _ranges(safety.joint_limits, safety.gripper_range, joint_names,
                                  safety.limit_margin)
        self._reach = _ranges(arm_limits(), (0.0, GRIPPER_STROKE), joint_names)
        step = in_order(safety.joint_step, joint_names, "joint_step")
        velocity = in_order(safety.joint_velocity, joint_names, "joint_velocity")
        self.limits: tuple[Limit, ...] = (
            self._positions, StepLimit(np.append(step, safety.gripper_step)),
            VelocityLimit(velocity, period), WorkspaceLimit(safety.workspace))
        self.pose: ArmCommand | None = None
        self.stop_reason = ""
        """Why the stop is latched; empty when it is not."""
        self._entered_ns = 0
        self._commanded_ns = 0
        self._holding = False
        self._others = False
        """Others may have moved the arm, the fingers too, since the pose was taken."""

    def enter(self, state: ArmState) -> ArmCommand:
        """Begin at the measured pose, with a soft start; return the pose to command.

        Joints that are a little outside their limits stay there until something is asked of the
        arm; then they are led back in, by no more than a step a tick.

        Raises:
            ArmError: a joint is further outside its limits than the entry tolerance.
        """
        self.admit(state)
        self._entered_ns = self._commanded_ns = state.monotonic_ns
        self.pose, self._holding, self._others = None, False, False
        return self._pose_here(state, state.gripper)

    def admit(self, state: ArmState) -> None:
        """Raise ArmError when a joint is further outside its limits than the entry tolerance."""
        excess = np.maximum(self._positions.lower[:-1] - state.positions,
                            state.positions - self._positions.upper[:-1])
        worst = int(np.argmax(excess))
        if excess[worst] > self._config.entry_tolerance:
            low, high = self._positions.lower[worst], self._positions.upper[worst]
            raise ArmError(
                f"{state.joint_names[worst]} is at {state.positions[worst]:.3f} rad, outside its"
                f" limits [{low:.3f}, {high:.3f}] rad; bring the arm inside by hand (teach mode)"
                " or widen joint_limits")

    def act(self, action: np.ndarray, observed_ns: int, state: ArmState, now_ns: int) -> Decision:
        """Decide on an action of a chunk.

        Args:
            action: (A,) normalised.
            observed_ns: when the observation was taken that its chunk answers, monotonic [ns].
            state: newest measurement.
            now_ns: monotonic clock [ns].
        """
        asked = self._readable(action)
        if (refused := self._refused(state, asked)) is not None:
            return refused
        if np.shape(action) != asked.shape or not np.isfinite(action).all():
            return self.hold(state, f"the action is not {len(asked)} finite values:"
                             f" {np.asarray(action)}", asked)
        age = (now_ns - observed_ns) * 1e-9
        if not 0.0 <= age <= self._config.chunk_age:
            return self.hold(state, f"the action is stale: its observation is {age:.3f} s old,"
                             f" allowed are {self._config.chunk_age:.3f} s", asked)
        before = self._before()
        return self._execute(self.mapping.pose(asked, before), before, asked, now_ns)

    def move(self, target: ArmCommand, state: ArmState, now_ns: int) -> Decision:
        """Decide on a pose asked for directly: homing, or following a leader."""
        if (refused := self._refused(state)) is not None:
            return refused
        vector = target.vector()
        if vector.shape != self._positions.lower.shape or not np.isfinite(vector).all():
            return self.hold(state, f"the pose is not complete and finite: {vector}", fault=True)
        before = self._before()
        asked = self.mapping.action(target, before)
        return self._execute(target, before, asked, now_ns)

    def rest(self, state: ArmState, now_ns: int) -> Decision:
        """Nothing is asked for: stay at the pose commanded last."""
        if (refused := self._refused(state)) is not None:
            return refused
        before = self._before()
        self._commanded_ns = now_ns
        action = self.mapping.action(before, before)
        return Decision(before, action, action, Verdict.NOMINAL)

    def hold(self, state: ArmState, reason: str, asked: np.ndarray | None = None,
             fault: bool = False) -> Decision:
        """Hold the measured pose, which is taken once and then kept, so that nothing creeps.

        It is held also outside the limits: those lead motion, and to hold is to move nowhere.
        While nothing may be sent (a silent bus, a person who leads the arm) it may be moved by
        others, its fingers too: all of the pose is taken afresh when that is over. The joints are
        also when something has driven them away; the gripper keeps what it was commanded then, it
        does not let go of what it holds.
        """
        before = self.pose if self.pose is not None else state.as_command()
        mute = any(fault.mute for fault in state.faults)
        if mute or self._others:
            self._pose_here(state, state.gripper)
        elif not self._holding or self._error(state).max() > self._config.following_error:
            self._pose_here(state, before.gripper)
        self._holding, self._others = not mute, mute
        pose = self._before()
        self._commanded_ns = state.monotonic_ns
        executed = self.mapping.action(pose, before)
        asked = executed if asked is None else asked
        if self.stop_reason:
            return Decision(pose, asked, executed, Verdict.STOPPED, self.stop_reason,
                            fault)
        return Decision(pose, asked, executed, Verdict.HELD, reason, fault)

    def late(self, state: ArmState, reason: str) -> Decision:
        """Hold for this tick, since an action is due and there is none; a fault counts for more.
        """
        refused = self._refused(state)
        return self.hold(state, reason) if refused is None else refused

    def let_go(self) -> None:
        """Forget the held pose: somebody else had the arm, and the next hold measures afresh."""
        self._others = True

    def stop(self, reason: str) -> None:
        """Latch: every decision is STOPPED until :meth:`release`."""
        self.stop_reason = self.stop_reason or reason or "stopped"

    def release(self) -> None:
        """Lift the latch; :meth:`enter` must be called before anything moves again."""
        self.stop_reason = ""

    def _refused(self, state: ArmState, asked: np.ndarray | None = None) -> Decision | None:
        """Return that the arm must be held, whatever is asked; None when all is well."""
        trouble = self._trouble(state)
        blocked = "" if trouble or self.stop_reason else self._blocked(state)
        if not (trouble or blocked or self.stop_reason):
            return None
        held = self.hold(state, trouble or blocked, asked, fault=True)
        return replace(held, blocked=True) if blocked else held

    def _trouble(self, state: ArmState) -> str:
        """Return what is wrong with the arm right now, empty when nothing is."""
        if tuple(state.joint_names) != self.joint_names:
            return f"the arm reports joints {list(state.joint_names)}"
        if state.faults:
            return "; ".join(map(str, state.faults))
        if not (np.isfinite(state.positions).all() and np.isfinite(state.gripper)):
            return f"the measured pose is not finite: {state.positions}, {state.gripper}"
        return ""

    def _blocked(self, state: ArmState) -> str:
        """Return how far the arm is from where it was asked to be, empty when it follows."""
        error = self._error(state)
        worst = int(np.argmax(error))
        if error[worst] > self._config.following_error:
            return (f"{self.joint_names[worst]} is {error[worst]:.3f} rad from where it was asked"
                    " to be: something blocks the arm or drives it away")
        return ""

    def _error(self, state: ArmState) -> np.ndarray:
        """Return how far each joint is from the pose commanded last, (J,) [rad]."""
        return np.abs(self._before().positions - state.positions)

    def _execute(self, wanted: ArmCommand, before: ArmCommand, asked: np.ndarray,
                 now_ns: int) -> Decision:
        elapsed = (now_ns - self._commanded_ns) * 1e-9
        since = (now_ns - self._entered_ns) * 1e-9
        scale = 1.0 if since >= self._config.soft_start else max(
            since / self._config.soft_start, _FIRST_SHARE)
        previous, vector = before.vector(), wanted.vector()
        bitten = []
        for limit in self.limits:
            allowed = limit.apply(vector, previous, elapsed, scale)
            if np.abs(allowed - vector).max() > 1e-9:
                bitten.append(limit.name)
            vector = allowed
        self._holding = self._others = False
        self._commanded_ns = now_ns
        self.pose = ArmCommand.from_vector(vector)
        executed = self.mapping.action(self.pose, before)
        if not bitten:
            return Decision(self.pose, asked, executed, Verdict.NOMINAL)
        soft = ", soft start" if scale < 1.0 else ""
        return Decision(self.pose, asked, executed, Verdict.LIMITED, ", ".join(bitten) + soft)

    def _pose_here(self, state: ArmState, gripper: float) -> ArmCommand:
        """Take the measured joints and an opening [m] as the pose that was commanded last.

        An arm refuses a pose beyond its own limits. One that rests a little beyond them is asked
        for the limit; one that is further beyond is asked for what it refuses, and stays.
        """
        vector = np.append(state.positions, gripper)
        if not np.isfinite(vector).all():
            return self._before()
        here = self._reach.clip(vector)
        if np.abs(here - vector)[:-1].max() > self._config.entry_tolerance:
            here[:-1] = state.positions
        self.pose = ArmCommand.from_vector(here)
        return self.pose

    def _before(self) -> ArmCommand:
        if self.pose is None:
            raise ArmError("the safety filter has no pose yet: enter() comes first")
        return self.pose

    def _readable(self, action: np.ndarray) -> np.ndarray:
        """Return the action as (A,) float32 in [-1, 1]; what cannot be read becomes 0."""
        asked = np.zeros(self.mapping.action_dim, np.float32)
        given = np.nan_to_num(np.asarray(action, np.float64).ravel()[:len(asked)], nan=0.0,
                              posinf=1.0, neginf=-1.0)
        asked[:len(given)] = np.clip(given, -1.0, 1.0)
        return asked
