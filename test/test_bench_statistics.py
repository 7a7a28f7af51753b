"""The numbers of the tables, against cases that are known or worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from poco_ros.bench.statistics import (
    Point,
    at_minutes,
    at_step,
    by_minutes,
    common_steps,
    interval,
    minutes_at,
    time_to_goal,
    worst_drop,
)


def curve(*rows: tuple[int, float, int]) -> tuple[Point, ...]:
    """Return a curve of (step, minutes, successes of 10)."""
    return tuple(Point(step, minutes, successes, 10) for step, minutes, successes in rows)


def test_one_run_has_the_interval_of_a_binomial() -> None:
    """All that varies are its episodes: the percentiles of Binomial(n, p) / n."""
    for successes, episodes in ((50, 100), (9, 10), (30, 200)):
        found = interval([[(successes, episodes)]], replicates=200_000)
        share = successes / episodes
        low, high = stats.binom.ppf([0.025, 0.975], episodes, share) / episodes
        assert found.mean == share
        assert abs(found.low - low) <= 1 / episodes and abs(found.high - high) <= 1 / episodes


def test_many_episodes_leave_the_bootstrap_over_runs_alone() -> None:
    """Then it is the percentile bootstrap of scipy over the runs' rates."""
    rates = np.array([0.30, 0.55, 0.60, 0.72, 0.81, 0.95])
    many = 10_000_000
    found = interval([[(int(rate * many), many) for rate in rates]], replicates=100_000)
    known = stats.bootstrap((rates,), np.mean, n_resamples=100_000, method="percentile",
                            rng=np.random.default_rng(1)).confidence_interval
    assert found.mean == pytest.approx(rates.mean())
    assert found.low == pytest.approx(known.low, abs=0.003)
    assert found.high == pytest.approx(known.high, abs=0.003)


def test_tasks_are_strata_none_is_ever_drawn_instead_of_another() -> None:
    """One task always solved, one never: without strata the mean would vary from 0 to 1."""
    found = interval([[(100, 100)] * 3, [(0, 100)] * 3])
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_tasks_weigh_the_same_whatever_their_runs() -> None:
    assert interval([[(10, 10)], [(0, 10), (5, 10), (10, 10)]]).mean == pytest.approx(0.75)
    with pytest.raises(ValueError, match="at least one run of every task"):
        interval([[(1, 2)], []])


@pytest.mark.parametrize(("count", "episodes", "deviation", "least", "most"), [
    (3, 50, 0.05, 0.92, 1.0), (10, 100, 0.10, 0.92, 1.0),
    (3, 100, 0.10, 0.72, 0.90)])  # too narrow, as the table and the docs say
def test_the_interval_covers_the_truth_as_often_as_is_said(
        count: int, episodes: int, deviation: float, least: float, most: float) -> None:
    """95% where runs differ by little or are many; few that truly differ are too few."""
    generator = np.random.default_rng(3)
    covered = 0
    for trial in range(400):
        rates = np.clip(0.6 + deviation * generator.standard_normal(count), 0, 1)
        runs = [(int(generator.binomial(episodes, rate)), episodes) for rate in rates]
        found = interval([runs], replicates=500, seed=trial)
        covered += found.low <= 0.6 <= found.high
    assert least <= covered / 400 <= most


def test_a_table_is_the_same_every_time() -> None:
    assert interval([[(3, 10), (5, 10)]]) == interval([[(3, 10), (5, 10)]])


def test_runs_are_compared_where_all_of_them_were_evaluated() -> None:
    first, second = curve((0, 1, 4), (10, 2, 6), (20, 3, 9)), curve((0, 1, 2), (20, 5, 7))
    assert common_steps([first, second]) == [0, 20]
    assert common_steps([]) == []
    assert at_step([first, second], 20) == [(9, 10), (7, 10)]
    assert minutes_at([first, second], 20) == 4.0


def test_minutes_of_a_run_that_was_held_up_move_no_other() -> None:
    runs = [curve((0, 1, 4), (10, minutes, 6)) for minutes in (5, 6, 50)]
    assert minutes_at(runs, 10) == 6


def test_after_some_minutes_a_run_has_its_newest_policy() -> None:
    runs = [curve((0, 1, 4), (10, 2, 6)), curve((0, 1.5, 2), (10, 9, 7))]
    assert at_minutes(runs, 0.5) is None, "nobody had a policy yet"
    assert at_minutes(runs, 1.2) is None, "one had none"
    assert at_minutes(runs, 2.0) == [(6, 10), (2, 10)]
    assert at_minutes(runs, 100.0) == [(6, 10), (7, 10)]
    assert by_minutes(runs) == [1.5, 2, 9], "it changes there, and all have one from 1.5 on"
    assert by_minutes([]) == []


def test_time_to_the_goal_is_the_median_of_the_runs() -> None:
    early = curve((0, 1, 4), (10, 2, 9), (20, 3, 5))
    late = curve((0, 1, 4), (10, 2, 8), (20, 4, 10))
    never = curve((0, 1, 4), (10, 2, 8), (20, 3, 8))
    found = time_to_goal([early, late, never])
    assert (found.steps, found.minutes, found.reached, found.runs) == (20, 4, 2, 3)
    assert time_to_goal([early]).steps == 10, "falling back later does not undo it"
    assert math.isinf(time_to_goal([early, never, never]).steps)
    assert math.isinf(time_to_goal([early, never]).minutes), "half of the runs are not most"
    assert math.isinf(time_to_goal([early, late, never, never]).steps)
    quick = curve((0, 1, 4), (10, 9, 9))
    found = time_to_goal([early, quick, late])
    assert (found.steps, found.minutes) == (10, 4), "each by itself"
    assert time_to_goal([early, never], goal=0.5).steps == 10


def test_worst_drop_is_below_the_cloned_policy() -> None:
    assert worst_drop(curve((0, 1, 6), (10, 2, 2), (20, 3, 9))) == pytest.approx(0.4)
    assert worst_drop(curve((0, 1, 2), (10, 2, 5))) == 0.0
