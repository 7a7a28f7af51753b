"""An environment as the arm would run it: chunks come in, one tick at a time goes out. No ROS.

A tick has one stamp. At tick k the observation s_k has stamp t_k, the action that is executed at
s_k has the same stamp, and the reward of that step has stamp t_{k+1}, that of s_{k+1}.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poco_ros.core.chunk import ActionChunk, ChunkPlayer
from poco_ros.core.environment import Environment, Step
from poco_ros.core.episode import Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.joining import ENVIRONMENT, ExecutedAction, RewardSample, TickStatus


@dataclass(frozen=True, eq=False)
class Tick:
    """What one tick led to."""

    executed: ExecutedAction
    reward: RewardSample | None = None
    """None when nothing moved."""
    stamp: int = 0
    """t_{k+1} [ns]."""
    observation: np.ndarray | None = None
    """s_{k+1}, (O,); None when nothing moved."""


class Session:
    """One environment and the episode that runs in it."""

    def __init__(self, environment: Environment, max_chunk_age: float = 0.0) -> None:
        """Serve ``environment``; chunks older than ``max_chunk_age`` [s] are refused, 0 = none."""
        self.environment, self.spec = environment, environment.spec
        self.max_chunk_age = max_chunk_age
        self.period = round(self.spec.control_period * 1e9)
        self.episode_id = ""
        self.step = 0
        self.stamp = 0
        self.observation: np.ndarray | None = None
        self.running = False
        self.stop_reason = ""
        """Not empty: the stop is latched, nothing moves."""
        self._limit = self.spec.max_episode_steps
        self._player = ChunkPlayer(self.spec.action_dim)

    @property
    def due(self) -> bool:
        """Whether an action of a chunk is waiting to be executed."""
        return self.running and not self.stop_reason and self._player.remaining > 0

    def next_stamp(self, now: int) -> int:
        """Return ``now`` [ns], or later if that is needed to come after the stamp before."""
        return max(now, self.stamp + self.period) if now <= self.stamp else now

    def begin(self, episode_id: str, seed: int, max_steps: int, now: int) -> None:
        """Begin an episode; its first observation is :attr:`observation` with :attr:`stamp`.

        Args:
            episode_id: unique id.
            seed: of the initial state.
            max_steps: truncate after so many; 0 = the environment's own limit, which also holds.
            now: time [ns].

        Raises:
            DataError: the stop is latched.
        """
        if self.stop_reason:
            raise DataError(f"the stop is latched ({self.stop_reason}); release it by calling"
                            " the service stop with data: false")
        self.running = False
        self.observation = self.environment.reset(seed)
        limit = self.spec.max_episode_steps
        self._limit = min(max_steps, limit) if max_steps else limit
        self._player.clear(forget_ids=True)
        self.episode_id, self.step, self.stamp = episode_id, 0, self.next_stamp(now)
        self.running = True

    def offer(self, chunk: ActionChunk, episode_id: str, now: int) -> None:
        """Take a chunk for execution.

        Raises:
            DataError: of another task, episode or size, repeated, stale, nothing runs, or the
                stop is latched; what is being executed goes on then.
        """
        what = f"chunk {chunk.chunk_id}"
        if self.stop_reason:
            raise DataError(f"{what}: the stop is latched ({self.stop_reason})")
        if not self.running:
            raise DataError(f"{what}: no episode is running; reset begins one")
        if chunk.task != self.spec.task:
            raise DataError(f"{what} is for task {chunk.task!r}, here is {self.spec.task!r}")
        if episode_id != self.episode_id:
            raise DataError(f"{what} is for episode {episode_id!r}, here runs"
                            f" {self.episode_id!r}")
        age = (now - chunk.observation_stamp) / 1e9
        if self.max_chunk_age and age > self.max_chunk_age:
            raise DataError(f"{what} answers an observation that is {age:.3f} s old, allowed are"
                            f" {self.max_chunk_age:g} s")
        self._player.accept(chunk)

    def stop(self, reason: str) -> ExecutedAction:
        """Latch the stop; return what to publish."""
        self.stop_reason = reason
        self._player.clear()
        return self._held(TickStatus.STOPPED, reason)

    def release(self) -> None:
        """Release the stop. The episode that it interrupted does not go on: reset begins one."""
        if self.stop_reason:
            self.stop_reason = ""
            self.running = False

    def tick(self, now: int) -> Tick:
        """Execute one action: the next of the chunk, or a hold when there is none.

        A hold is an action of zeros: the deltas that move nothing.
        """
        if self.stop_reason:
            return Tick(self._held(TickStatus.STOPPED, self.stop_reason))
        played = self._player.next()
        if played is None:
            executed = self._held(TickStatus.HELD, "no action was due: the chunk is late")
        else:
            executed = ExecutedAction(
                self.stamp, self.episode_id, self.step, played.action, played.action,
                played.chunk_id, played.index, played.policy_version)
        try:
            step = self.environment.step(executed.executed)
        except DataError as error:  # the simulation diverged: its state is no observation
            self.running = False
            return Tick(self._held(TickStatus.STOPPED, str(error)))
        return self._moved(executed, step, self.next_stamp(now))

    def _moved(self, executed: ExecutedAction, step: Step, stamp: int) -> Tick:
        self.step += 1
        self.stamp, self.observation = stamp, step.observation
        ended = step.terminated or step.truncated
        truncated = step.truncated or (self.step >= self._limit and not step.terminated)
        outcome = Outcome.NONE
        if step.success and (ended or truncated):
            outcome = Outcome.SUCCESS
        elif step.terminated:
            outcome = Outcome.FAILURE
        self.running = not (ended or truncated)
        reward = RewardSample(stamp, self.episode_id, step.reward, outcome, truncated, ENVIRONMENT)
        return Tick(executed, reward, stamp, step.observation)

    def _held(self, status: TickStatus, reason: str) -> ExecutedAction:
        zeros = np.zeros(self.spec.action_dim, np.float32)
        return ExecutedAction(self.stamp, self.episode_id, self.step, zeros, zeros,
                              status=status, reason=reason)
