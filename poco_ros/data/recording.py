"""What people ask of recorded episodes: where they are from, how they ended, what went wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from poco_ros.core.episode import Episode, Outcome

SATURATED = 0.999
"""An action component beyond this is at its bound."""
LONG_STEP = 1.5
"""A step that takes so many times the usual time has a hole: one tick, or more, is missing."""
REASONS = 4
"""So many different reasons are told, the most frequent ones."""


@dataclass(frozen=True)
class Recording:
    """Figures of a set of recorded episodes, beside those of :class:`~.summary.Summary`."""

    sources: dict[str, tuple[int, int]]
    """Source -> episodes, and how many of these succeed."""
    outcomes: dict[str, int]
    """Name of an outcome -> episodes."""
    refused: dict[str, int]
    """Why episodes are not trained on -> how many."""
    remarks: dict[str, int]
    """Notes of the episodes that are trained on -> how many."""
    durations: tuple[float, float, float] | None
    """Shortest, longest, all together [s]; None when no episode has stamps."""
    period: float
    """Median time from one observation to the next [s]; 0 when there are no stamps."""
    worst_gap: tuple[float, str, int]
    """Longest such time [s], the episode where it was, and its step."""
    holes: tuple[int, int]
    """Steps with a hole, and the episodes that they are in."""
    held: tuple[int, int]
    """Steps of online episodes that no policy asked for, and the episodes that they are in."""
    online_steps: int
    """Steps of all online episodes."""
    clipped: float
    """Share of all values of the actions that are at -1 or 1."""

    def lines(self) -> list[str]:
        """Return the figures in words, a line each."""
        told = [
            "source              " + ", ".join(
                f"{source} {count} ({good} succeed)"
                for source, (count, good) in self.sources.items()),
            "outcome             " + ", ".join(
                f"{name} {count}" for name, count in self.outcomes.items()),
        ]
        told += _reasons("not trained on", self.refused) + _reasons("remarks", self.remarks)
        if self.durations is None:
            told.append("time                no stamps were recorded")
        else:
            shortest, longest, total = self.durations
            gap, episode, step = self.worst_gap
            told += [
                f"time                {shortest:.1f} to {longest:.1f} s an episode,"
                f" {total / 60:.1f} min in all",
                f"control rate        {1 / self.period:.2f} /s (median); worst gap {gap:.3f} s at"
                f" step {step} of {episode}",
                f"holes               {_within(self.holes)}",
            ]
        if self.online_steps:
            told.append(f"held                {_within(self.held)}"
                        f" ({100 * self.held[0] / self.online_steps:.1f}% of the online steps)")
        told.append(f"clipped             {100 * self.clipped:.1f}% of the values of the actions"
                    " are at a bound")
        return told


def describe_recording(episodes: Sequence[Episode]) -> Recording:
    """Return the figures of ``episodes``, at least one."""
    timed = [episode for episode in episodes if has_stamps(episode)]
    periods = [np.diff(episode.stamps) * 1e-9 for episode in timed]
    holes = [len(steps_with_holes(episode)) for episode in episodes]
    held = [len(held_steps(episode)) for episode in episodes]
    seconds = [float(each.sum()) for each in periods]
    gaps = [(float(each.max()), episode.id, int(each.argmax()))
            for each, episode in zip(periods, timed, strict=True)]
    values = np.concatenate([episode.actions.reshape(-1) for episode in episodes])
    sources = Counter(episode.source for episode in episodes)
    good = Counter(episode.source for episode in episodes if episode.success)
    outcomes = Counter(episode.outcome for episode in episodes)
    return Recording(
        sources={source: (count, good[source]) for source, count in sorted(sources.items())},
        outcomes={outcome.name.lower(): outcomes[outcome] for outcome in
                  (Outcome.SUCCESS, Outcome.FAILURE, Outcome.DISCARD, Outcome.NONE)
                  if outcomes[outcome]},
        refused=_count_notes([episode for episode in episodes if not episode.trainable]),
        remarks=_count_notes([e for e in episodes if e.trainable and e.notes]),
        durations=(min(seconds), max(seconds), sum(seconds)) if timed else None,
        period=float(np.median(np.concatenate(periods))) if timed else 0.0,
        worst_gap=max(gaps, key=itemgetter(0)) if timed else (0.0, "", 0),
        holes=(sum(holes), sum(map(bool, holes))),
        held=(sum(held), sum(map(bool, held))),
        online_steps=sum(len(e) for e in episodes if e.source == "online"),
        clipped=float((np.abs(values) >= SATURATED).mean()),
    )


def has_stamps(episode: Episode) -> bool:
    """Return whether it was recorded when the observations were taken."""
    return bool(np.median(np.diff(episode.stamps)) > 0)


def steps_with_holes(episode: Episode) -> np.ndarray:
    """Return the steps that took much longer than usual in this episode, (K,) int64."""
    periods = np.diff(episode.stamps)
    if len(periods) < 3 or not has_stamps(episode):
        return np.zeros(0, np.int64)
    return np.flatnonzero(periods > LONG_STEP * np.median(periods))


def held_steps(episode: Episode) -> np.ndarray:
    """Return the steps of an online episode that no policy asked for, (K,) int64."""
    if episode.source != "online":
        return np.zeros(0, np.int64)
    return np.flatnonzero(episode.policy_versions == 0)


def _count_notes(episodes: Sequence[Episode]) -> dict[str, int]:
    """Return note -> episodes; notes that differ in their numbers only are counted as one."""
    counts: Counter[str] = Counter()
    worded: dict[str, set[str]] = {}
    for episode in episodes:
        for note in episode.notes or ("no reason was noted",):
            pattern = re.sub(r"\d+(\.\d+)?", "…", note)
            counts[pattern] += 1
            worded.setdefault(pattern, set()).add(note)
    return {worded[pattern].pop() if len(worded[pattern]) == 1 else pattern: count
            for pattern, count in counts.most_common()}


def _reasons(title: str, counts: dict[str, int]) -> list[str]:
    told = [f"{count} × {reason}" for reason, count in list(counts.items())[:REASONS]]
    if len(counts) > REASONS:
        told.append(f"and {len(counts) - REASONS} other notes")
    return [f"{title if not index else '':20s}{text}" for index, text in enumerate(told)]


def _within(found: tuple[int, int]) -> str:
    steps, episodes = found
    return f"{steps} step(s) in {episodes} episode(s)" if steps else "none"
