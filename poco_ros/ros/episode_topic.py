"""What a node tells of the episodes that it makes, on the topic ``episode``."""

from __future__ import annotations

from dataclasses import replace

from poco_msgs.msg import EpisodeStatus as EpisodeStatusMsg
from rclpy.node import Node

from poco_ros.core.episode import Episode, Outcome
from poco_ros.ros import convert, names
from poco_ros.ros.attempt import Attempt


class EpisodeTopic:
    """Publishes where the episode stands, and the success rate over the last ones."""

    def __init__(self, node: Node, window: int) -> None:
        """Take the success rate over the last ``window`` episodes."""
        self._node, self._window = node, window
        self._topic = node.create_publisher(EpisodeStatusMsg, names.EPISODE, names.STATUS_QOS)
        self._successes: dict[str, bool] = {}
        self._not_stored: dict[str, convert.EpisodeStatus] = {}
        self.status = convert.EpisodeStatus()
        """What was published last, and is latched."""

    def waiting(self, what: str) -> None:
        """Tell what the next episode waits for."""
        self._publish(replace(self.status, phase=EpisodeStatusMsg.WAITING, detail=what))

    def phase(self, attempt: Attempt, phase: int) -> None:
        """Tell that an episode is in a phase."""
        self._publish(self._of(attempt, phase))

    def ended(self, attempt: Attempt, episode: Episode) -> None:
        """Tell how an episode has ended."""
        self._successes[episode.id] = episode.success
        if len(self._successes) > self._window:
            del self._successes[next(iter(self._successes))]
        status = replace(self._of(attempt, EpisodeStatusMsg.ENDED), step=len(episode),
                         outcome=episode.outcome, detail="; ".join(episode.notes))
        self._not_stored[episode.id] = status
        self._publish(status)

    def relabelled(self, episode: Episode) -> None:
        """Tell that a person has labelled an ended episode otherwise."""
        if episode.id in self._successes:
            self._successes[episode.id] = episode.success
        status = replace(self._not_stored[episode.id], outcome=episode.outcome,
                         success_rate=self._rate(), detail="; ".join(episode.notes))
        self._not_stored[episode.id] = status
        self._publish(status)

    def stored(self, episode_id: str) -> None:
        """Tell that the learner has an episode; then again what holds now, for that is latched."""
        status = self._not_stored.pop(episode_id, None)
        if status is None:  # an earlier process made it
            return
        current = self.status
        self._publish(replace(status, phase=EpisodeStatusMsg.STORED))
        if current.episode_id != episode_id:
            self._publish(current)

    def rate_in_words(self) -> str:
        """Return the success rate, and over how many episodes it is."""
        return f"success rate {self._rate():.2f} over {len(self._successes)}"

    def _rate(self) -> float:
        return sum(self._successes.values()) / len(self._successes) if self._successes else 0.0

    def _of(self, attempt: Attempt, phase: int) -> convert.EpisodeStatus:
        return convert.EpisodeStatus(attempt.id, attempt.number, attempt.seed, phase,
                                     attempt.steps, Outcome.NONE, self._rate(),
                                     len(self._successes))

    def _publish(self, status: convert.EpisodeStatus) -> None:
        if status == self.status:
            return
        self.status = status
        now = self._node.get_clock().now().nanoseconds
        self._topic.publish(convert.episode_status_to_msg(now, status))
