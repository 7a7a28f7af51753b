"""From what the environment side publishes to one episode.

A tick has one stamp. At tick k the environment side publishes the observation s_k with stamp t_k,
and, with the same stamp, the action a_k that was executed at s_k; the reward with stamp t_{k+1}
describes the step that ended there, a_k from s_k to s_{k+1}. The three come on three topics, so
they are joined here by stamp and by the step number of the action, in whatever order they arrive.
Only executed actions enter the episode.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import DataError


class TickStatus(IntEnum):
    """What became of an action; the values are those of ``poco_msgs/ExecutedAction``."""

    NOMINAL = 0
    LIMITED = 1
    HELD = 2
    STOPPED = 3
    FAULT = 4
    BLOCKED = 5


@dataclass(frozen=True, eq=False)
class ExecutedAction:
    """What was really done in one tick."""

    stamp: int
    """t_k [ns], that of the observation it acted on."""
    episode_id: str
    step: int
    """k, from 0."""
    executed: np.ndarray
    """(A,) float32 in [-1, 1]."""
    requested: np.ndarray
    """(A,) float32 as asked for."""
    chunk_id: int = 0
    index: int = 0
    policy_version: int = 0
    status: TickStatus = TickStatus.NOMINAL
    reason: str = ""


@dataclass(frozen=True)
class RewardSample:
    """Reward of the step that ended at ``stamp``, or a person's label."""

    stamp: int
    episode_id: str
    """Empty = the open episode."""
    value: float
    outcome: Outcome = Outcome.NONE
    truncated: bool = False
    source: str = ""

    @property
    def of_environment(self) -> bool:
        """Whether it is the environment's own reward of a step, and not a label."""
        return self.source == ENVIRONMENT


ENVIRONMENT = "environment"
"""``source`` of the rewards that the environment itself gives, one a tick."""


