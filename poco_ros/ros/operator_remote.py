"""The operator's words without a keypad: ready, and how an episode went."""

from __future__ import annotations

import time
from collections.abc import Callable

from poco_msgs.msg import EpisodeStatus
from poco_msgs.srv import Label, Reset
from std_msgs.msg import Header

from poco_ros.core.episode import Outcome
from poco_ros.ros import convert, names
from poco_ros.ros.operator_word import GRACE
from poco_ros.ros.remote import AGAIN, ANSWER, DISCOVERY, RefusedError, Remote

ROLLOUT = "rollout"
SOURCE = "poco operator"
BUSY = (EpisodeStatus.RESETTING, EpisodeStatus.RUNNING)
BEGINS = {ROLLOUT: "the arm goes home, then the policy acts", "recorder": "lead the arm"}
"""By who makes the episode: what comes."""


class OperatorRemote(Remote):
    """Tells whoever makes episodes, the rollout or the recorder."""

    def __init__(self, namespace: str = "") -> None:
        super().__init__(namespace)
        self._episode: EpisodeStatus | None = None
        self._ready = self.node.create_publisher(Header, names.OPERATOR_READY, names.OPERATOR_QOS)
        self._reset = self.loop.client(Reset, names.RESET)
        self.loop.subscribe(EpisodeStatus, names.EPISODE, self._on_episode, names.STATUS_QOS)

    def _on_episode(self, status: EpisodeStatus) -> None:
        self._episode = status

    def ready(self) -> str:
        """Say that the scene is reset and all is clear; return what begins.

        Raises:
            NotThereError: nobody makes episodes.
            RefusedError: an episode has not ended, or waits for something else; the word is not
                kept.
        """
        heard = self.until(lambda: self._ready.get_subscription_count() > 0
                           and self._episode is not None, DISCOVERY)
        if not heard or self._episode is None:
            raise self.not_there(ROLLOUT, f"nobody listens to {names.OPERATOR_READY}")
        if self._episode.phase in BUSY:
            raise RefusedError(f"{self._episode.episode_id} has not ended; label it first")
        self.until(self._reset.is_ready, DISCOVERY)  # the arm hears the word itself
        word = Header(stamp=convert.stamp_to_msg(time.time_ns()), frame_id=SOURCE)
        if not self._say(word, self._begins, ANSWER / 2):
            raise RefusedError(f"too early, and not kept: {self._episode.detail}; say it again"
                               " when the graph waits for it")
        self._say(word, lambda: False, GRACE)  # it may find us later than who makes episodes
        makers = self.node.get_publishers_info_by_topic(names.EPISODE)
        what = next((BEGINS[maker.node_name] for maker in makers if maker.node_name in BEGINS), "")
        return f"{self._episode.episode_id} begins{what and f': {what}'}"

    def _say(self, word: Header, done: Callable[[], bool], patience: float) -> bool:
        """Repeat a word, which counts once, until ``done``; False after ``patience`` [s]."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            self._ready.publish(word)
            if self.until(done, AGAIN):
                return True
        return False

    def label(self, outcome: Outcome) -> str:
        """Label the open episode, which ends it, or the one that just ended.

        Raises:
            NotThereError: nobody makes episodes.
            RefusedError: there is none to label.
        """
        answer = self.call(Label, names.LABEL, ROLLOUT, Label.Request(outcome=int(outcome)))
        if not answer.success:
            raise RefusedError(answer.message)
        return str(answer.message)

    def _begins(self) -> bool:
        return self._episode is not None and self._episode.phase in BUSY
