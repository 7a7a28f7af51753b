"""An episode that a policy makes: what was asked for, and what was sent."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from poco_ros.core.chunk import ActionChunk
from poco_ros.core.joining import EpisodeBuilder
from poco_ros.core.seeding import chunk_seed, episode_id, episode_seed
from poco_ros.ros.attempt import Attempt

HELD_PATIENCE = 3
"""Ticks without an action of the chunk that was sent, after which it counts as refused."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A chunk that was asked for."""

    step: int
    """Number of the observation that it answers."""
    stamp: int
    """Stamp of that observation [ns]."""
    observation: np.ndarray


class ActingAttempt(Attempt):
    """One try at an episode, and the chunks of it."""

    def __init__(self, number: int, run_seed: int, version: int, lockstep: bool) -> None:
        super().__init__(number, episode_id(run_seed, number), episode_seed(run_seed, number))
        self.version = version
        """Exact version that acts; 0 = at every chunk the newest."""
        self.lockstep = lockstep
        """Whether the environment side executes just what it is sent, and waits in between."""
        self.chunks = 0
        """Chunks sent; the id of the last one."""
        self.next_seed = chunk_seed(self.seed, 0)
        """Seed of the noise of the next chunk, made while there is time."""
        self.asked: Asked | None = None
        """The chunk that is awaited."""
        self.answer: ActionChunk | None = None
        """It has come, and waits for the step before it to be complete."""
        self.asked_at = 0.0
        """When it was asked for first."""
        self.ask_again_at = float("inf")
        self._next_step = 0
        """Number of the observation at which all actions sent so far are used up."""
        self._sent_at_step = 0
        self._sent_at_stamp = 0
        self._horizon = 0

    def due(self, builder: EpisodeBuilder) -> Asked | None:
        """Return what to ask for now, if the actions sent so far are used up, or were refused.

        In lock-step the observation alone tells: it is the n-th, and n actions were sent. Asking
        before action and reward of the last step have come takes them off the way of the chunk.
        Otherwise ticks may have been held, so the joined steps tell.
        """
        received = builder.received
        if self.asked is not None or received is None:
            return None
        number, stamp, observation = received
        if self.lockstep:
            return Asked(number, stamp, observation) if number == self._next_step else None
        last = builder.last_action
        if last is None:  # a first chunk that was refused has not begun to be executed
            used_up = self.chunks == 0 or builder.ticks_after(self._sent_at_stamp) >= HELD_PATIENCE
        elif last.chunk_id == self.chunks:
            used_up = last.index + 1 >= self._horizon
        else:
            used_up = builder.steps - self._sent_at_step >= HELD_PATIENCE
        return Asked(number, stamp, observation) if used_up else None

    def ask(self, asked: Asked, again_after: float) -> None:
        """Note that a chunk was asked for, to be asked for again after so many seconds."""
        now = time.monotonic()
        if self.asked is not asked:
            self.asked, self.answer, self.asked_at = asked, None, now
        self.ask_again_at = now + again_after

    def ready(self, builder: EpisodeBuilder) -> ActionChunk | None:
        """Return the answer if the step before it is complete, so that it may be sent."""
        if self.answer is None or self.asked is None or builder.steps < self.asked.step:
            return None
        return self.answer

    def sent(self, chunk: ActionChunk) -> None:
        """Note that the chunk that was asked for was sent."""
        assert self.asked is not None
        self.chunks, self._horizon = chunk.chunk_id, len(chunk.actions)
        self._next_step, self._sent_at_step = self.asked.step + self._horizon, self.steps
        self._sent_at_stamp = self.asked.stamp
        self.next_seed = chunk_seed(self.seed, self.chunks)
        self.asked = self.answer = None
        self.ask_again_at = float("inf")
        self.heard_at = time.monotonic()
