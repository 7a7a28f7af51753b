"""The control loop of an arm, without ROS: measure, then act, a fixed time later, every tick."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from poco_ros.core.chunk import ActionChunk, PlayedAction
from poco_ros.core.errors import DataError
from poco_ros.robot.arm import Arm, ArmCommand, ArmError, ArmState
from poco_ros.robot.chunk_gate import ChunkGate
from poco_ros.robot.config import RobotConfig
from poco_ros.robot.control_status import Executed, Mode, Status
from poco_ros.robot.joints import in_order
from poco_ros.robot.observation_log import Observed
from poco_ros.robot.ramp import Ramp
from poco_ros.robot.safety_filter import Decision, SafetyFilter, Verdict
from poco_ros.robot.ticker import Phase, Ticker, switch_threads_quickly

logger = logging.getLogger(__name__)


class ArmController:
    """Owns an open arm's time. Methods may be called from any thread.

    In every tick ``sense`` publishes a measurement (the observation) and ``act``, the act offset
    later, executes one action of the chunk that answers it. An action that is due and is not there
    means that the measured pose is held for this tick. Faults hold until the operator is ready.
    """

    def __init__(self, arm: Arm, config: RobotConfig, task: str = "", *,
                 on_observation: Callable[[ArmState], None] = lambda state: None,
                 on_executed: Callable[[Executed], None] = lambda executed: None) -> None:
        """Take an open arm.

        Args:
            arm: open; this controller is the only one that commands it.
            config: settings of the arm's side.
            task: task of the policies whose chunks are let in; empty lets any in.
            on_observation: called every tick with a new measurement, on the ticker's thread.
            on_executed: called every tick of an episode, on the ticker's thread.
        """
        self.arm = arm
        self.config = config
        period = 1.0 / config.control.rate
        self.filter = SafetyFilter(config.safety, config.actions, arm.joint_names, period)
        self._gate = ChunkGate(self.filter.mapping.action_dim, task, config.safety.chunk_age)
        homing = config.homing
        self._home = [
            ArmCommand(in_order(pose, arm.joint_names, "homing pose"), homing.gripper)
            for pose in (*homing.waypoints, homing.pose)]
        self._on_observation = on_observation
        self._on_executed = on_executed
        self.ticker = Ticker(period, [Phase(0.0, self.sense),
                                      Phase(config.control.act_offset, self.act)], self._failed)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._mode = Mode.INACTIVE
        self._reason = ""
        self._seen: set[str] = set()
        """Faults of the last tick."""
        self._activating = False
        self.all_clear = False
        """The operator was ready, and nothing has happened to the arm since: what comes with his
        word may move it. Set and forgotten by whoever hears him; every fault takes it back."""
        self._ramp: Ramp | None = None
        self._ramp_time = 0.0
        """How far the ramp is [s]: time beyond a period, in a late tick, does not count."""
        self._ramped_ns = 0
        self._stamp = 0
        self._measured = False
        """This tick has a measurement of its own."""
        self._episode = ""
        self._step = -1
        self._executed_total = 0
        self._late_chunks = 0
        self._late_since = 0
        self._verdicts: Counter[Verdict] = Counter()
        self._heartbeat_ns = 0

    # --- what people and nodes ask for --------------------------------------------------------

    def start(self) -> None:
        """Begin to tick; measurements are published from now on.

        A stop that was latched by a process that has ended is latched here too.
        """
        switch_threads_quickly()
        with self._lock:
            if self.arm.stopped:
                self.filter.stop(self.arm.stopped)
                self._become(Mode.STOPPED, self.arm.stopped)
        self.ticker.start()

    def close(self) -> None:
        """End ticking; an arm that was commanded holds where it is."""
        self.ticker.stop()
        self.deactivate()

    def activate(self) -> None:
        """Power the arm and take control at the measured pose, with a soft start.

        Raises:
            ArmError: the arm refuses, is faulty or outside its limits, the stop is latched, or no
                operator is there who could stop it.
        """
        self._refuse_when_stopped()
        if self.heartbeat_lost:
            raise ArmError("not activated: no heartbeat of the operator for"
                           f" {self.config.control.heartbeat_timeout:g} s; does keypad_reward run,"
                           " and is its keypad plugged in?")
        self.filter.admit(self.arm.read())  # before the motors come on
        with self._lock:
            self._activating = True
        try:
            self._take_control()
        finally:
            with self._lock:
                self._activating = False
                self.filter.let_go()

    def _take_control(self) -> None:
        self.arm.enable()
        state = self.arm.read()
        if state.faults:
            raise ArmError(f"not activated: {'; '.join(map(str, state.faults))}")
        with self._lock:
            self._refuse_when_stopped()
            self._gate.drop()
            self.filter.release()
            self.arm.command(self.filter.enter(state))
            self._heartbeat_ns = time.monotonic_ns()
            self._become(Mode.ACTIVE, "")

    def deactivate(self) -> None:
        """Give control up; the arm holds where it is. A latched stop stays latched.

        Nothing is sent to an arm that a person or another controller has.
        """
        with self._lock:
            if self._mode in (Mode.INACTIVE, Mode.STOPPED):
                return
            self.end_episode()
            self._become(Mode.INACTIVE, "deactivated")
            try:
                self.arm.hold()
            except ArmError as error:
                logger.warning("deactivated, and no hold was sent: %s", error)

    def ready(self) -> None:
        """The operator is ready: go on after a fault that is gone; without effect otherwise.

        Raises:
            ArmError: the fault is still there; the stop is latched; the arm refuses power.
        """
        with self._lock:
            self._refuse_when_stopped()
            if self._mode is not Mode.HOLDING:
                return
        faults = [fault for fault in self.arm.read().faults if not fault.clears]
        if faults:
            raise ArmError(f"not ready: {'; '.join(map(str, faults))}")
        self.activate()

    def home(self) -> None:
        """Go to the home pose; the mode is RAMPING until it is reached, then ACTIVE.

        Raises:
            ArmError: not active.
        """
        with self._lock:
            if self._mode not in (Mode.ACTIVE, Mode.RAMPING):
                raise ArmError(f"cannot go home while {self._mode.value}"
                               f"{': ' + self._reason if self._reason else ''}")
            self.end_episode()
            start = self.filter.pose
            assert start is not None
            self._ramp = Ramp(start, self._home, self.config.homing.velocity)
            self._ramp_time, self._ramped_ns = 0.0, time.monotonic_ns()
            self._become(Mode.RAMPING, "going home")

    def stop(self, reason: str) -> str:
        """Stop and latch; nothing is commanded until :meth:`release`.

        Returns:
            What the arm does now, in words.
        """
        with self._lock:
            self.filter.stop(reason)
            what = self.arm.stop(reason)
            self._gate.drop()
            self._become(Mode.STOPPED, reason)
            return what

    def release(self) -> None:
        """Lift the stop; :meth:`activate` is needed before anything moves.

        Raises:
            ArmError: the latch cannot be lifted; the arm stays stopped.
        """
        with self._lock:
            self.arm.release()  # a stop of before may be latched that is not known here yet
            if self._mode is not Mode.STOPPED:
                return
            self.filter.release()
            self.end_episode()
            self._become(Mode.INACTIVE, "stop released")

    def heartbeat(self) -> None:
        """The operator is there."""
        self._heartbeat_ns = time.monotonic_ns()

    def begin_episode(self, episode_id: str) -> None:
        """Let chunks of ``episode_id`` in; its steps count from its first executed action."""
        with self._lock:
            self._gate.begin(episode_id)
            self._episode, self._step, self._late_since = episode_id, -1, 0

    def end_episode(self) -> None:
        """Let no chunk in any more; the arm rests where it is."""
        self.begin_episode("")

    def offer(self, chunk: ActionChunk, episode_id: str) -> None:
        """Take a chunk to execute.

        Raises:
            DataError: it is refused (counted in the status); the message says why.
        """
        with self._lock:
            if self._mode is not Mode.ACTIVE:
                raise self._gate.refuse("mode", f"chunk {chunk.chunk_id}: the arm is"
                                        f" {self._mode.value}{': ' + self._reason}")
            self._gate.offer(chunk, episode_id, self._executed_total, time.monotonic_ns())

    def refuse(self, error: DataError) -> None:
        """Count a chunk that could not even be read."""
        with self._lock:
            self._gate.refuse("malformed", str(error))

    @property
    def mode(self) -> Mode:
        """What the controller does now."""
        return self._mode

    @property
    def reason(self) -> str:
        """Why it holds or is stopped."""
        return self._reason

    @property
    def episode_id(self) -> str:
        """The open episode; empty when there is none."""
        return self._episode

    @property
    def late_chunks(self) -> int:
        """Ticks in which an action was due and no chunk was there."""
        return self._late_chunks

    def at_home(self) -> bool:
        """Return whether the arm was sent to the home pose last, and is there."""
        with self._lock:
            asked, goal = self.filter.pose, self._home[-1]
            if self._mode is not Mode.ACTIVE or asked is None:
                return False
            away = np.abs(self.arm.read().positions - goal.positions).max()
            return bool(np.abs(asked.vector() - goal.vector()).max() < 1e-3
                        and away <= self.config.homing.tolerance)

    def wait_for(self, *modes: Mode, timeout: float) -> bool:
        """Wait until the mode is one of ``modes``; return whether it became so in time [s]."""
        with self._changed:
            return self._changed.wait_for(lambda: self._mode in modes, timeout)

    def status(self) -> Status:
        """Return how the loop does."""
        sense, act = self.ticker.lateness(0), self.ticker.lateness(1)  # a tick must not wait
        with self._lock:
            late = (time.monotonic_ns() - self._late_since) * 1e-9 if self._late_since else 0.0
            return Status(
                self._mode, self._reason, self._episode, max(self._step, 0), self.ticker.ticks,
                self.ticker.missed, sense, act,
                {verdict.name: count for verdict, count in sorted(self._verdicts.items())},
                self._late_chunks, late, dict(self._gate.refusals))

    # --- the two halves of a tick -------------------------------------------------------------

    def sense(self) -> None:
        """Publish the newest measurement, unless it is no newer than the last."""
        state = self.arm.read()
        with self._lock:
            self._measured = state.wall_ns != self._stamp
            if not self._measured:
                return
            self._stamp = state.wall_ns
            self._gate.observations.add(
                state.wall_ns, Observed(state.monotonic_ns, self._executed_total))
        self._on_observation(state)

    def act(self) -> None:
        """Command one tick's pose; while the arm is being activated, nothing."""
        executed = None
        with self._lock:
            if self._mode not in (Mode.INACTIVE, Mode.STOPPED):
                self._watch_heartbeat()
            if self._mode is Mode.STOPPED:
                executed = self._stopped_tick()
            elif self._mode is not Mode.INACTIVE and not self._activating:
                executed = self._decide(self.arm.read(), time.monotonic_ns())
        if executed is not None:
            self._on_executed(executed)

    def _decide(self, state: ArmState, now: int) -> Executed | None:
        played = None
        self._look_for_new_faults(state)
        if self._mode is Mode.RAMPING:
            decision = self._ramp_on(state, now)
        elif self._mode is Mode.HOLDING:
            decision = self.filter.hold(state, self._reason, fault=True)
        elif not self._measured:
            # As after a late tick: an action acts on an observation that no other has acted on.
            decision = self.filter.rest(state, now)
            if not decision.fault:
                self._send(decision, state)
                return None
        elif (due := self._gate.next()) is not None:
            played, observed = due
            decision = self.filter.act(played.action, observed.monotonic_ns, state, now)
            self._late_since = 0
        elif self._step < 0:
            decision = self.filter.rest(state, now)
        else:
            decision = self._late(state, now)
        if decision.fault and self._mode is not Mode.HOLDING:
            self._gate.drop()
            self._become(Mode.HOLDING, decision.reason)
        return self._record(played, self._send(decision, state))

    def _look_for_new_faults(self, state: ArmState) -> None:
        """Tell of faults that come while the arm is held already, and take *ready* back."""
        # What a mute fault says changes from tick to tick, such as the age of a measurement.
        faults = {fault.code if fault.mute else str(fault): fault for fault in state.faults}
        new = set(faults) - self._seen
        self._seen = set(faults)
        if new and self._mode is Mode.HOLDING:
            told = [str(fault) for name, fault in faults.items()
                    if name in new and name not in self._reason]
            self._become(Mode.HOLDING, "; ".join([self._reason, *told]))

    def _late(self, state: ArmState, now: int) -> Decision:
        """An action is due and there is none: hold the measured pose for this tick."""
        if not self._late_since:
            self._late_since = now
        self._late_chunks += 1
        return self.filter.late(state, "no chunk was there in time")

    def _ramp_on(self, state: ArmState, now: int) -> Decision:
        assert self._ramp is not None
        homing = self.config.homing
        self._ramp_time += min((now - self._ramped_ns) * 1e-9, self.ticker.period)
        self._ramped_ns = now
        decision = self.filter.move(self._ramp.at(self._ramp_time), state, now)
        if decision.verdict is Verdict.HELD:
            return decision
        distance = abs(state.positions - self._ramp.goal.positions).max()
        if self._ramp_time >= self._ramp.duration and distance <= homing.tolerance:
            self._ramp = None
            self._become(Mode.ACTIVE, "")
        elif self._ramp_time > self._ramp.duration + homing.patience:
            why = decision.reason or "the arm does not follow"
            return self.filter.hold(
                state, f"home was not reached: {distance:.3f} rad are left ({why})", fault=True)
        return decision

    def _send(self, decision: Decision, state: ArmState) -> Decision:
        """Send the command; return what became of it."""
        if any(fault.mute for fault in state.faults):
            return decision
        try:
            self.arm.command(decision.command)
        except (ArmError, DataError) as error:
            self._gate.drop()
            self._become(Mode.STOPPED if self.arm.stopped else Mode.HOLDING, str(error))
            return self.filter.hold(state, str(error), decision.requested, fault=True)
        return decision

    def _record(self, played: PlayedAction | None, decision: Decision) -> Executed | None:
        if played is not None and decision.verdict in (Verdict.NOMINAL, Verdict.LIMITED):
            self._executed_total += 1
        if not self._episode:
            return None
        over = decision.fault or decision.verdict is Verdict.STOPPED
        if self._step < 0 and played is None and not over:
            return None  # its first chunk is still to come
        self._step += 1
        self._verdicts[decision.verdict] += 1
        return Executed(self._stamp, self._episode, self._step, played, decision)

    def _stopped_tick(self) -> Executed | None:
        return self._record(None, self.filter.hold(self.arm.read(), self._reason))

    def _watch_heartbeat(self) -> None:
        if self.heartbeat_lost:
            self.stop("no heartbeat of the operator for"
                      f" {self.config.control.heartbeat_timeout:g} s")

    @property
    def heartbeat_lost(self) -> bool:
        """Whether an operator's heartbeat is wanted and none has come lately."""
        timeout = self.config.control.heartbeat_timeout
        return timeout > 0.0 and time.monotonic_ns() - self._heartbeat_ns > timeout * 1e9

    def _failed(self, error: Exception) -> None:
        """A phase of the ticker raised: nobody is at the wheel, so stop."""
        if isinstance(error, ArmError):
            with self._lock:
                if self._mode not in (Mode.INACTIVE, Mode.STOPPED):
                    self._become(Mode.HOLDING, str(error))
            return
        self.stop(f"the control loop failed: {type(error).__name__}: {error}")

    def _become(self, mode: Mode, reason: str) -> None:
        if mode is not self._mode:
            logger.info("%s -> %s%s", self._mode.value, mode.value, reason and f": {reason}")
        self.all_clear = self.all_clear and mode in (Mode.ACTIVE, Mode.RAMPING)
        self._mode, self._reason = mode, reason
        self._changed.notify_all()

    def _refuse_when_stopped(self) -> None:
        if self._mode is Mode.STOPPED:
            raise ArmError(f"the stop is latched ({self._reason}); release it first")
