"""What every node that makes episodes shares: begin, join, label, end.

The environment side is a simulator, which gives a reward a tick and its own time limit, or the
robot, where the operator says when he is ready and how it went, and where an episode whose inputs
had a hole is kept and marked. Subclasses say which episode is next, what to do while it runs and
who gets it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from poco_msgs.msg import EpisodeStatus as EpisodeStatusMsg
from poco_msgs.msg import ExecutedAction, Features, Reward
from poco_msgs.srv import Label, Reset
from sensor_msgs.msg import JointState
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.joining import EpisodeBuilder
from poco_ros.core.labels import LabelRewards, labelled
from poco_ros.core.observing import ObservationJoiner
from poco_ros.core.task import ROBOT_JOINTS, TaskConfig
from poco_ros.ros import convert, names, wire
from poco_ros.ros.attempt import Attempt
from poco_ros.ros.delivery import Delivery
from poco_ros.ros.episode_topic import EpisodeTopic
from poco_ros.ros.fast_loop import Reply
from poco_ros.ros.node import PocoNode
from poco_ros.ros.operator_word import Presses
from poco_ros.ros.settings import EpisodeConfig

ENVIRONMENT = "environment side"
SAME_ENCODER = "the encoder of what is learned from (camera_encoder)"
OBSERVATIONS = "joint_states and features (arm_controller, camera_encoder)"
CHECK_PERIOD = 0.05
"""Time between two looks at what is overdue [s]."""
SILENCE = 1.0
"""Silence of the environment side that is worth a word [s]."""
SIMULATED_PATIENCE, ROBOT_PATIENCE = (5.0, 5.0), (1.0, 60.0)
"""What ``environment_timeout`` and ``reset_timeout`` are by themselves [s]."""
TICKED_LATELY = 0.5
"""An arm whose last tick in the episode is older may be another process by now, which nobody was
ready for: to start and to take control takes one longer [s]."""


@dataclass(frozen=True)
class Missing:
    """Why the next episode cannot begin."""

    why: str
    waits_for: str = ""
    """What somebody else must bring; empty when there is nothing to wait for."""


class EpisodeMaker(PocoNode):
    """Makes one episode after the other. Everything but parameters runs in the main thread.

    A subclass calls :meth:`listen` at the end of its ``__init__``, when its own subscriptions,
    ``settings`` and ``delivery`` are there.
    """

    settings: EpisodeConfig
    delivery: Delivery

    def listen(self, task: TaskConfig, wakes: bool = True) -> None:
        """Subscribe to the environment side.

        With ``wakes`` False an observation alone ends a wait; actions and rewards come with it.
        """
        self.task, self.layout = task.name, task.observation
        self.robot = not task.simulated
        """Whether a person resets and labels; else a simulator does."""
        patience = ROBOT_PATIENCE if self.robot else SIMULATED_PATIENCE
        self.environment_timeout = self.settings.environment_timeout or patience[0]
        self._reset_timeout = self.settings.reset_timeout or patience[1]
        self._step_limit = self.settings.max_steps or task.step_limit
        offset = task.reward_offset
        self._label_rewards = LabelRewards(1.0 + offset, offset)
        self.attempt: Attempt | None = None
        """The episode that is being made."""
        self._early: list[Callable[[EpisodeBuilder], None]] = []
        self._not_before = 0.0
        self._next_check = 0.0
        self._presses = Presses()
        self._told = EpisodeTopic(self, self.settings.success_window)
        self.encoder = ""
        """Which encoder makes the features, on the robot; empty: not known yet."""
        loop = self.loop
        if not self.robot:
            loop.subscribe(Features, names.FEATURES, self._on_features, names.TICK_QOS, raw=True)
        else:
            loop.subscribe(Features, names.FEATURES, self._on_parts, names.TICK_QOS, wakes=False)
            loop.subscribe(String, names.ENCODER, self._on_encoder, names.STATUS_QOS)
            self._joiner = ObservationJoiner(self.layout, self.settings.features_max_age)
            self._seen_at, self._hole = -math.inf, "no joint_states have come yet"
            self.observation: np.ndarray | None = None
            """The newest, on the robot."""
            loop.subscribe(JointState, names.JOINT_STATES, self._on_joints, names.TICK_QOS)
            loop.subscribe(Header, names.OPERATOR_READY, self._on_ready, names.OPERATOR_QOS)
            self._home = loop.client(Trigger, names.HOME)
        loop.subscribe(ExecutedAction, names.EXECUTED_ACTION, self._on_executed, names.TICK_QOS,
                       wakes, raw=True)
        loop.subscribe(Reward, names.REWARD, self._on_reward, names.TICK_QOS, wakes, raw=True)
        loop.serve(Label, names.LABEL, self._on_label, seldom=True)
        self._reset = loop.client(Reset, names.RESET)

    def told_stored(self, episode_id: str) -> None:
        """Tell that whoever keeps the episodes has this one."""
        self._told.stored(episode_id)

    # -- what a subclass does -----------------------------------------------------------------

    def next_attempt(self) -> Attempt | Missing:
        """Return the next episode to make, or why there is none."""
        raise NotImplementedError

    def go_on(self, attempt: Attempt, builder: EpisodeBuilder) -> None:
        """Do what the running episode needs after something of it has come."""

    def overdue(self, attempt: Attempt, now: float) -> bool:
        """Look for what the subclass waits for; True when the silence is not the environment's."""
        return False

    def ended(self, attempt: Attempt, episode: Episode) -> None:
        """Note that an episode has ended; it is delivered right after."""

    def relabelled(self, episode: Episode) -> None:
        """Note that a person has labelled an ended episode otherwise."""

    def dropped(self, attempt: Attempt) -> None:
        """Note that an attempt was dropped."""

    # -- beginning ----------------------------------------------------------------------------

    def advance(self) -> float:
        """Look at what is overdue, every now and then; an episode is made by what comes in."""
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + CHECK_PERIOD
            self.delivery.update()
            self._look_for_overdue(now)
            self.begin_when_possible()
        return CHECK_PERIOD

    def begin_when_possible(self) -> None:
        """Begin the next episode, or say what is missing; on the robot, always *ready*."""
        if self.attempt is not None or time.monotonic() < self._not_before:
            return
        following = self._next()
        if isinstance(following, Missing):
            self._wait(following)
        elif self.robot:
            self._wait(Missing("waiting for the operator: reset the scene, then press ready"))
        else:
            self._begin(following)

    def _wait(self, missing: Missing) -> None:
        if missing.waits_for:
            self.health.wait_for(missing.waits_for, missing.why)
        self._told.waiting(missing.why)

    def _begin(self, following: Attempt) -> None:
        self.attempt = following
        self._call_reset(following)

    def _next(self) -> Attempt | Missing:
        """Return the next episode, or what is missing besides the operator's word."""
        if self.delivery.blocked:
            return Missing("the last episode cannot be written to the spool")
        following = self.next_attempt()
        if isinstance(following, Missing) or not self.robot:
            return following
        if time.monotonic() - self._seen_at > SILENCE:
            self._hole = "no joint_states come"
        if self._hole:
            return Missing(self._hole, OBSERVATIONS)
        self.health.got(OBSERVATIONS)
        if not self._reset.is_ready():
            return Missing(f"nobody serves {names.RESET}", ENVIRONMENT)
        self.health.got(ENVIRONMENT)
        return following

    def _on_ready(self, message: Header) -> None:
        """Begin the next episode now, or never: a press that comes too early is not kept.

        What it waited for may come minutes later, when the operator is at the scene again.
        """
        if not self._presses.counts(message, self.health):
            return
        following = Missing(f"{self.attempt.id} has not ended") if self.attempt is not None \
            else self._next()
        if isinstance(following, Missing):
            self.health.event("ready too early", f"{following.why}; press it again when the graph"
                              " waits for it")
            return
        self._begin(following)

    def _call_reset(self, attempt: Attempt) -> None:
        self._told.phase(attempt, EpisodeStatusMsg.RESETTING)
        attempt.heard_at = time.monotonic()
        self._early.clear()
        self._reset.forget()
        self._reset.call(
            Reset.Request(episode_id=attempt.id, seed=attempt.seed,
                          max_steps=self.settings.max_steps),
            lambda response: self._on_reset(attempt, response))

    def _on_reset(self, attempt: Attempt, response: Reset.Response) -> None:
        if attempt is not self.attempt or attempt.builder is not None:
            return
        if not response.success:
            self.health.wait_for(ENVIRONMENT, response.message)
            self.drop(response.message, pause=0.2)
            return
        self.health.got(ENVIRONMENT)
        if self.robot and self._hole:
            self.drop(self._hole)
            return
        step_reward = self._label_rewards.otherwise if self.robot else None
        attempt.builder = EpisodeBuilder(attempt.id, self.task,
                                         convert.stamp_of(response.begins), step_reward)
        attempt.heard_at = time.monotonic()
        self._told.phase(attempt, EpisodeStatusMsg.RUNNING)
        early, self._early = self._early, []
        for add in early:
            self.join(add)

    # -- running ------------------------------------------------------------------------------

    def _on_features(self, data: bytes) -> None:
        self.join(lambda builder: builder.add_observation(*wire.features_of(data, self.layout)))

    def _on_parts(self, message: Features) -> None:
        try:
            self._joiner.add_features(*convert.parts_of(message))
        except DataError as error:
            self.health.event("refused features", str(error))

    def _on_encoder(self, message: String) -> None:
        """Note who makes the features; another one in an episode is a hole in it."""
        before, self.encoder = self.encoder, message.data
        if before and before != self.encoder:
            self._hole = f"features are of encoder {self.encoder} now, not of {before}"
            self._end_at_hole()

    def another_encoder(self, theirs: str, whose: str) -> Missing | None:
        """Return that features are not of the encoder of ``whose`` data; None when they are."""
        if not theirs or not self.encoder or theirs == self.encoder:
            self.health.got(SAME_ENCODER)
            return None
        return Missing(f"features are of encoder {self.encoder}, {whose} of {theirs}; start"
                       " camera_encoder with the weights, image size, head and crops of then"
                       " (encoder:=, cameras:=)", SAME_ENCODER)

    def _on_joints(self, message: JointState) -> None:
        """Observe: the arm's measurement makes the observation of its tick."""
        self._seen_at = time.monotonic()
        try:
            stamp, joints = convert.joints_of(message, ROBOT_JOINTS)
            self.observation = observation = self._joiner.observe(stamp, joints)
        except DataError as error:
            self._hole = str(error)
            self._end_at_hole()
            return
        self._hole = ""
        self.join(lambda builder: builder.add_observation(stamp, observation))

    def _end_at_hole(self) -> None:
        """End the episode that is open; one that is being reset may still see the hole closed."""
        attempt = self.attempt
        if attempt is None or attempt.builder is None:
            return
        if attempt.builder.received is None:
            self.drop(self._hole)
        else:
            self.join(lambda builder: builder.cut(self._hole, trainable=False))

    def _on_executed(self, data: bytes) -> None:
        self.join(lambda builder: builder.add_executed(wire.executed_of(data)))

    def _on_reward(self, data: bytes) -> None:
        try:
            reward = wire.reward_of(data)
            if reward.of_environment:
                self.join(lambda builder: builder.add_reward(reward))
            elif reward.outcome != Outcome.NONE:
                self._label(reward.episode_id, reward.outcome, reward.source or "topic reward")
        except DataError as error:
            self.health.event("refused label", str(error))

    def join(self, add: Callable[[EpisodeBuilder], None]) -> None:
        """Add what the environment side said to the open episode, and see what that means."""
        attempt = self.attempt
        if attempt is None:
            return
        builder = attempt.builder
        if builder is None:  # it may overtake the answer of reset
            self._early.append(add)
            return
        steps = builder.steps
        try:
            add(builder)
        except DataError as error:
            self.health.event("refused message", str(error))
            builder.cut(str(error), trainable=False)
        # A new arm_controller measures at once, and knows nothing of this episode: steps count.
        if builder.steps > steps:
            attempt.heard_at = attempt.ticked_at = time.monotonic()
        elif not self.robot:
            attempt.heard_at = time.monotonic()
        if attempt.label is not None and builder.steps:
            self._end_by_label(attempt, builder, *attempt.label)
            return
        if self.robot and not builder.closed and builder.steps >= self._step_limit:
            builder.truncate()
        if builder.closed:
            self._end(attempt, builder)
        else:
            self.go_on(attempt, builder)

    def _look_for_overdue(self, now: float) -> None:
        """Ask again, or begin anew, where an answer or a tick is overdue."""
        attempt = self.attempt
        if attempt is None or self.overdue(attempt, now):
            return
        silence = now - attempt.heard_at
        if silence > SILENCE:
            self.health.wait_for(ENVIRONMENT)
        builder = attempt.builder
        if builder is None:
            self._look_for_overdue_reset(attempt, now, silence)
        elif silence > self.environment_timeout:
            self.break_off(attempt, builder, f"no tick for {self.environment_timeout:g} s")

    def break_off(self, attempt: Attempt, builder: EpisodeBuilder, why: str) -> None:
        """End the episode that cannot go on: in simulation it is made again, on the robot kept."""
        if self.robot and builder.steps:
            builder.cut(why, trainable=False)
            self._end(attempt, builder)
        else:
            self.drop(why)

    def _look_for_overdue_reset(self, attempt: Attempt, now: float, silence: float) -> None:
        """Ask for the reset again; on the robot give it up.

        Whoever answers a second request may be an arm_controller that has just been started, and
        nobody was ready for what that does.
        """
        if not self.robot:
            if silence > self._reset_timeout:
                self._call_reset(attempt)
        elif now - self._seen_at > self.environment_timeout:
            self.drop(f"no joint_states for {self.environment_timeout:g} s on the way home")
        elif silence > self._reset_timeout:
            self.drop(f"the reset was not answered for {self._reset_timeout:g} s")

    # -- ending -------------------------------------------------------------------------------

    def _end(self, attempt: Attempt, builder: EpisodeBuilder, label: Outcome = Outcome.NONE,
             source: str = "") -> None:
        """Put the episode onto our disk, hand it over and begin the next."""
        try:
            episode = self.finish(attempt, replace(builder.build(), encoder=self.encoder))
        except DataError as error:
            self.drop("; ".join([*builder.notes, str(error)]), pause=1.0)
            return
        original = episode
        if label != Outcome.NONE:
            episode = labelled(original, label, source, self._label_rewards)
        by_person = label != Outcome.NONE or self.settings.operator or self.robot
        self.attempt = None
        self.ended(attempt, episode)
        self._told.ended(attempt, episode)
        if self.robot:
            self._settle(attempt, builder, label)
        self.delivery.put(episode, original,
                          self.settings.correction_window if by_person else 0.0)
        self.get_logger().info(
            f"{episode.id}: {episode.outcome.name.lower()} after {len(episode)} steps,"
            f" {self._told.rate_in_words()}"
            f"{'' if episode.trainable else ', not to be trained on'}")
        self.begin_when_possible()

    def finish(self, attempt: Attempt, episode: Episode) -> Episode:
        """Return the episode as the subclass wants it stored."""
        return episode

    def _settle(self, attempt: Attempt, builder: EpisodeBuilder, label: Outcome) -> None:
        """Say why the robot's episode ended; send the arm home when nothing was wrong."""
        silence = time.monotonic() - attempt.ticked_at
        if label == Outcome.NONE and not builder.truncated:
            self.health.event("episode ended", "; ".join(builder.notes))
        elif self.settings.home_at_end and silence > TICKED_LATELY:
            self.health.event("not sent home", f"{attempt.id}: it has not ticked for"
                              f" {silence:.1f} s, the arm may not be the one that heard the"
                              " operator; press ready for the next episode")
        elif self.settings.home_at_end:
            self._home.forget()
            self._home.call(Trigger.Request(), self._on_home)

    def _on_home(self, response: Trigger.Response) -> None:
        if not response.success:
            self.health.event("not sent home", response.message)

    def drop(self, reason: str, pause: float = 0.0) -> None:
        """Give the attempt up; it is made again, after a pause [s] or, on the robot, *ready*."""
        attempt, self.attempt = self.attempt, None
        self._reset.forget()
        self._not_before = time.monotonic() + pause
        if attempt is None:
            return
        self.dropped(attempt)
        if self.robot:
            self.health.event("dropped episode", f"{attempt.id}: {reason}; press ready to begin it"
                              " anew")
        elif attempt.builder is not None:
            self.health.event("dropped episode", f"{attempt.id}: {reason}; beginning it anew")

    # -- labels -------------------------------------------------------------------------------

    def _on_label(self, request: Label.Request, reply: Reply) -> None:
        try:
            outcome = Outcome(request.outcome)
            labelled_id = self._label(request.episode_id, outcome, "label service")
        except (DataError, ValueError) as error:
            reply(Label.Response(success=False, message=str(error)))
            return
        reply(Label.Response(success=True, episode_id=labelled_id,
                             message=f"{labelled_id}: {outcome.name.lower()}"))

    def _label(self, episode_id: str, outcome: Outcome, source: str) -> str:
        """Label the open episode, which ends it, or one that just ended; return its id.

        Raises:
            DataError: no such episode is open or held, or the outcome is no label.
        """
        if outcome == Outcome.NONE:
            raise DataError("outcome 0 is no label; expected 1 success, 2 failure or 3 discard")
        attempt = self.attempt
        builder = attempt.builder if attempt is not None else None
        if attempt is not None and builder is not None and episode_id in ("", attempt.id):
            if builder.steps:
                self._end_by_label(attempt, builder, outcome, source)
            else:
                attempt.label = outcome, source
            return attempt.id
        episode = self.delivery.label(episode_id, outcome, source,
                                      self.settings.correction_window, self._label_rewards)
        self.relabelled(episode)
        self._told.relabelled(episode)
        return episode.id

    def _end_by_label(self, attempt: Attempt, builder: EpisodeBuilder, outcome: Outcome,
                      source: str) -> None:
        if not builder.closed:
            builder.cut(f"ended by {source}")
        self._end(attempt, builder, outcome, source)

    def figures(self) -> dict[str, object]:
        """Return the figures of a report."""
        attempt, status = self.attempt, self._told.status
        shown: dict[str, object] = {
            "episode_id": "" if attempt is None else attempt.id,
            "step": 0 if attempt is None else attempt.steps,
            "spooled": len(self.delivery.spool),
            "success_rate": f"{status.success_rate:.2f}", "window": status.window,
            "detail": status.detail,
        }
        if self.robot:
            shown["features_age_ms"] = f"{1e3 * self._joiner.age:.0f}"
        return shown
