"""A rollout whose environment side is an arm that is played here, tick by tick.

Both are in this process, in one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from graph_support import PATIENCE, Onlooker, ros
from poco_msgs.msg import (
    ActionChunk,
    EpisodeStatus,
    ExecutedAction,
    Features,
    LearnerStatus,
    Reward,
)
from poco_msgs.srv import InferChunk, Reset
from robot_graph_support import FEATURES, HOME, write_robot_preset
from sensor_msgs.msg import JointState
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.joining import ExecutedAction as Executed
from poco_ros.core.joining import RewardSample, TickStatus
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.task import ROBOT_JOINTS
from poco_ros.nodes.rollout.node import Rollout
from poco_ros.ros import convert, names
from poco_ros.ros.fast_loop import LoopGroup, Reply

pytestmark = pytest.mark.graph
PERIOD = 1.0 / 15.0
RESET_TIMEOUT = 2.0


class PlayedArm(Onlooker):
    """Measures and holds at 15 Hz; says what a learner and an operator would say.

    It lets no chunk in: the policy is asked again and again, and the ticks of an episode are held.
    """

    def __init__(self, rollout: Rollout) -> None:
        super().__init__("played_arm")
        self.rollout = rollout
        self._loops = LoopGroup([self.loop, rollout.loop])
        self.resets: list[str] = []
        """Episodes that were asked for, one a request."""
        self.chunks: list[ActionChunk] = []
        self.asked: list[Reply] = []
        """Answers that were asked of the policy."""
        self.homes = 0
        """Times that the arm was sent home."""
        self._due = time.monotonic()
        self._joints = self.create_publisher(JointState, names.JOINT_STATES, names.TICK_QOS)
        self._features = self.create_publisher(Features, names.FEATURES, names.TICK_QOS)
        self._executed = self.create_publisher(ExecutedAction, names.EXECUTED_ACTION,
                                               names.TICK_QOS)
        self._ready = self.create_publisher(Header, names.OPERATOR_READY, names.OPERATOR_QOS)
        self._label = self.create_publisher(Reward, names.REWARD, names.TICK_QOS)
        self._status = self.create_publisher(LearnerStatus, names.LEARNER_STATUS,
                                             names.STATUS_QOS)
        self._encoder = self.create_publisher(String, names.ENCODER, names.STATUS_QOS)
        self.loop.subscribe(ActionChunk, names.ACTION_CHUNK, self.chunks.append,
                            names.CHUNK_QOS)
        self.loop.serve(Reset, names.RESET, self._on_reset)
        self.loop.serve(InferChunk, names.INFER_CHUNK, self._on_infer)
        self.loop.serve(Trigger, names.HOME, self._on_home)
        self.rest()

    def rest(self) -> None:
        """Be an arm that all is well with, with no episode open, and have a policy."""
        self.episode, self.step, self.clock = "", 0, 0.0
        self.measures = self.sees = self.answers = self.acts = self.thinks = True
        self.refusal, self._reply = "", None
        self._taken = self.wall()
        self.resets.clear()
        self.asked.clear()
        self.homes = 0
        self.encoder_is("bee")
        self.learner_is("online", 1)

    def learner_is(self, stage: str, *versions: int, encoder: str = "bee") -> None:
        """Say where the learner stands, which policies it has, and whose features it learns."""
        self._status.publish(convert.learner_status_to_msg(time.time_ns(), convert.LearnerStatus(
            stage=stage, policy_version=max(versions, default=0), round_versions=versions,
            encoder=encoder)))

    def encoder_is(self, name: str) -> None:
        """Say which encoder makes the features."""
        self._encoder.publish(String(data=name))

    def wall(self) -> int:
        """Return the time on the arm's clock, which may jump [ns]."""
        return time.time_ns() + round(self.clock * 1e9)

    def _on_reset(self, request: Reset.Request, reply: Reply) -> None:
        self.resets.append(request.episode_id)
        self._reply = reply
        if self.refusal:
            reply(Reset.Response(success=False, message=self.refusal))
        elif self.answers:
            self.answer()

    def _on_home(self, _: Trigger.Request, reply: Reply) -> None:
        self.homes += 1
        reply(Trigger.Response(success=True))

    def _on_infer(self, _: InferChunk.Request, reply: Reply) -> None:
        """Be a policy that acts; what it answers in an episode may be kept back for a while."""
        self.asked.append(reply)
        if not self.episode or self.thinks:
            self.act()

    def act(self) -> None:
        """Answer what the policy was asked last."""
        self.asked[-1](convert.infer_response(np.zeros((5, 7), np.float32), 1) if self.acts
                       else convert.infer_refusal("it has no weights"))

    def answer(self) -> None:
        """Say that the arm is home, and begin the episode."""
        assert self._reply is not None
        self.episode, self.step = self.resets[-1], 0
        self._reply(Reset.Response(success=True, begins=convert.stamp_to_msg(self.wall())))

    def press_ready(self, ago: float = 0.0) -> None:
        """Press ready, and hand that over so much later [s]."""
        self._ready.publish(Header(stamp=convert.stamp_to_msg(
            time.time_ns() - round(ago * 1e9))))

    def label(self) -> None:
        """Say that the episode was a success."""
        self._label.publish(convert.reward_to_msg(RewardSample(
            self.wall(), "", 1.0, Outcome.SUCCESS, source="keypad")))

    def tick(self) -> None:
        """Do what a tick does when one is due; features are those of the tick before."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + PERIOD
        taken, self._taken = self._taken, self.wall()
        if self.sees:
            self._features.publish(convert.features_to_msg(
                taken, ObservationLayout((("front", FEATURES),)), np.zeros(FEATURES, np.float32)))
        if not self.measures:
            return
        self._joints.publish(convert.joint_state_to_msg(self._taken, ROBOT_JOINTS,
                                                        np.array([*HOME, 0.07])))
        if self.episode:
            zeros = np.zeros(7, np.float32)
            self._executed.publish(convert.executed_to_msg(Executed(
                self._taken, self.episode, self.step, zeros, zeros, status=TickStatus.HELD,
                reason="no chunk")))
            self.step += 1

    def play(self, condition: Callable[[], bool], what: str) -> None:
        """Tick until ``condition`` holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            self.tick()
            self._loops.wait(0.01)
            self.rollout.advance()
            assert time.monotonic() < end, f"{what}; it says {self.says_now}"

    def play_for(self, seconds: float) -> None:
        """Tick for so long."""
        end = time.monotonic() + seconds
        self.play(lambda: time.monotonic() > end, "time passes")

    @property
    def says_now(self) -> str:
        """What the rollout says on /diagnostics."""
        return self.rollout.health.summary()[1]

    def wait_for_operator(self) -> None:
        """Wait until ready is all that is missing."""
        self.play(lambda: bool(self.episodes) and "press ready" in self.episodes[-1].detail,
                  "it waits for the operator")

    def wait_for(self, words: str) -> None:
        """Wait until the rollout tells on the topic ``episode`` that it waits for something."""
        self.play(lambda: words in self.episodes[-1].detail, f"it waits for {words}")

    def begin(self) -> str:
        """Be ready; return the episode when it has some steps."""
        self.wait_for_operator()
        self.press_ready()
        self.play(lambda: self.rollout.attempt is not None and self.rollout.attempt.steps > 3,
                  "the episode runs")
        return self.episode

    def refused(self, kind: str, words: str, ago: float = 0.0) -> None:
        """Press ready, and be told at once that it does not count."""
        known = self.rollout.health.count(kind)
        self.press_ready(ago)
        self.play(lambda: self.rollout.health.count(kind) > known, f"{kind} is told")
        assert words in self.says_now and "press it again" in self.says_now

    def kept(self, name: str) -> Episode:
        """Return an episode when it is on the disk."""
        spool = self.rollout.delivery.spool
        self.play(lambda: name in spool.ids, f"{name} is kept")
        return spool.get(name)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedArm]:
    folder = tmp_path_factory.mktemp("side")
    preset = write_robot_preset(folder, {"graph": {"rollout": {"reset_timeout": RESET_TIMEOUT}}})
    words = {"preset": preset, "run_dir": folder / "run", "pace": "realtime"}
    with ros():
        rollout = Rollout(["--ros-args", *(word for name, value in words.items()
                                           for word in ("-p", f"{name}:={value}"))])
        arm = PlayedArm(rollout)
        yield arm
        arm.destroy_node()
        rollout.destroy_node()


