"""Which chunks are let in: whole, of this task, of this episode, newer than the last, fresh."""

from __future__ import annotations

from collections import Counter

from poco_ros.core.chunk import ActionChunk, ChunkPlayer, PlayedAction
from poco_ros.core.errors import DataError
from poco_ros.robot.observation_log import ObservationLog, Observed


class ChunkGate:
    """Checks chunks that arrive and hands out their actions, one a tick.

    :class:`~poco_ros.core.chunk.ActionChunk` has refused what is not finite, complete and within
    [-1, 1] before; here is what only the receiver can know.
    """

    def __init__(self, action_dim: int, task: str, max_age: float) -> None:
        self.task = task
        """Task of the policies that are let in; empty lets any in."""
        self.observations = ObservationLog()
        self.refusals: Counter[str] = Counter()
        """How many chunks were refused, by reason."""
        self._max_age = max_age
        self._player = ChunkPlayer(action_dim)
        self._episode = ""
        self._observed: Observed | None = None

    def begin(self, episode_id: str) -> None:
        """Forget what is left of the last episode; chunks of ``episode_id`` are let in now."""
        self._player.clear(forget_ids=True)
        self._episode = episode_id
        self._observed = None

    def refuse(self, kind: str, message: str) -> DataError:
        """Count a refusal and return its error."""
        self.refusals[kind] += 1
        return DataError(message)

    def offer(self, chunk: ActionChunk, episode_id: str, executed: int, now_ns: int) -> None:
        """Let a chunk in; what is left of the one before is dropped.

        Actions that were executed since its observation was taken (the chunk overlaps with the
        one before) are skipped; held ticks moved nothing and are not.

        Args:
            chunk: the chunk.
            episode_id: episode that it was made for.
            executed: actions of chunks executed so far.
            now_ns: monotonic clock [ns].

        Raises:
            DataError: it is refused; the message says why.
        """
        name = f"chunk {chunk.chunk_id}"
        if not self._episode or episode_id != self._episode:
            raise self.refuse("episode", f"{name} is of episode {episode_id!r}; open is"
                              f" {self._episode or 'none'!r}")
        if self.task and chunk.task != self.task:
            raise self.refuse("task", f"{name} is of a policy of task {chunk.task!r}, this robot"
                              f" does {self.task!r}")
        observed = self.observations.find(chunk.observation_stamp)
        if observed is None:
            raise self.refuse("stamp", f"{name} answers an observation stamped"
                              f" {chunk.observation_stamp}, which is too old or was never"
                              " published here; use the stamp of joint_states")
        age = (now_ns - observed.monotonic_ns) * 1e-9
        if age > self._max_age:
            raise self.refuse("stale", f"{name} answers an observation of {age:.3f} s ago, allowed"
                              f" are {self._max_age:.3f} s")
        skip = executed - observed.actions_before
        if skip >= len(chunk.actions):
            raise self.refuse("stale", f"{name} has {len(chunk.actions)} actions, but {skip} were"
                              " executed since its observation")
        try:
            self._player.accept(chunk)
        except DataError as error:
            raise self.refuse("order" if "newer" in str(error) else "shape", str(error)) from error
        for _ in range(skip):
            self._player.next()
        self._observed = observed

    def next(self) -> tuple[PlayedAction, Observed] | None:
        """Return the next action and when its observation was taken; None when none is due."""
        played = self._player.next()
        if played is None or self._observed is None:
            return None
        return played, self._observed

    def drop(self) -> None:
        """Drop what is left: after a fault nothing of the old chunk moves the arm."""
        self._player.clear()
