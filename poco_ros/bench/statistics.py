"""The numbers of the tables, from the evaluations of runs: means, intervals, times, drops.

Intervals are 95% percentile bootstrap intervals of a mean success rate. Every replicate draws the
runs (seeds) of each task anew with replacement, each task a stratum of its own as in rliable, and
then the episodes of each drawn run. Drawing n binary episodes with replacement is drawing from a
binomial, so counts are enough. It is written in numpy, not with ``scipy.stats.bootstrap``, because
that one resamples on one level only: three runs alone have ten different replicates. Drawing on
both levels counts the episodes' noise twice, so where runs differ by little more than that noise,
or are many, the intervals are rather too wide. With few runs that truly differ they are too
narrow, as every bootstrap's: with three whose deviation is 10 points they hold the truth in some
80% of cases, with ten in 95%.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

REPLICATES = 4000
CONFIDENCE = 0.95
GOAL = 0.9
"""The success rate whose time is told."""


@dataclass(frozen=True)
class Point:
    """One evaluation of one run."""

    step: int
    """Steps of the environment that it is for: a multiple of eval_every, or the run's last."""
    minutes: float
    """Minutes that the run had taken."""
    successes: int
    episodes: int

    @property
    def rate(self) -> float:
        """Share of successes."""
        return self.successes / self.episodes


Curve = tuple[Point, ...]
"""The evaluations of one run, by steps; the one at step 0 is of the cloned policy."""


@dataclass(frozen=True)
class Interval:
    """A mean success rate, 0 to 1, and its 95% interval."""

    mean: float
    low: float
    high: float


def interval(strata: Sequence[Sequence[tuple[int, int]]], replicates: int = REPLICATES,
             seed: int = 0) -> Interval:
    """Return the mean success rate over tasks of the means over runs, with its interval.

    Args:
        strata: a task each, of it the (successes, episodes) of every run.
        replicates: how often everything is drawn anew.
        seed: of the draws, so that a table is the same every time.

    Raises:
        ValueError: there is no task, or one without a run.
    """
    if not strata or not all(strata):
        raise ValueError("an interval needs at least one run of every task")
    generator = np.random.default_rng(seed)
    mean, drawn = 0.0, np.zeros(replicates)
    for runs in strata:
        successes, episodes = np.array(runs).T  # (S,), (S,)
        picked = generator.integers(len(runs), size=(replicates, len(runs)))
        count = episodes[picked]  # (R, S)
        again = generator.binomial(count, successes[picked] / count)
        drawn += (again / count).mean(axis=1) / len(strata)
        mean += float((successes / episodes).mean()) / len(strata)
    edge = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(drawn, (edge, 100.0 - edge))
    return Interval(mean, min(float(low), mean), max(float(high), mean))


def common_steps(curves: Sequence[Curve]) -> list[int]:
    """Return the steps at which every run was evaluated, in order."""
    return sorted(set.intersection(*({point.step for point in curve} for curve in curves))
                  if curves else ())


def at_step(curves: Sequence[Curve], step: int) -> list[tuple[int, int]]:
    """Return (successes, episodes) of every run at ``step``, a common one."""
    return [next((point.successes, point.episodes) for point in curve if point.step == step)
            for curve in curves]


def at_minutes(curves: Sequence[Curve], minutes: float) -> list[tuple[int, int]] | None:
    """Return (successes, episodes) of the newest policy that each run had after ``minutes``.

    None when a run had none by then. Nothing is interpolated: this is what one would have held.
    """
    found = []
    for curve in curves:
        ready = [point for point in curve if point.minutes <= minutes]
        if not ready:
            return None
        found.append((ready[-1].successes, ready[-1].episodes))
    return found


def by_minutes(curves: Sequence[Curve]) -> list[float]:
    """Return the minutes at which :func:`at_minutes` changes: from all runs' first policy on."""
    if not curves:
        return []
    first = max(curve[0].minutes for curve in curves)
    return sorted({first, *(point.minutes for curve in curves for point in curve
                            if point.minutes > first)})


def minutes_at(curves: Sequence[Curve], step: int) -> float:
    """Return the minutes at which the median run had the policy of ``step``.

    The median, for one run that a busy machine held up says nothing of the others.
    """
    return float(np.median([point.minutes for curve in curves for point in curve
                            if point.step == step]))


@dataclass(frozen=True)
class TimeToGoal:
    """When runs first reached the goal: the median of their steps, and that of their minutes."""

    steps: float
    """inf unless more than half of the runs did."""
    minutes: float
    reached: int
    """Runs that did."""
    runs: int


def time_to_goal(curves: Sequence[Curve], goal: float = GOAL) -> TimeToGoal:
    """Return when runs were first evaluated at ``goal`` or better.

    A run that never was counts as infinitely late; of an even number of runs the median is the
    later of the two in the middle, so that nothing is averaged with infinity.
    """
    first = [next((point for point in curve if point.rate >= goal), None) for curve in curves]
    middle = len(first) // 2
    steps = sorted(np.inf if point is None else point.step for point in first)
    minutes = sorted(np.inf if point is None else point.minutes for point in first)
    return TimeToGoal(float(steps[middle]), float(minutes[middle]),
                      sum(point is not None for point in first), len(first))


def worst_drop(curve: Curve) -> float:
    """Return how far the success rate ever fell below that of the first policy, at least 0."""
    return max(0.0, curve[0].rate - min(point.rate for point in curve))
