"""A rollout whose environment side is an arm that is played here, tick by tick."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from graph_support import Graph, Onlooker, ros
from poco_msgs.msg import ActionChunk, ExecutedAction, Features, LearnerStatus
from poco_msgs.srv import Reset
from robot_graph_support import FEATURES, HOME, write_robot_preset
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from poco_ros.core.episode import Episode
from poco_ros.core.joining import ExecutedAction as Executed
from poco_ros.core.joining import TickStatus
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.task import ROBOT_JOINTS
from poco_ros.ros import convert, names
from poco_ros.ros.fast_loop import Reply

pytestmark = pytest.mark.graph
PERIOD = 1.0 / 15.0


class PlayedArm(Onlooker):
    """Measures and holds at 15 Hz; says what a learner and an operator would say."""

    def __init__(self) -> None:
        super().__init__("played_arm")
        self.episode, self.step, self.executing = "", 0, True
        self._due = time.monotonic()
        self._joints = self.create_publisher(JointState, names.JOINT_STATES, names.TICK_QOS)
        self._features = self.create_publisher(Features, names.FEATURES, names.TICK_QOS)
        self._executed = self.create_publisher(ExecutedAction, names.EXECUTED_ACTION,
                                               names.TICK_QOS)
        self._ready = self.create_publisher(Header, names.OPERATOR_READY, names.OPERATOR_QOS)
        self._status = self.create_publisher(LearnerStatus, names.LEARNER_STATUS,
                                             names.STATUS_QOS)
        self.loop.subscribe(ActionChunk, names.ACTION_CHUNK, lambda _: None, names.CHUNK_QOS)
        self.loop.serve(Reset, names.RESET, self._on_reset)
        self.loop.serve(Trigger, names.HOME, lambda _, reply: reply(Trigger.Response(
            success=True)))
        self._status.publish(convert.learner_status_to_msg(time.time_ns(), convert.LearnerStatus(
            stage="online", policy_version=1, round_versions=(1,))))

    def _on_reset(self, request: Reset.Request, reply: Reply) -> None:
        self.episode, self.step, self.executing = request.episode_id, 0, True
        reply(Reset.Response(success=True, begins=convert.stamp_to_msg(time.time_ns())))

    def press_ready(self) -> None:
        """Press ready."""
        self._ready.publish(Header(stamp=convert.stamp_to_msg(time.time_ns())))

    def tick(self) -> None:
        """Do what a tick does when one is due."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + PERIOD
        stamp = time.time_ns()
        self._features.publish(convert.features_to_msg(
            stamp, ObservationLayout((("front", FEATURES),)), np.zeros(FEATURES, np.float32)))
        self._joints.publish(convert.joint_state_to_msg(stamp, ROBOT_JOINTS,
                                                        np.array([*HOME, 0.07])))
        if self.episode and self.executing:
            zeros = np.zeros(7, np.float32)
            self._executed.publish(convert.executed_to_msg(Executed(
                stamp, self.episode, self.step, zeros, zeros, status=TickStatus.HELD,
                reason="no chunk")))
            self.step += 1

    def play(self, condition: object, what: str, graph: Graph) -> None:
        """Tick until ``condition`` holds."""
        def ticked() -> bool:
            self.tick()
            return bool(condition())  # type: ignore[operator]

        self.until(ticked, what, graph)


@pytest.fixture
def played(tmp_path: Path) -> Iterator[tuple[PlayedArm, Graph]]:
    preset = write_robot_preset(tmp_path)
    with ros(), Graph(tmp_path) as graph:
        graph.start("rollout", preset=preset, run_dir=tmp_path / "run", pace="realtime")
        arm = PlayedArm()
        yield arm, graph
        arm.destroy_node()


def test_an_arm_that_measures_but_knows_nothing_of_the_episode_ends_it(
        played: tuple[PlayedArm, Graph], tmp_path: Path) -> None:
    """As one does that was killed and is back at once."""
    arm, graph = played
    arm.play(lambda: any("press ready" in e.detail for e in arm.episodes), "the rollout is up",
             graph)
    arm.press_ready()
    arm.play(lambda: arm.step > 5, "the episode runs", graph)
    running = arm.episode
    arm.executing = False
    spool = tmp_path / "run/spool"
    arm.play(lambda: any(spool.glob(f"*_{running}.safetensors")), "the episode is ended", graph)
    (path,) = spool.glob(f"*_{running}.safetensors")
    episode = Episode.from_bytes(path.read_bytes(), str(path))
    assert not episode.trainable and "no tick for 1 s" in episode.notes[-1]
    arm.press_ready()
    arm.play(lambda: arm.episode != running and arm.step > 5, "the next one runs", graph)
