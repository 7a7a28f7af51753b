"""Which episode a label belongs to, and which label counts when there are several."""

from __future__ import annotations

from dataclasses import dataclass

from poco_ros.core.config import setting
from poco_ros.core.episode import Outcome
from poco_ros.core.errors import DataError


@dataclass(frozen=True)
class LabelConfig:
    """How long a label may come late, and be corrected.

    Whoever makes the episodes holds an ended one back for its ``correction_window`` (3 s in the
    presets); times longer than that promise what is not kept.
    """

    late: float = setting(3.0, "a first label counts for an episode that ended no longer ago",
                          unit="s", minimum=0.0)
    correction: float = setting(3.0, "another label within this time after one corrects it,"
                                " however long ago the episode ended", unit="s", minimum=0.0)


@dataclass(frozen=True)
class Label:
    """A label that counts."""

    episode_id: str
    outcome: Outcome
    corrects: Outcome
    """The outcome that it replaces; NONE when it is the first."""


@dataclass
class _Entry:
    episode_id: str
    opened_ns: int
    ended_ns: int | None = None
    outcome: Outcome = Outcome.NONE
    labelled_ns: int = 0


class LabelDesk:
    """Knows the open and the just-ended episode; gives every label its episode.

    Times are those of the key presses on the monotonic clock, not of their arrival.
    """

    def __init__(self, config: LabelConfig) -> None:
        self._config = config
        self._open: _Entry | None = None
        self._ended: _Entry | None = None

    @property
    def open_id(self) -> str:
        """The open episode; empty when none is."""
        return "" if self._open is None else self._open.episode_id

    @property
    def ended_id(self) -> str:
        """The episode that has ended last; empty when none has."""
        return "" if self._ended is None else self._ended.episode_id

    def open(self, episode_id: str, now_ns: int) -> None:
        """An episode has begun; the one before it, if open, has ended."""
        if self._open is not None and self._open.episode_id == episode_id:
            return
        self.end(now_ns)
        self._open = _Entry(episode_id, now_ns)

    def end(self, now_ns: int) -> None:
        """The open episode has ended; without effect when none is open."""
        if self._open is not None:
            self._open.ended_ns = now_ns
            self._ended, self._open = self._open, None

    def label(self, outcome: Outcome, pressed_ns: int, episode_id: str = "") -> Label:
        """Give a label to its episode.

        Args:
            outcome: what the operator says.
            pressed_ns: when, monotonic [ns].
            episode_id: episode that is meant; empty = the one that was open or had just ended.

        Raises:
            DataError: it belongs to no episode that may still be labelled, or comes too late to
                correct the label that is there; the message says which.
        """
        if outcome is Outcome.NONE:
            raise DataError("a label says success, failure or discard; NONE is no label")
        entry = self._entry(pressed_ns, episode_id)
        corrects = entry.outcome
        if corrects is not Outcome.NONE:
            since = (pressed_ns - entry.labelled_ns) * 1e-9
            if since > self._config.correction:
                raise DataError(
                    f"episode {entry.episode_id} was labelled {corrects.name} {since:.1f} s ago;"
                    f" a label is corrected within {self._config.correction:g} s")
        entry.outcome, entry.labelled_ns = outcome, pressed_ns
        return Label(entry.episode_id, outcome, corrects)

    def _entry(self, pressed_ns: int, episode_id: str) -> _Entry:
        for entry in (self._open, self._ended):
            if entry is None or (episode_id and entry.episode_id != episode_id):
                continue
            if pressed_ns < entry.opened_ns:
                continue  # pressed before it began: meant is the one before
            if entry.ended_ns is not None and entry.outcome is Outcome.NONE:
                late = (pressed_ns - entry.ended_ns) * 1e-9
                if late > self._config.late:
                    raise DataError(f"episode {entry.episode_id} ended {late:.1f} s ago; a label"
                                    f" counts within {self._config.late:g} s")
            return entry
        if episode_id:
            raise DataError(f"episode {episode_id!r} is neither open nor the one that just ended")
        raise DataError("no episode is open or has just ended; there is nothing to label")