@pytest.fixture
def arm(shared: PlayedArm) -> Iterator[PlayedArm]:
    shared.rest()
    shared.wait_for_operator()
    yield shared
    shared.rest()
    if shared.rollout.attempt is not None:
        shared.rollout.drop("the test is over")


def test_nobody_is_asked_while_features_are_of_another_encoder_than_what_was_learned_from(
        arm: PlayedArm) -> None:
    """To the policy they are noise, and the arm would move by it."""
    arm.encoder_is("wasp")
    arm.wait_for("features are of encoder wasp, what this run learns from is of bee; start")
    arm.refused("ready too early", "encoder wasp")
    arm.encoder_is("bee")
    arm.wait_for_operator()
    arm.learner_is("online", 1, encoder="")  # demonstrations of before encoders had names
    arm.play_for(0.3)
    arm.wait_for_operator()


def test_an_episode_says_whose_features_it_has_and_ends_when_they_become_anothers(
        arm: PlayedArm) -> None:
    running = arm.begin()
    arm.encoder_is("bee")  # again, as a node that is started again says it
    arm.play_for(0.3)
    assert arm.rollout.attempt is not None
    arm.encoder_is("wasp")
    episode = arm.kept(running)
    assert episode.encoder and not episode.trainable
    assert "features are of encoder wasp now, not of bee" in episode.notes[-1]


