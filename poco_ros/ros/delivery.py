"""Handing ended episodes over: first onto our disk, then until the receiver says it has them.

The hand-over is repeated until it is acknowledged, which the receiver does when the episode is on
its own disk; it is idempotent by episode id. So neither side can lose or double an episode by
dying, whenever that is. The receiver is the learner, over its service, or a folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from poco_msgs.srv import StoreEpisode

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.errors import DataError
from poco_ros.core.labels import LabelRewards, labelled
from poco_ros.core.spool import Spool
from poco_ros.ros import convert, names
from poco_ros.ros.diagnostics import Health
from poco_ros.ros.fast_loop import FastClient, FastLoop

STORE = "store_episode (learner)"
RETRY = 1.0
"""Pause after a refused hand-over or a failed write [s]."""


@dataclass(frozen=True)
class Receipt:
    """What a receiver answers."""

    success: bool
    message: str
    stored: int
    """Episodes that it has."""


HandOver = Callable[[Episode, Callable[[Receipt], None]], None]
"""Gives an episode to a receiver, whose answer, if one comes, goes to the second argument. Called
again with the next or the same episode, it forgets the answer to the one before."""


def to_learner(loop: FastLoop) -> HandOver:
    """Return the hand-over to the learner's service; answers come in the loop's thread."""
    client: FastClient[StoreEpisode.Response] = loop.client(StoreEpisode, names.STORE_EPISODE)

    def hand_over(episode: Episode, answer: Callable[[Receipt], None]) -> None:
        client.forget()
        client.call(StoreEpisode.Request(episode=convert.episode_to_msg(episode)),
                    lambda response: answer(Receipt(response.success, response.message,
                                                    response.episodes_stored)))

    return hand_over


def to_folder(store: EpisodeStore) -> HandOver:
    """Return the hand-over to a folder of episodes; it answers at once."""

    def hand_over(episode: Episode, answer: Callable[[Receipt], None]) -> None:
        try:
            store.add(episode)
        except OSError as error:
            answer(Receipt(False, f"{store.folder}: {error}; free some space", len(store)))
            return
        answer(Receipt(True, "stored", len(store)))

    return hand_over


@dataclass
class _Held:
    """An ended episode that can still be labelled."""

    original: Episode
    """Before any label, so that a label can be corrected by labelling again."""
    until: float


class Delivery:
    """The spool of ended episodes and their way to a receiver. Call :meth:`update` often."""

    def __init__(self, spool: Spool, health: Health, hand_over: HandOver, timeout: float,
                 on_stored: Callable[[str, int], None], receiver: str = STORE) -> None:
        """Deliver what is in ``spool``; one thread calls everything here.

        Args:
            spool: episodes that are not handed over; those of an earlier process go first.
            health: told what is waited for.
            hand_over: the way to the receiver.
            timeout: hand over again after so long without an answer [s].
            on_stored: called with the id and the number of episodes that the receiver has.
            receiver: its name, for people.
        """
        self.spool = spool
        self._health, self._timeout, self._on_stored = health, timeout, on_stored
        self._hand_over, self._receiver = hand_over, receiver
        self._unwritten: dict[str, Episode] = {}
        """By id: newer than what the spool has of them, if it has anything."""
        self._refusal = ""
        self._held: dict[str, _Held] = {}
        self._sent = ""
        self._next_try = 0.0

    @property
    def blocked(self) -> bool:
        """Whether an ended episode could not be written yet; begin no other until it is."""
        return bool(self._unwritten)

    @property
    def empty(self) -> bool:
        """Whether everything has been handed over."""
        return not self.spool.ids and not self.blocked

    def put(self, episode: Episode, original: Episode | None = None, hold: float = 0.0) -> None:
        """Take an ended episode; it can be labelled for ``hold`` seconds, then it is handed over.

        ``original`` is the episode before its label, None when it has none. When the disk is full
        the episode is kept in memory, reported, and written when there is room.
        """
        if hold > 0.0:
            self._held[episode.id] = _Held(original or episode, time.monotonic() + hold)
        self._write(episode)
        self.update()

    def label(self, episode_id: str, outcome: Outcome, source: str, hold: float,
              rewards: LabelRewards) -> Episode:
        """Label an ended episode that is still here, empty id = the last; return it.

        Raises:
            DataError: there is none, it is handed over already, or its time for labels is over.
        """
        if not episode_id and self._held:
            episode_id = next(reversed(self._held))
        held = self._held.get(episode_id)
        if held is None:
            raise DataError(f"episode {episode_id or '(the last)'} cannot be labelled: it is"
                            " handed over already, or was never here")
        late = time.monotonic() - held.until
        if late >= 0.0:
            raise DataError(f"episode {episode_id} cannot be labelled: its time for labels ended"
                            f" {late:.1f} s ago")
        held.until = time.monotonic() + hold
        episode = labelled(held.original, outcome, source, rewards)
        self._write(episode)
        return episode

    def _write(self, episode: Episode) -> None:
        try:
            self.spool.put(episode)
        except OSError as error:
            self._unwritten[episode.id] = episode
            self._next_try = time.monotonic() + RETRY
            self._refusal = str(error)
            self._health.fault("spool", f"episode {' and '.join(self._unwritten)} cannot be"
                               f" written to {self.spool.folder}: {error}; it is in memory, free"
                               " some space")
            return
        self._unwritten.pop(episode.id, None)
        if not self._unwritten:
            self._health.healed("spool")

    def update(self) -> None:
        """Hand over the oldest episode if it is time."""
        now = time.monotonic()
        if now < self._next_try:
            return
        for episode in list(self._unwritten.values()):
            self._write(episode)
        waiting = self.spool.ids
        if not waiting or waiting[0] in self._unwritten:
            return
        held = self._held.get(waiting[0])
        if held is not None:
            if now < held.until:
                return
            del self._held[waiting[0]]
        self._sent, self._next_try = waiting[0], now + self._timeout
        self._health.wait_for(self._receiver)
        self._hand_over(self.spool.get(waiting[0]), self._on_receipt)

    def hand_over_all(self) -> str:
        """Hand over all that is here, also what could still be labelled: nobody will be there.

        For a receiver that answers at once. Return why something is left, in the spool or in
        memory; empty when nothing is.
        """
        self._held.clear()
        self._next_try = 0.0
        self.update()
        return "" if self.empty else self._refusal

    def _on_receipt(self, receipt: Receipt) -> None:
        if not receipt.success:
            self._next_try = time.monotonic() + RETRY
            self._refusal = receipt.message
            self._health.wait_for(self._receiver, receipt.message)
            return
        self._health.got(self._receiver)
        self._next_try = 0.0
        self.spool.remove(self._sent)
        self._on_stored(self._sent, receipt.stored)
        self.update()
