"""The node around the control loop of the arm."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from poco_msgs.msg import ActionChunk, EpisodeStatus
from poco_msgs.srv import Reset
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from poco_ros.core.errors import DataError
from poco_ros.nodes.arm_controller.reset import ResetDesk
from poco_ros.nodes.arm_controller.settings import (
    TEACH,
    ArmControllerSettings,
    robot_config,
    task_of,
)
from poco_ros.nodes.arm_controller.tick_topics import ArmTopics, executed_action
from poco_ros.robot.arm import ArmCommand, ArmError, ArmFault, ArmState
from poco_ros.robot.control_status import Executed, Mode
from poco_ros.robot.controller import ArmController
from poco_ros.robot.piper import Piper
from poco_ros.robot.teaching import TaughtMotion
from poco_ros.robot.ticker import Lateness, ask_for_realtime, ask_for_short_slices
from poco_ros.ros import convert, names
from poco_ros.ros.fast_loop import Reply
from poco_ros.ros.lifecycle import HardwareNode
from poco_ros.ros.node import POLL
from poco_ros.ros.operator_word import Presses
from poco_ros.ros.parameters import declare_settings

ARM = "arm"
LEADING = "teaching mode of the arm (its button)"
HEARTBEAT = f"{names.OPERATOR_HEARTBEAT} (keypad_reward, with its keypad plugged in)"
SOON = 0.02
"""Longest wait of the main thread while a reset is on its way [s]."""
HAND_LED = ("teaching", "not_enabled")
"""Faults of an arm that are none while a person leads it by hand."""
LIVE = (EpisodeStatus.RESETTING, EpisodeStatus.RUNNING)


class ArmControllerNode(HardwareNode):
    """Publishes ``joint_states`` and ``executed_action``; takes ``action_chunk``.

    Configured, it measures; active, it moves the arm, or with ``mode:=teach`` watches a person do
    so and sends nothing.
    """

    def __init__(self) -> None:
        super().__init__("arm_controller")
        self.settings = declare_settings(self, ArmControllerSettings, self.given)
        self.config = robot_config(self.settings)
        self.teaching = self.settings.mode == TEACH
        self.arm = Piper(self.config.arm)
        self._topics = ArmTopics(self)
        self.controller = ArmController(
            self.arm, self.config, task_of(self.settings),
            on_observation=self._on_observation, on_executed=self._on_executed)
        self.taught = TaughtMotion(self.controller.filter.mapping, self.config.teaching,
                                   1.0 / self.config.control.rate)
        self._led = self.config.arm.other_controllers == "leader"
        self._slow = ThreadPoolExecutor(1, "slow")
        self._bringing: Future[None] | None = None
        self._presses = Presses()
        self._desk = ResetDesk(self.controller, lambda: self._slow.submit(self._power),
                               lambda why: self.health.event("refused reset", why))
        self._told_of = ""
        self._late = self._missed = 0
        self._priority = "normal"
        self._counted_at, self._counted_ticks = time.monotonic(), 0
        self.loop.subscribe(ActionChunk, names.ACTION_CHUNK, self._on_chunk, names.CHUNK_QOS)
        self.loop.subscribe(EpisodeStatus, names.EPISODE, self._on_episode, names.STATUS_QOS)
        self.loop.subscribe(Header, names.OPERATOR_READY, self._on_ready, names.OPERATOR_QOS)
        self.loop.subscribe(Header, names.OPERATOR_HEARTBEAT,
                            lambda _: self.controller.heartbeat(), names.OPERATOR_QOS,
                            wakes=False)
        self.loop.serve(SetBool, names.STOP, self._on_stop)
        self.loop.serve(Reset, names.RESET, self._on_reset)
        self.loop.serve(Trigger, names.HOME, self._on_home)
        self.health.figures = self._figures
        if self.settings.autostart:
            self.autostart()

    # -- lifecycle (slow thread or executor) --------------------------------------------------

    def connect(self) -> None:
        """Open the bus and begin to measure."""
        slices = ask_for_short_slices() or "short slices"  # of threads to come, too
        self.arm.open()
        self.controller.start()
        refused = ask_for_realtime() if self.config.control.realtime else "not asked for more"
        self._priority = f"normal, {slices} ({refused})" if refused else "real-time"
        self.get_logger().info(f"the arm is on bus {self.config.arm.interface}"
                               f" {self.config.arm.channel}")

    def awaited(self) -> str:
        """Nobody could stop the arm before the operator's keypad is there."""
        return HEARTBEAT if self.controller.heartbeat_lost and not self.teaching else ""

    def engage(self) -> None:
        """Power the arm and hold it where it is; one that a person leads is left alone."""
        self.controller.all_clear = False  # nobody knows how the arm came here
        if not self.teaching:
            self.controller.activate()

    def disengage(self) -> None:
        """End the episode; the arm holds where it is."""
        self.taught.end()
        self.controller.deactivate()

    def disconnect(self) -> None:
        """Leave the bus; the motors stay powered."""
        self.controller.close()
        self.arm.close()

    def close(self) -> None:
        """Leave the arm holding, as a clean shutdown does."""
        self._slow.shutdown()
        super().close()

    def _power(self) -> None:
        """Take control again after a fault or a stop."""
        with self._transition:
            if self.state != "active":
                raise ArmError(f"arm_controller is {self.state}; activate it")
            if self.controller.mode is Mode.HOLDING:
                self.controller.ready()
            else:
                self.controller.activate()

    # -- ticker's thread ----------------------------------------------------------------------

    def _on_observation(self, state: ArmState) -> None:
        self._topics.joints(state)
        if not self.teaching:
            return
        stopped = self.controller.reason if self.controller.mode is Mode.STOPPED else ""
        action = self.taught.observe(state, self._leader(state), stopped,
                                     self._unled(state.faults))
        if action is not None:
            self._topics.executed(action)

    def _leader(self, state: ArmState) -> ArmCommand | None:
        """Return what a leader arm commands, None when none does."""
        leader = self.arm.leader() if self._led else None
        if leader is None or (state.monotonic_ns - leader.monotonic_ns) * 1e-9 > \
                self.config.teaching.leader_age:
            return None
        return ArmCommand(leader.positions,
                          state.gripper if leader.gripper is None else leader.gripper)

    def _unled(self, faults: Iterable[ArmFault]) -> str:
        """Return the faults of an arm that is being taught; being led by hand is none."""
        return "; ".join(str(fault) for fault in faults if self._led or fault.code not in HAND_LED)

    def _on_executed(self, tick: Executed) -> None:
        self._topics.executed(executed_action(tick))

    # -- work (main thread) -------------------------------------------------------------------

    def work(self) -> None:
        """Hear chunks, stops and resets until stopped."""
        gc.collect()
        gc.freeze()  # a collection that walks all modules takes longer than a tick may be late
        while not self.stopping.is_set():
            if self._bringing is not None and self._bringing.done():
                self._bringing.result()  # an error that is none of the hardware's ends the node
                self._bringing = None
            if self._bringing is None and self.bring_up_due:
                self._bringing = self._slow.submit(self.bring_up)
            self.loop.wait(SOON if self._desk.pending else POLL)
            self._desk.update()
            self._watch()

    def _on_chunk(self, message: ActionChunk) -> None:
        try:
            try:
                chunk = convert.chunk_of(message)
            except DataError as error:
                self.controller.refuse(error)
                raise
            self.controller.offer(chunk, message.episode_id)
        except DataError as error:
            self.health.event("refused chunk", str(error))

    def _on_episode(self, status: EpisodeStatus) -> None:
        """Drop the chunk in execution as soon as its episode is over.

        A message of another episode counts only after one of ours: before, it is an older one
        that the reset has overtaken. One that tells of a past episode never does.
        """
        ours = self._episode_id
        if not ours:
            return
        if status.episode_id == ours:
            self._told_of = ours
            over = status.phase not in LIVE
        else:
            over = self._told_of == ours and status.phase in (*LIVE, EpisodeStatus.WAITING)
        if over:
            self.taught.end()
            self.controller.end_episode()

    @property
    def _episode_id(self) -> str:
        return self.taught.episode_id if self.teaching else self.controller.episode_id

    def _on_stop(self, request: SetBool.Request, reply: Reply) -> None:
        if not request.data:
            try:
                self.controller.release()
            except ArmError as error:
                reply(SetBool.Response(success=False, message=str(error)))
                return
            reply(SetBool.Response(success=True, message="released; the arm moves after the next"
                                   " ready"))
            return
        what = self.controller.stop("service stop")
        ends = " and the demonstration ends" if self.teaching else ""
        reply(SetBool.Response(success=True, message=f"the stop is latched{ends}; {what}"))

    def _on_ready(self, message: Header) -> None:
        """Let the reset that comes with it move the arm, if it was active by then."""
        if self._presses.counts(message, self.health) and self.state == "active":
            self._desk.ready()

    def _on_reset(self, request: Reset.Request, reply: Reply) -> None:
        why = ""
        if not request.episode_id:
            why = "episode_id is empty; every episode has an id of its own"
        elif self.state != "active":
            why = f"arm_controller is {self.state}; activate it, or see its diagnostics"
        elif self.teaching and self.controller.mode is Mode.STOPPED:
            why = f"the stop is latched ({self.controller.reason}); release it first: service" \
                  " stop, data false"
        if why:
            self.health.event("refused reset", f"{request.episode_id}: {why}")
            reply(Reset.Response(success=False, message=why))
        elif self.teaching:
            self.taught.begin(request.episode_id)
            reply(Reset.Response(success=True, begins=convert.stamp_to_msg(time.time_ns())))
        else:
            self._desk.ask(request.episode_id, reply)

    def _on_home(self, _: Trigger.Request, reply: Reply) -> None:
        if self.teaching:
            reply(Trigger.Response(success=False, message="a person leads the arm"))
            return
        try:
            if self.controller.mode is not Mode.RAMPING:
                self.controller.home()
        except ArmError as error:
            reply(Trigger.Response(success=False, message=str(error)))
        else:
            reply(Trigger.Response(success=True, message="going home"))

    # -- health -------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Tell what is wrong with the arm, and which ticks were not as they should be."""
        controller, health = self.controller, self.health
        if self.state not in ("inactive", "active"):
            self._desk.refuse(f"arm_controller is {self.state}")
            health.healed(ARM)
            health.got(LEADING)
            return
        why = self._trouble()
        if why:
            health.fault(ARM, why)
        else:
            health.healed(ARM)
        late, missed = controller.late_chunks, controller.ticker.missed
        if late > self._late:
            health.event("late chunk", f"no action was there in {late} ticks so far; the measured"
                         " pose was held")
        if missed > self._missed:
            health.event("missed tick", f"{missed} so far; is the machine overloaded?")
        self._late, self._missed = late, missed

    def _trouble(self) -> str:
        controller = self.controller
        if controller.mode is Mode.STOPPED:
            return (f"stopped: {controller.reason}; release it with service stop, data false, then"
                    " press ready")
        if controller.mode is Mode.HOLDING:
            why = "; ".join([controller.reason, *(str(fault) for fault in self._faults()
                                                  if fault.code not in controller.reason)])
            return f"holding: {why}; it goes on when that is over and the operator was ready"
        if not self.teaching:
            return ""
        faults = self._faults()
        by_hand = any(fault.code == "teaching" for fault in faults)
        if self._led or by_hand:
            self.health.got(LEADING)
        else:
            self.health.wait_for(LEADING)
        return self._unled(faults)

    def _faults(self) -> tuple[ArmFault, ...]:
        try:
            return self.arm.read().faults
        except ArmError as error:  # the bus is being closed
            return (ArmFault("closed", str(error)),)

    def _figures(self) -> dict[str, object]:
        status = self.controller.status()
        now = time.monotonic()
        rate = (status.ticks - self._counted_ticks) / max(now - self._counted_at, 1e-3)
        self._counted_at, self._counted_ticks = now, status.ticks
        figures: dict[str, object] = {
            "state": self.state, "mode": "teach" if self.teaching else status.mode.value,
            "reason": status.reason, "rate": f"{rate:.2f}", "ticks": status.ticks,
            "missed_ticks": status.missed_ticks, "priority": self._priority,
            **_in_milliseconds("sense", status.sense_lateness),
            **_in_milliseconds("act", status.act_lateness),
            "episode_id": self._episode_id,
            "step": self.taught.step if self.teaching else status.step,
            "late_chunks": status.late_chunks,
            **{f"refused chunks: {kind}": n for kind, n in status.refused_chunks.items()},
            **{f"ticks: {verdict}": n for verdict, n in status.verdicts.items()},
        }
        if self.teaching:
            figures["led_by"] = "leader" if self._led else "hand"
            figures["limited_motions"] = self.taught.limited
        if self.state in ("inactive", "active"):
            try:
                figures.update(self.arm.diagnostics)
            except ArmError:
                figures["bus"] = "closing"
        return figures


def _in_milliseconds(phase: str, late: Lateness) -> dict[str, str]:
    """Return how late a phase of the tick began, by name."""
    return {f"{phase}_late_ms ({name})": f"{1e3 * value:.3f}" for name, value in (
        ("p50", late.p50), ("p99", late.p99), ("p99.9", late.p999), ("max", late.max))}