def test_an_arm_that_measures_but_knows_nothing_of_the_episode_ends_it(arm: PlayedArm) -> None:
    """As one does that was killed and is back at once."""
    running = arm.begin()
    arm.episode = ""
    episode = arm.kept(running)
    assert not episode.trainable and "no tick for 1 s" in episode.notes[-1]
    assert arm.begin() != running


@pytest.mark.parametrize("killed", [False, True])
def test_the_arm_is_sent_home_at_the_end_unless_it_may_be_one_that_knows_of_no_ready(
        arm: PlayedArm, monkeypatch: pytest.MonkeyPatch, killed: bool) -> None:
    monkeypatch.setattr(arm.rollout, "environment_timeout", 5.0)
    running = arm.begin()
    if killed:
        arm.episode = ""
        arm.play_for(0.6)
    arm.label()
    assert arm.kept(running).success
    arm.play(lambda: arm.homes > 0 or "not sent home" in arm.says_now, "it is told")
    arm.play_for(0.1)
    assert arm.homes == (not killed)
    if killed:
        assert f"{running}: it has not ticked for 0." in arm.says_now
        assert "press ready" in arm.says_now


@pytest.mark.parametrize("acts", [False, True], ids=["refuses", "is silent"])
def test_a_policy_that_is_away_in_an_episode_ends_it_and_the_operator_is_asked_again(
        arm: PlayedArm, monkeypatch: pytest.MonkeyPatch, acts: bool) -> None:
    """The arm would move on by itself when the policy is back, whenever that is."""
    monkeypatch.setattr(arm.rollout, "environment_timeout", 0.5)
    running = arm.begin()
    arm.thinks, arm.acts = not acts, acts
    began = time.monotonic()
    episode = arm.kept(running)
    assert 0.4 < time.monotonic() - began < 1.5
    assert not episode.trainable and episode.notes == ("no chunk for 0.5 s",)
    arm.episode, arm.acts, chunks = "", False, len(arm.chunks)
    arm.wait_for("waiting for infer_chunk")
    arm.acts = True
    arm.wait_for_operator()
    arm.play_for(0.3)
    assert arm.resets == [running] and len(arm.chunks) == chunks and not arm.homes
    arm.begin()


def test_a_policy_that_answers_late_goes_on(arm: PlayedArm, monkeypatch: pytest.MonkeyPatch
                                            ) -> None:
    monkeypatch.setattr(arm.rollout, "environment_timeout", 0.8)
    running = arm.begin()
    for _ in range(2):
        arm.thinks, chunks = False, len(arm.chunks)
        arm.play_for(0.45)
        arm.thinks = True
        arm.act()
        arm.play(lambda: len(arm.chunks) > chunks, "the chunk")  # noqa: B023
    assert arm.episode == running and arm.rollout.attempt is not None


def test_a_ready_that_comes_before_the_weights_is_answered_and_not_kept(arm: PlayedArm) -> None:
    arm.learner_is("offline")
    arm.wait_for("waiting for weights")
    arm.refused("ready too early", "waiting for weights")
    arm.learner_is("online", 1)
    arm.wait_for_operator()
    arm.play_for(0.3)
    assert not arm.resets, "the arm moves only on a press that comes now"
    arm.begin()


