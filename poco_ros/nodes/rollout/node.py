"""The rollout's conversation with learner, environment side and policy server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poco_msgs.msg import ActionChunk as ActionChunkMsg
from poco_msgs.msg import EpisodeStatus as EpisodeStatusMsg
from poco_msgs.msg import ExecutedAction, Features, LearnerStatus, Reward
from poco_msgs.srv import InferChunk, Label, Reset

from poco_ros.core import config
from poco_ros.core.chunk import ActionChunk
from poco_ros.core.config import setting
from poco_ros.core.episode import Outcome
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.core.joining import EpisodeBuilder
from poco_ros.core.labels import LabelRewards, labelled
from poco_ros.core.spool import Spool
from poco_ros.nodes.rollout.attempt import Asked, Attempt
from poco_ros.nodes.rollout.episode_topic import EpisodeTopic
from poco_ros.nodes.rollout.schedule import (
    FREE_RUNNING,
    LEARNER,
    NEWEST,
    WEIGHTS,
    Missing,
    Schedule,
)
from poco_ros.preset import Preset, load_preset
from poco_ros.ros import convert, names
from poco_ros.ros.delivery import Delivery
from poco_ros.ros.fast_loop import Reply
from poco_ros.ros.node import PocoNode
from poco_ros.ros.parameters import declare_settings
from poco_ros.ros.settings import RolloutConfig

ENVIRONMENT = "environment side"
INFER = "infer_chunk (policy_server)"
CHECK_PERIOD = 0.05
"""Time between two looks at what is overdue [s]."""
RETRY = 0.02
"""Pause before asking again for a chunk that was refused [s]: weights may be on their way."""
SILENCE = 1.0
"""Silence of the environment side that is worth a word [s]."""


@dataclass(frozen=True)
class RolloutSettings(RolloutConfig):
    """Parameters of the node."""

    preset: str = setting("", "preset of the run; empty: the defaults")
    run_dir: str = setting("", "folder of the run; episodes wait in <run_dir>/spool")
    seed: int = setting(0, "seed of the run: resets and noise derive from it", minimum=0)
    pace: str = setting("lockstep", "of the environment side; realtime makes the default of"
                        " sync_lag free running", choices=("lockstep", "realtime"))
    sync_lag: int = setting(
        1, "episode e acts with the weights that have learned from all episodes before"
        " e - sync_lag; -1: free running, always the newest", minimum=-1, maximum=8)


class Rollout(PocoNode):
    """Makes one episode after the other. Everything but parameters runs in the main thread."""

    def __init__(self) -> None:
        super().__init__("rollout")
        name = str(self.given.get("preset", ""))
        preset = load_preset(name) if name else Preset()
        defaults: dict[str, Any] = config.to_dict(preset.graph.rollout)
        realtime = self.given.get("pace") == "realtime"
        defaults["sync_lag"] = FREE_RUNNING if realtime else preset.train.sync_lag
        self.settings = declare_settings(self, RolloutSettings, self.given, defaults)
        if not self.settings.run_dir:
            raise ConfigError("parameters of rollout: run_dir is empty; give the folder of the"
                              " run, such as -p run_dir:=runs/my_run")
        self.task, self.layout = preset.task.name, preset.task.observation
        offset = preset.task.reward_offset
        self._label_rewards = LabelRewards(1.0 + offset, offset)
        self._schedule = Schedule(self.settings.sync_lag, preset.train.online_steps,
                                  self.settings.max_episodes)
        self._attempt: Attempt | None = None
        self._early: list[Callable[[EpisodeBuilder], None]] = []
        self._not_before = 0.0
        self._next_check = 0.0

        self._chunk_topic = self.create_publisher(ActionChunkMsg, names.ACTION_CHUNK,
                                                  names.CHUNK_QOS)
        self._told = EpisodeTopic(self, self.settings.success_window)
        loop = self.loop
        loop.subscribe(Features, names.FEATURES, self._on_features, names.TICK_QOS)
        # In lock-step the observation alone asks for the next chunk: one wake-up a tick is enough.
        wakes = self.settings.pace == "realtime"
        loop.subscribe(ExecutedAction, names.EXECUTED_ACTION, self._on_executed, names.TICK_QOS,
                       wakes)
        loop.subscribe(Reward, names.REWARD, self._on_reward, names.TICK_QOS, wakes)
        loop.subscribe(LearnerStatus, names.LEARNER_STATUS, self._on_learner, names.STATUS_QOS)
        loop.serve(Label, names.LABEL, self._on_label)
        self._infer = loop.client(InferChunk, names.INFER_CHUNK)
        self._reset = loop.client(Reset, names.RESET)
        self.delivery = Delivery(loop, Spool(Path(self.settings.run_dir) / "spool"), self.health,
                                 self.settings.store_timeout, self._on_stored)
        self.health.figures = self._figures
        self.health.wait_for(LEARNER)

    def work(self) -> None:
        """Make episodes until stopped; one that is open then is dropped."""
        while not self.stopping.is_set():
            self.loop.wait(CHECK_PERIOD)
            now = time.monotonic()
            if now >= self._next_check:
                self._next_check = now + CHECK_PERIOD
                self.delivery.update()
                self._look_for_overdue(now)
                self._begin_when_possible()

    # -- beginning ----------------------------------------------------------------------------

    def _on_learner(self, message: LearnerStatus) -> None:
        self._schedule.heard(convert.learner_status_of(message), self._attempt is not None)
        self.health.got(LEARNER)
        self._begin_when_possible()

    def _begin_when_possible(self) -> None:
        """Begin the next episode, or say what is missing."""
        if self._attempt is not None or time.monotonic() < self._not_before:
            return
        missing = self._missing()
        if missing is not None:
            if missing.waits_for:
                self.health.wait_for(missing.waits_for, missing.why)
            self._told.waiting(missing.why)
            return
        self.health.got(WEIGHTS)
        number = self._schedule.number
        assert number is not None
        version, right = self._schedule.version()
        if not right:
            self.health.event("weights are gone", f"episode {number} acts with version {version}:"
                              " the learner has none as old as lock-step asks for; what is"
                              " learned from here on depends on timing")
        self._attempt = Attempt(number, self.settings.seed, version,
                                self.settings.pace == "lockstep")
        self._call_reset(self._attempt)

    def _missing(self) -> Missing | None:
        if self.delivery.blocked:
            return Missing("the last episode cannot be written to the spool")
        missing = self._schedule.missing(self.delivery.empty)
        if missing is None and self._chunk_topic.get_subscription_count() == 0:
            return Missing(f"nobody listens to {names.ACTION_CHUNK}", ENVIRONMENT)
        return missing

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
        if attempt is not self._attempt or attempt.builder is not None:
            return
        if not response.success:
            self.health.wait_for(ENVIRONMENT, response.message)
            self._drop(response.message, pause=0.2)
            return
        self.health.got(ENVIRONMENT)
        attempt.builder = EpisodeBuilder(attempt.id, self.task, convert.stamp_of(response.begins))
        self._told.phase(attempt, EpisodeStatusMsg.RUNNING)
        early, self._early = self._early, []
        for add in early:
            self._join(add)

    # -- running ------------------------------------------------------------------------------

    def _on_features(self, message: Features) -> None:
        self._join(lambda builder: builder.add_observation(
            *convert.features_of(message, self.layout)))

    def _on_executed(self, message: ExecutedAction) -> None:
        self._join(lambda builder: builder.add_executed(convert.executed_of(message)))

    def _on_reward(self, message: Reward) -> None:
        try:
            reward = convert.reward_of(message)
            if reward.of_environment:
                self._join(lambda builder: builder.add_reward(reward))
            elif reward.outcome != Outcome.NONE:
                self._label(reward.episode_id, reward.outcome, reward.source or "topic reward")
        except DataError as error:
            self.health.event("refused label", str(error))

    def _join(self, add: Callable[[EpisodeBuilder], None]) -> None:
        """Add what the environment side said to the open episode, and see what that means."""
        attempt = self._attempt
        if attempt is None:
            return
        builder = attempt.builder
        if builder is None:  # it may overtake the answer of reset
            self._early.append(add)
            return
        attempt.heard_at = time.monotonic()
        try:
            add(builder)
        except DataError as error:
            self.health.event("refused message", str(error))
            builder.cut(str(error), trainable=False)
        if builder.closed:
            self._end(attempt, builder)
            return
        chunk = attempt.ready(builder)
        if chunk is not None:
            self._send(attempt, chunk)
        else:
            asked = attempt.due(builder)
            if asked is not None:
                self._ask(attempt, asked)

    def _ask(self, attempt: Attempt, asked: Asked) -> None:
        """Ask for a chunk."""
        self._infer.forget()
        self._infer.call(
            convert.infer_request(self.task, asked.observation, attempt.next_seed,
                                  attempt.version),
            lambda response: self._on_chunk(attempt, asked, response))
        attempt.ask(asked, again_after=self.settings.infer_timeout)

    def _on_chunk(self, attempt: Attempt, asked: Asked, response: InferChunk.Response) -> None:
        builder = attempt.builder
        if attempt is not self._attempt or builder is None:
            return
        try:
            if not response.success:
                raise DataError(response.message)
            if attempt.version not in (NEWEST, response.policy_version):
                raise DataError(f"version {response.policy_version} answered in place of"
                                f" {attempt.version}")
            attempt.answer = convert.chunk_of_response(response, attempt.chunks + 1, asked.stamp,
                                                       self.task)
        except DataError as error:
            self.health.wait_for(INFER, str(error))
            attempt.ask_again_at = time.monotonic() + RETRY
            return
        self.health.got(INFER)
        chunk = attempt.ready(builder)
        if chunk is not None:
            self._send(attempt, chunk)

    def _send(self, attempt: Attempt, chunk: ActionChunk) -> None:
        self._chunk_topic.publish(convert.chunk_to_msg(chunk, attempt.id))
        attempt.sent(chunk)

    def _look_for_overdue(self, now: float) -> None:
        """Ask again, or begin anew, where an answer or a tick is overdue."""
        attempt = self._attempt
        if attempt is None:
            return
        if attempt.asked is not None and attempt.answer is None:
            if now - attempt.asked_at > SILENCE:
                self.health.wait_for(INFER)
            if now >= attempt.ask_again_at:
                self._ask(attempt, attempt.asked)
            return
        silence = now - attempt.heard_at
        if silence > SILENCE:
            self.health.wait_for(ENVIRONMENT)
        if silence <= self.settings.environment_timeout:
            return
        if attempt.builder is None:
            self._call_reset(attempt)
        else:
            self._drop(f"no tick for {self.settings.environment_timeout:g} s")

    # -- ending -------------------------------------------------------------------------------

    def _end(self, attempt: Attempt, builder: EpisodeBuilder, label: Outcome = Outcome.NONE,
             source: str = "") -> None:
        """Put the episode onto our disk, hand it over and begin the next."""
        try:
            episode = builder.build()
        except DataError as error:
            self._drop(str(error), pause=1.0)
            return
        original = episode
        if label != Outcome.NONE:
            episode = labelled(original, label, source, self._label_rewards)
        by_person = label != Outcome.NONE or self.settings.operator
        self._attempt = None
        self._schedule.ended(attempt.number, episode)
        self._told.ended(attempt, episode)
        self.delivery.put(episode, original,
                          self.settings.correction_window if by_person else 0.0)
        self.get_logger().info(
            f"{episode.id}: {episode.outcome.name.lower()} after {len(episode)} steps,"
            f" {self._told.rate_in_words()}")
        self._begin_when_possible()

    def _drop(self, reason: str, pause: float = 0.0) -> None:
        """Give the attempt up; it is made again under the same number, after a pause [s]."""
        attempt, self._attempt = self._attempt, None
        self._infer.forget()
        self._reset.forget()
        self._not_before = time.monotonic() + pause
        if attempt is not None and attempt.builder is not None:
            self.health.event("dropped episode", f"{attempt.id}: {reason}; beginning it anew")

    def _on_stored(self, episode_id: str, stored: int) -> None:
        self._schedule.stored(stored)
        self._told.stored(episode_id)

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
        attempt = self._attempt
        builder = attempt.builder if attempt is not None else None
        if attempt is not None and builder is not None and builder.steps \
                and episode_id in ("", attempt.id):
            builder.cut(f"ended by {source}")
            self._end(attempt, builder, outcome, source)
            return attempt.id
        episode = self.delivery.label(episode_id, outcome, source,
                                      self.settings.correction_window, self._label_rewards)
        self._told.relabelled(episode)
        return episode.id

    def _figures(self) -> dict[str, object]:
        attempt, status = self._attempt, self._told.status
        return {
            "episode_id": "" if attempt is None else attempt.id,
            "step": 0 if attempt is None else attempt.steps,
            "policy_version": "" if attempt is None else attempt.version,
            "next_number": "unknown" if self._schedule.number is None else self._schedule.number,
            "spooled": len(self.delivery.spool),
            "success_rate": f"{status.success_rate:.2f}", "window": status.window,
            "detail": status.detail,
        }
