"""The rollout's conversation with learner and policy server."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from poco_msgs.msg import ActionChunk as ActionChunkMsg
from poco_msgs.msg import LearnerStatus
from poco_msgs.srv import InferChunk

from poco_ros.core import config
from poco_ros.core.chunk import ActionChunk
from poco_ros.core.config import setting
from poco_ros.core.episode import Episode
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.core.joining import EpisodeBuilder
from poco_ros.core.spool import Spool
from poco_ros.nodes.rollout.attempt import ActingAttempt, Asked
from poco_ros.nodes.rollout.schedule import FREE_RUNNING, LEARNER, NEWEST, WEIGHTS, Schedule
from poco_ros.preset import Preset, load_preset
from poco_ros.ros import convert, names, wire
from poco_ros.ros.attempt import Attempt
from poco_ros.ros.delivery import STORE, Delivery, to_learner
from poco_ros.ros.episode_maker import ENVIRONMENT, SILENCE, EpisodeMaker, Missing
from poco_ros.ros.parameters import declare_settings
from poco_ros.ros.settings import RolloutConfig

INFER = "infer_chunk (policy_server)"
TRY = 1.0
"""Time between two chunks that are asked for while a person is away [s]."""
RETRY = 0.02
"""Pause before asking again for a chunk that was refused [s]: weights may be on their way."""


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


class Rollout(EpisodeMaker):
    """Lets the policy make episodes, and hands them to the learner."""

    settings: RolloutSettings

    def __init__(self, arguments: Sequence[str] | None = None) -> None:
        super().__init__("rollout", arguments)
        name = str(self.given.get("preset", ""))
        preset = load_preset(name) if name else Preset()
        defaults: dict[str, Any] = config.to_dict(preset.graph.rollout)
        realtime = self.given.get("pace") == "realtime"
        defaults["sync_lag"] = FREE_RUNNING if realtime else preset.train.sync_lag
        self.settings = declare_settings(self, RolloutSettings, self.given, defaults)
        if not self.settings.run_dir:
            raise ConfigError("parameters of rollout: run_dir is empty; give the folder of the"
                              " run, such as -p run_dir:=runs/my_run")
        if not preset.task.simulated and not realtime:
            raise ConfigError(f"parameters of rollout: task {preset.task.name} is one on the"
                              " robot, whose time does not wait; give pace:=realtime")
        self._schedule = Schedule(self.settings.sync_lag, preset.train.online_steps,
                                  self.settings.max_episodes)
        self._chunk_topic = self.create_publisher(ActionChunkMsg, names.ACTION_CHUNK,
                                                  names.CHUNK_QOS)
        self.delivery = Delivery(
            Spool(Path(self.settings.run_dir) / "spool"), self.health,
            to_learner(self.loop), self.settings.store_timeout, self._on_stored, STORE)
        # In lock-step the observation alone asks for the next chunk: one wake-up a tick is enough.
        self.listen(preset.task, wakes=realtime)
        self.loop.subscribe(LearnerStatus, names.LEARNER_STATUS, self._on_learner,
                            names.STATUS_QOS)
        self._infer = self.loop.client(InferChunk, names.INFER_CHUNK)
        self._try_at, self._answered_at = 0.0, -math.inf
        self._refusal = ""
        self.health.figures = self._figures
        self.health.wait_for(LEARNER)

    # -- beginning and ending -----------------------------------------------------------------

    def _on_learner(self, message: LearnerStatus) -> None:
        self._schedule.heard(convert.learner_status_of(message), self.attempt is not None)
        self.health.got(LEARNER)
        self.begin_when_possible()

    def next_attempt(self) -> Attempt | Missing:
        """Return the next episode that the weights of now allow."""
        missing = self._schedule.missing(self.delivery.empty)
        if missing is not None:
            return missing
        if self._chunk_topic.get_subscription_count() == 0:
            return Missing(f"nobody listens to {names.ACTION_CHUNK}", ENVIRONMENT)
        self.health.got(WEIGHTS)
        other = self.another_encoder(self._schedule.encoder, "what this run learns from is")
        if other is not None:
            return other
        if self.robot and self.observation is not None:
            refused = self._try_policy(self.observation)
            if refused:
                return Missing(refused, INFER)
        number = self._schedule.number
        assert number is not None
        version, right = self._schedule.version()
        if not right:
            self.health.event("weights are gone", f"episode {number} acts with version {version}:"
                              " the learner has none as old as lock-step asks for; what is"
                              " learned from here on depends on timing")
        return ActingAttempt(number, self.settings.seed, version,
                             self.settings.pace == "lockstep")

    def _try_policy(self, observation: np.ndarray) -> str:
        """Ask for a chunk now and then that nobody executes; return why none has come lately.

        A person is to be asked for the next episode when a policy will act in it.
        """
        now = time.monotonic()
        if now >= self._try_at:
            self._try_at = now + TRY
            self._infer.forget()
            self._infer.call(convert.infer_request(self.task, observation, 0, NEWEST),
                             self._on_tried)
        if now - self._answered_at < 2.5 * TRY:
            return ""
        return f"waiting for {INFER}{self._refusal and f': {self._refusal}'}"

    def _on_tried(self, response: InferChunk.Response) -> None:
        if response.success:
            self._answered()
        else:
            self._refusal = response.message
            self._try_at = time.monotonic() + TRY / 5

    def _answered(self) -> None:
        self._answered_at, self._refusal = time.monotonic(), ""
        self.health.got(INFER)

    def ended(self, attempt: Attempt, episode: Episode) -> None:
        """Count the episode."""
        self._schedule.ended(attempt.number, episode)

    def dropped(self, attempt: Attempt) -> None:
        """Forget the chunk that was asked for."""
        self._infer.forget()

    def _on_stored(self, episode_id: str, stored: int) -> None:
        self._schedule.stored(stored)
        self.told_stored(episode_id)

    # -- running ------------------------------------------------------------------------------

    def go_on(self, attempt: Attempt, builder: EpisodeBuilder) -> None:
        """Send the chunk that is ready, or ask for the next one when it is due."""
        assert isinstance(attempt, ActingAttempt)
        chunk = attempt.ready(builder)
        if chunk is not None:
            self._send(attempt, chunk)
        else:
            asked = attempt.due(builder)
            if asked is not None:
                self._ask(attempt, asked)

    def _ask(self, attempt: ActingAttempt, asked: Asked) -> None:
        """Ask for a chunk."""
        self._infer.forget()
        self._infer.call(
            convert.infer_request(self.task, asked.observation, attempt.next_seed,
                                  attempt.version),
            lambda response: self._on_chunk(attempt, asked, response))
        attempt.ask(asked, again_after=self.settings.infer_timeout)

    def _on_chunk(self, attempt: ActingAttempt, asked: Asked,
                  response: InferChunk.Response) -> None:
        builder = attempt.builder
        if attempt is not self.attempt or builder is None:
            return
        if self._waited_too_long(attempt, time.monotonic()):
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
        self._answered()
        chunk = attempt.ready(builder)
        if chunk is not None:
            self._send(attempt, chunk)

    def _send(self, attempt: ActingAttempt, chunk: ActionChunk) -> None:
        self._chunk_topic.handle.publish_raw(wire.chunk_to_wire(chunk, attempt.id))
        attempt.sent(chunk)

    def overdue(self, attempt: Attempt, now: float) -> bool:
        """Ask again where an answer is overdue; True while one is awaited.

        A simulator waits for the chunk. The robot's time goes on, and an arm that has held for
        long must not move on by itself when the policy is back: its episode ends.
        """
        assert isinstance(attempt, ActingAttempt)
        if attempt.asked is None or attempt.answer is not None:
            return False
        if now - attempt.asked_at > SILENCE:
            self.health.wait_for(INFER)
        if self._waited_too_long(attempt, now):
            return True
        if now >= attempt.ask_again_at:
            self._ask(attempt, attempt.asked)
        return not self.robot

    def _waited_too_long(self, attempt: ActingAttempt, now: float) -> bool:
        """End the robot's episode when the chunk that is awaited has not come in time."""
        builder, limit = attempt.builder, self.environment_timeout
        if not self.robot or builder is None or now - attempt.asked_at <= limit:
            return False
        self._answered_at = -math.inf  # he is asked for ready when it answers again
        self.break_off(attempt, builder, f"no chunk for {limit:g} s")
        return True

    def _figures(self) -> dict[str, object]:
        attempt = self.attempt  # the main thread may end it meanwhile
        version = attempt.version if isinstance(attempt, ActingAttempt) else ""
        number = self._schedule.number
        return {**self.figures(), "policy_version": version,
                "next_number": "unknown" if number is None else number}
