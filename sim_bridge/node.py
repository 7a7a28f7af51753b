"""The node that serves a simulated environment on the arm's topics.

``pace`` decides what time is. In ``lockstep`` time stands still until a chunk comes, which is then
executed as fast as it goes and told of at its end: in between, simulator and ROS would only push
each other out of the processor's caches. The stamps of an episode lie one control period apart, so
an episode is a function of its seed and of the weights. In ``realtime`` one action is executed a
control period of wall time: s_k is published at the beginning of the period, the action that
answers it has until its end, and when there is none by then the tick is held and counted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from poco_msgs.msg import ActionChunk
from poco_msgs.srv import Reset
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

from poco_ros.core import config
from poco_ros.core.config import setting
from poco_ros.core.errors import DataError
from poco_ros.core.joining import TickStatus
from poco_ros.core.task import SIMULATED_DOMAINS, TaskConfig
from poco_ros.preset import load_preset
from poco_ros.ros import convert, names, wire
from poco_ros.ros.fast_loop import Reply
from poco_ros.ros.node import POLL, PocoNode, run
from poco_ros.ros.parameters import declare_settings
from poco_ros.ros.settings import SimBridgeConfig
from poco_ros.ros.ticks import TickTopics
from sim_bridge.factory import make_environment
from sim_bridge.session import Session, Tick

CHUNK = "action_chunk (rollout)"
RESET = "reset (rollout)"
BURST = 0.1
"""In lock-step, time of executing actions after which is told of them, and a stop heard [s]."""


@dataclass(frozen=True)
class SimBridgeSettings(SimBridgeConfig):
    """Parameters of the node."""

    preset: str = setting("", "preset that gives task and defaults; empty: the defaults")
    task: str = setting("", "simulated domain; empty: the preset's",
                        choices=("", *SIMULATED_DOMAINS))
    task_number: int = setting(0, "single-task variant of the domain; 0: the preset's",
                               minimum=0, maximum=5)
    pace: str = setting("lockstep", "lockstep: as fast as chunks come; realtime: at the control"
                        " rate", choices=("lockstep", "realtime"))
    seed: int = setting(0, "seed of the run; episodes bring their own with reset", minimum=0)


class SimBridge(PocoNode):
    """Drives one environment by chunks and publishes what the arm would."""

    def __init__(self, arguments: Sequence[str] | None = None) -> None:
        super().__init__("sim_bridge", arguments)
        task, defaults = TaskConfig(), dict[str, Any]()
        if self.given.get("preset"):
            preset = load_preset(str(self.given["preset"]))
            task, defaults = preset.task, config.to_dict(preset.graph.sim_bridge)
        self.settings = declare_settings(self, SimBridgeSettings, self.given, defaults)
        task = replace(task, domain=self.settings.task or task.domain,
                       number=self.settings.task_number or task.number)
        self.realtime = self.settings.pace == "realtime"
        environment = make_environment(task)
        self.session = Session(environment, self.settings.max_chunk_age if self.realtime else 0.0)
        self.period = 1.0 / self.settings.rate if self.settings.rate and self.realtime \
            else environment.spec.control_period
        self._simulated = time.time_ns()  # later after a restart than before it
        self._next_picture = 0
        self._deadline = time.monotonic() + self.period
        self._late = 0.0
        self._topics = TickTopics(self, environment.spec.observation,
                                  environment.spec.joint_names)
        self._camera = self.create_publisher(Image, names.CAMERA, names.SENSOR_QOS) \
            if self.settings.camera_rate else None
        # With use_sim_time somebody must be the clock: in this graph that is the simulator.
        is_clock = self.settings.publish_clock or self.get_parameter("use_sim_time").value
        self._clock_topic = self.create_publisher(Clock, names.CLOCK, names.TICK_QOS) \
            if is_clock else None
        self.loop.subscribe(ActionChunk, names.ACTION_CHUNK, self._on_chunk, names.CHUNK_QOS,
                            raw=True)
        self.loop.serve(Reset, names.RESET, self._on_reset)
        self.loop.serve(SetBool, names.STOP, self._on_stop, seldom=True)
        self.health.figures = self._figures
        self.health.wait_for(RESET)
        self.get_logger().info(f"{task.name}, {self.settings.pace}, {1 / self.period:.0f} Hz")

    # -- work ---------------------------------------------------------------------------------

    def advance(self) -> float:
        """Execute what is due of a chunk."""
        if self.realtime:
            return self._advance_in_real_time()
        session, ticks = self.session, list[Tick]()
        watched = self._camera is not None or self._topics.joints_heard()
        until = time.monotonic() + BURST
        while session.due and time.monotonic() < until:
            ticks.append(session.tick(session.stamp + session.period))
            self._set_clock(ticks[-1].stamp)
            if watched:
                self._show(ticks[-1])
        if not ticks:
            return POLL
        self._publish(ticks)
        if not session.due:
            self.health.wait_for(CHUNK if session.running else RESET)
        return 0.0

    def _advance_in_real_time(self) -> float:
        """Do one tick a period; a tick that is late by more than a period starts a new count."""
        left = self._deadline - time.monotonic()
        if left > 0.0:
            return min(left, POLL)
        self._late = -left
        if self._late > self.period:
            self.health.event("missed tick", f"late by {1e3 * self._late:.1f} ms")
            self._deadline = time.monotonic()
        self._deadline += self.period
        if self._clock_topic is not None:
            self._set_clock(self._simulated + round(self.period * 1e9))
        if self.session.running or self.session.stop_reason:
            tick = self.session.tick(self.now())
            self._publish([tick])
            self._show(tick)
        else:  # between episodes the arm still reports its joints
            self._topics.joints(self.now(), self.session.environment.joint_positions())
        return 0.0

    def now(self) -> int:
        """Return the time [ns]: the node's clock, or the simulated time that we publish."""
        if self._clock_topic is not None:
            return self._simulated
        return int(self.get_clock().now().nanoseconds)

    def _set_clock(self, stamp: int) -> None:
        if self._clock_topic is not None and stamp > self._simulated:
            self._simulated = stamp
            self._clock_topic.publish(convert.clock_to_msg(stamp))

    # -- publishing ---------------------------------------------------------------------------

    def _publish(self, ticks: Sequence[Tick]) -> None:
        """Publish ticks: the observations first, for the policy waits for the last of them.

        At the end of an episode nobody waits for a chunk, and the observations go last: in
        lock-step they are what wakes the rollout, which then finds all three.
        """
        topics, running = self._topics, self.session.running
        moved = [tick for tick in ticks if tick.observation is not None]
        if running:
            self._publish_observations(moved)
        for tick in moved:
            if tick.executed.status == TickStatus.HELD:
                self.health.event("held tick", f"step {tick.executed.step}:"
                                  f" {tick.executed.reason}")
            topics.executed(tick.executed)
            if tick.reward is not None:
                topics.reward(tick.reward)
        if not running:
            self._publish_observations(moved)
        for tick in ticks[len(moved):]:  # at most the last one, in which nothing moved
            if not self.session.stop_reason:
                self.health.event("simulation failed", tick.executed.reason)
            topics.executed(tick.executed)
            topics.joints(self.now(), self.session.environment.joint_positions())

    def _publish_observations(self, ticks: Sequence[Tick]) -> None:
        for tick in ticks:
            if tick.observation is not None:
                self._topics.observation(tick.stamp, tick.observation)

    def _show(self, tick: Tick) -> None:
        """Publish what can be looked at now only: the joints, and a picture when one is due."""
        if tick.observation is None:
            return
        if self._topics.joints_heard():
            self._topics.joints(tick.stamp, self.session.environment.joint_positions())
        if self._camera is not None and tick.stamp >= self._next_picture:
            self._publish_picture(tick.stamp)

    def _publish_picture(self, stamp: int) -> None:
        assert self._camera is not None
        settings = self.settings
        self._next_picture = stamp + round(1e9 / settings.camera_rate)
        picture = self.session.environment.render(settings.camera_width, settings.camera_height)
        self._camera.publish(convert.image_to_msg(stamp, picture))

    # -- what comes in ------------------------------------------------------------------------

    def _on_chunk(self, data: bytes) -> None:
        try:
            chunk, episode_id = wire.chunk_of(data)
            if not self.realtime and len(chunk.actions) > names.TICK_DEPTH:
                raise DataError(f"chunk {chunk.chunk_id} has {len(chunk.actions)} actions, in"
                                f" lock-step at most {names.TICK_DEPTH} can be queued")
            # In lock-step time stands still: no chunk is too old.
            self.session.offer(chunk, episode_id, self.now() if self.realtime else 0)
        except DataError as error:
            self.health.event("refused chunk", str(error))
            if self.session.stop_reason:
                self._publish([self.session.tick(self.now())])
            return
        self.health.got(CHUNK)

    def _on_reset(self, request: Reset.Request, reply: Reply) -> None:
        session, unheard = self.session, self._topics.unheard()
        try:
            if unheard:
                raise DataError(f"nobody has subscribed to {', '.join(unheard)} yet")
            session.begin(request.episode_id, request.seed, request.max_steps, self.now())
        except DataError as error:
            reply(Reset.Response(success=False, message=str(error)))
            return
        assert session.observation is not None
        reply(Reset.Response(success=True, begins=convert.stamp_to_msg(session.stamp)))
        self.health.got(RESET)
        self._deadline = time.monotonic() + self.period
        self._next_picture = 0
        self._set_clock(session.stamp)
        self._topics.observation(session.stamp, session.observation)
        self._topics.joints(session.stamp, session.environment.joint_positions())
        self.health.wait_for(CHUNK)

    def _on_stop(self, request: SetBool.Request, reply: Reply) -> None:
        if request.data:
            stopped = self.session.stop("service stop")
            if stopped.episode_id:
                self._topics.executed(stopped)
            self.health.fault("stop", "stopped: the stop is latched; release it by calling the"
                              " service stop with data: false")
        else:
            self.session.release()
            self.health.healed("stop")
        reply(SetBool.Response(success=True, message="stopped" if request.data else "released"))

    def _figures(self) -> dict[str, object]:
        session = self.session
        return {
            "task": session.spec.task, "pace": self.settings.pace,
            "rate_hz": f"{1 / self.period:.1f}", "episode_id": session.episode_id,
            "step": session.step, "running": session.running,
            "held_ticks": self.health.count("held tick"),
            "refused_chunks": self.health.count("refused chunk"),
            "missed_ticks": self.health.count("missed tick"),
            "lateness_ms": f"{1e3 * self._late:.2f}",
        }

    def close(self) -> None:
        """Release the simulator."""
        self.session.environment.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node; return its exit code."""
    return run(SimBridge, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