class EpisodeBuilder:
    """Joins one episode; :attr:`closed` once it has ended."""

    def __init__(self, episode_id: str, task: str, begins: int,
                 step_reward: float | None = None) -> None:
        """Begin an episode.

        Args:
            episode_id: its id.
            task: name of the task.
            begins: earlier observations are not of this episode [ns].
            step_reward: None where the environment gives a reward a tick; on the robot nobody
                does, and this one counts for every step until a person labels the last.
        """
        self.id, self.task, self.begins = episode_id, task, begins
        self._step_reward = step_reward
        self.terminated = False
        self.truncated = False
        self.outcome = Outcome.NONE
        self.closed = False
        self.trainable = True
        self.notes: list[str] = []
        self._stamps: list[int] = []
        self._observations: list[np.ndarray] = []
        self._executed: list[ExecutedAction] = []
        self._rewards: list[float] = []
        self._early: deque[RewardSample] = deque()

    @property
    def steps(self) -> int:
        """Complete steps: their action, reward and following observation are here."""
        return len(self._rewards)

    @property
    def received(self) -> tuple[int, int, np.ndarray] | None:
        """Number, stamp [ns] and vector (O,) of the newest observation; None before s_0.

        It may be ahead of :attr:`steps`: action and reward of its step may not have come yet.
        """
        if not self._stamps:
            return None
        return len(self._stamps) - 1, self._stamps[-1], self._observations[-1]

    def ticks_after(self, stamp: int) -> int:
        """Return how many observations are later than ``stamp`` [ns]."""
        return len(self._stamps) - bisect_right(self._stamps, stamp)

    @property
    def last_action(self) -> ExecutedAction | None:
        """The action of the last complete step."""
        return self._executed[self.steps - 1] if self.steps else None

    def add_observation(self, stamp: int, observation: np.ndarray) -> None:
        """Take an observation (O,); those from before the episode are ignored."""
        if self.closed or stamp < self.begins:
            return
        if self._stamps and stamp <= self._stamps[-1]:
            self.cut(f"observation at {stamp} ns is not after the one before", trainable=False)
            return
        self._stamps.append(stamp)
        self._observations.append(observation)
        self._begin_at_first_action()
        self._join()

    def add_executed(self, action: ExecutedAction) -> None:
        """Take an executed action; those of other episodes are ignored."""
        if self.closed or action.episode_id != self.id or action.stamp < self.begins:
            return
        if action.status == TickStatus.STOPPED:
            self.cut(f"stopped at step {self.steps}: {action.reason}")
            return
        if action.status == TickStatus.FAULT:
            self.cut(f"fault at step {self.steps}: {action.reason}", trainable=False)
            return
        if action.status == TickStatus.BLOCKED:  # the policy's own doing: it shall learn from it
            self.cut(f"blocked at step {self.steps}: {action.reason}")
            return
        if action.step != len(self._executed):
            self.cut(f"action of step {len(self._executed)} is missing, got step {action.step}",
                     trainable=False)
            return
        self._executed.append(action)
        self._begin_at_first_action()
        self._join()

    def _begin_at_first_action(self) -> None:
        """Let the episode begin with the observation that its first action acted on.

        Where time goes on while the first chunk is made, the arm rests for some ticks before.
        """
        while not self._rewards and self._executed and len(self._stamps) > 1 \
                and self._stamps[1] <= self._executed[0].stamp:
            del self._stamps[0], self._observations[0]

    def add_reward(self, reward: RewardSample) -> None:
        """Take a reward of the environment; those of other episodes are ignored."""
        if self.closed or reward.episode_id != self.id or reward.stamp <= self.begins:
            return
        self._early.append(reward)
        self._join()

    def _join(self) -> None:
        """Complete as many steps as there are parts for; a hole closes the episode."""
        while not self.closed:
            k = self.steps
            if len(self._executed) <= k or len(self._stamps) <= k + 1:
                return
            if self._step_reward is not None:
                self._early.append(RewardSample(self._stamps[k + 1], self.id, self._step_reward))
            if not self._early:
                return
            reward = self._early[0]
            if self._stamps[k] != self._executed[k].stamp or self._stamps[k + 1] != reward.stamp:
                self.cut(f"step {k}: action at {self._executed[k].stamp} ns and reward at"
                         f" {reward.stamp} ns do not meet the observations at {self._stamps[k]}"
                         f" and {self._stamps[k + 1]} ns", trainable=False)
                return
            self._early.popleft()
            self._rewards.append(reward.value)
            if reward.truncated:
                self.outcome = Outcome.SUCCESS if reward.outcome == Outcome.SUCCESS \
                    else Outcome.FAILURE
                self.truncated = self.closed = True
            elif reward.outcome in (Outcome.SUCCESS, Outcome.FAILURE):
                self.outcome = reward.outcome
                self.terminated = self.closed = True
            elif reward.outcome == Outcome.DISCARD:
                self.outcome = Outcome.DISCARD
                self.cut(f"discarded by {reward.source}", trainable=False)

    def truncate(self) -> None:
        """End the episode here because its time is over: it did not succeed."""
        self.outcome = Outcome.FAILURE
        self.truncated = self.closed = True

    def cut(self, note: str, trainable: bool = True) -> None:
        """End the episode here, neither terminated nor truncated; the complete steps stay."""
        self.closed = True
        self.trainable = self.trainable and trainable
        self.notes.append(note)

    def build(self) -> Episode:
        """Return the episode of the complete steps; stamps count from its first observation.

        Raises:
            DataError: no step is complete, or the parts break the contract of an episode.
        """
        steps = self.steps
        if not steps:
            raise DataError(f"episode {self.id}: ended before its first step was complete")
        return Episode(
            id=self.id,
            observations=_stack(self._observations[:steps + 1], self.id),
            actions=_stack([action.executed for action in self._executed[:steps]], self.id),
            rewards=np.asarray(self._rewards, np.float32),
            terminated=self.terminated,
            truncated=self.truncated,
            outcome=self.outcome,
            policy_versions=np.array([a.policy_version for a in self._executed[:steps]], np.int64),
            stamps=np.array(self._stamps[:steps + 1], np.int64) - self._stamps[0],
            trainable=self.trainable,
            task=self.task,
            notes=tuple(self.notes),
            began=0 if self._step_reward is None else self._stamps[0],
        )


def _stack(rows: Sequence[np.ndarray], episode_id: str) -> np.ndarray:
    sizes = {row.shape for row in rows}
    if len(sizes) != 1:
        raise DataError(f"episode {episode_id}: rows of different sizes {sorted(sizes)}")
    return np.stack(rows)