@pytest.mark.parametrize(("what", "awaited", "told"), [
    ("acts", "waiting for infer_chunk (policy_server): it has no weights", "it has no weights"),
    ("sees", "features of the cameras", "features of the cameras")])
def test_a_ready_while_policy_or_camera_is_away_is_answered_and_not_kept(
        arm: PlayedArm, what: str, awaited: str, told: str) -> None:
    setattr(arm, what, False)
    arm.wait_for(awaited)
    arm.refused("ready too early", told)
    setattr(arm, what, True)
    arm.wait_for_operator()
    arm.play_for(0.3)
    assert not arm.resets
    arm.begin()


@pytest.mark.parametrize("when", ["on the way home", "at home"])
def test_a_camera_that_is_pulled_before_the_episode_has_begun_takes_the_ready_with_it(
        arm: PlayedArm, when: str) -> None:
    arm.answers = False
    arm.press_ready()
    arm.play(lambda: bool(arm.resets), "the way home")
    if when == "at home":
        arm.measures = False
        arm.answer()
        arm.play(lambda: arm.episodes[-1].phase == EpisodeStatus.RUNNING, "it is home")
        arm.sees, arm.measures = False, True
        time.sleep(0.3)
    else:
        arm.sees = False
        arm.play_for(0.5)
        arm.answer()
    arm.play(lambda: arm.rollout.attempt is None, "the attempt is dropped")
    assert "features of the cameras" in arm.says_now
    arm.episode, arm.sees = "", True
    arm.wait_for_operator()
    arm.play_for(0.3)
    assert len(arm.resets) == 1, "nothing begins by itself when the camera is back"


def test_a_ready_in_an_episode_is_answered_and_not_kept(arm: PlayedArm) -> None:
    running = arm.begin()
    arm.refused("ready too early", f"{running} has not ended")
    arm.episode = ""
    arm.kept(running)
    arm.wait_for_operator()
    arm.play_for(0.3)
    assert arm.resets == [running]


def test_a_ready_that_was_refused_because_of_a_stop_does_not_outlive_the_stop(arm: PlayedArm
                                                                              ) -> None:
    arm.refusal = "the stop is latched (service stop); release it first"
    arm.press_ready()
    arm.play(lambda: "the stop is latched" in arm.says_now, "it is told")
    arm.refusal = ""
    arm.wait_for_operator()
    arm.play_for(0.5)
    assert len(arm.resets) == 1
    arm.begin()


def test_a_ready_that_was_pressed_a_while_ago_says_nothing_of_now(arm: PlayedArm) -> None:
    arm.refused("ready refused", "its stamp is 2.5 s old", ago=2.5)
    arm.play_for(0.2)
    assert not arm.resets


@pytest.mark.parametrize("away", [False, True])
def test_a_reset_that_is_not_answered_is_never_repeated(arm: PlayedArm, away: bool) -> None:
    """Whoever hears it the second time may be a process that has just been started."""
    arm.answers = False
    arm.press_ready()
    arm.play(lambda: bool(arm.resets), "a reset")
    began = time.monotonic()
    arm.measures = not away
    arm.play(lambda: arm.rollout.attempt is None, "the attempt is dropped")
    assert ("no joint_states for 1 s" if away else "not answered for 2 s") in arm.says_now
    assert time.monotonic() - began < (1.0 if away else RESET_TIMEOUT) + 0.5
    arm.measures = arm.answers = True
    arm.wait_for_operator()
    arm.play_for(0.5)
    assert len(arm.resets) == 1
    arm.begin()


@pytest.mark.parametrize(("jump", "words"), [
    (0.1, ""), (1.0, "of the cameras are 1."), (-0.1, "is not after the one before"),
    (-1.0, "no features")])
def test_a_jump_of_the_clock_costs_an_episode_at_most(arm: PlayedArm, jump: float, words: str
                                                      ) -> None:
    running = arm.begin()
    arm.clock = jump
    if not words:
        arm.play_for(0.5)
        assert arm.rollout.attempt is not None and arm.rollout.attempt.steps > 8
        return
    episode = arm.kept(running)
    assert not episode.trainable and words in episode.notes[0] and len(episode) > 3
    arm.wait_for_operator()
    arm.play_for(0.3)
    assert arm.resets == [running], "nothing begins by itself"
    following = arm.begin()
    assert following != running, "the time after the jump is as good as any"
