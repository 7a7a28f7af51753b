"""Which weights an episode acts with, and when a rollout begins no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from poco_ros.core.episode import Episode
from poco_ros.nodes.rollout.attempt import ActingAttempt
from poco_ros.nodes.rollout.node import Rollout
from poco_ros.nodes.rollout.schedule import FREE_RUNNING, NEWEST, Schedule
from poco_ros.ros.convert import LearnerStatus


def learner(stored: int, trained: int, *versions: int, stage: str = "online",
            steps: int = 0) -> LearnerStatus:
    return LearnerStatus(stage=stage, policy_version=versions[-1] if versions else 0,
                         episodes_stored=stored, episodes_trained=trained,
                         round_versions=versions, environment_steps=steps)


def schedule(lag: int, status: LearnerStatus, **limits: int) -> Schedule:
    made = Schedule(lag, limits.get("online_steps", 10_000), limits.get("max_episodes", 0))
    made.heard(status, open_episode=False)
    return made


def episode(steps: int, trainable: bool = True) -> Episode:
    return Episode(id="e", observations=np.zeros((steps + 1, 1)), actions=np.zeros((steps, 1)),
                   rewards=np.zeros(steps), terminated=False, truncated=True,
                   trainable=trainable)


@pytest.mark.parametrize(("lag", "stored", "version"), [
    (0, 3, 43), (1, 3, 42), (2, 3, 41), (1, 0, 43), (FREE_RUNNING, 3, NEWEST)])
def test_an_episode_acts_with_the_weights_of_the_episodes_before_its_lag(
        lag: int, stored: int, version: int) -> None:
    trained = stored
    found = schedule(lag, learner(stored, trained, 41, 42, 43))
    assert found.missing(True) is None
    assert found.version() == (version, True)


def test_it_waits_for_weights_that_are_not_there_yet() -> None:
    waiting = schedule(1, learner(5, 3, 40, 41))
    missing = waiting.missing(True)
    assert missing is not None and "learned from 4 episodes" in missing.why
    waiting.heard(learner(5, 4, 41, 42), open_episode=False)
    assert waiting.missing(True) is None and waiting.version() == (42, True)


def test_weights_that_are_gone_are_replaced_by_the_newest_and_it_is_known() -> None:
    late = schedule(2, learner(9, 9, 90))
    assert late.missing(True) is None and late.version() == (90, False)


def test_nothing_begins_before_the_learner_has_weights() -> None:
    for lag in (FREE_RUNNING, 0, 1):
        missing = schedule(lag, learner(0, 0, stage="offline")).missing(True)
        assert missing is not None and "stage offline" in missing.why
    assert Schedule(1, 10, 0).missing(True) is not None, "nor before it is heard"


def test_a_fresh_process_counts_from_what_the_learner_has_stored() -> None:
    fresh = schedule(FREE_RUNNING, learner(7, 7, 5))
    missing = fresh.missing(all_handed_over=False)
    assert missing is not None and "left in the spool" in missing.why and fresh.number is None
    fresh.stored(8)
    missing = fresh.missing(all_handed_over=True)
    assert missing is not None and fresh.number is None, "the status is older than the answer"
    fresh.heard(learner(8, 7, 5), open_episode=False)
    assert fresh.missing(True) is None and fresh.number == 8


def test_no_episode_begins_when_the_online_steps_are_made() -> None:
    counting = schedule(FREE_RUNNING, learner(2, 2, 5, steps=80), online_steps=100)
    assert counting.missing(True) is None
    counting.ended(2, episode(15))
    assert counting.missing(True) is None
    counting.ended(3, episode(30, trainable=False))
    assert counting.missing(True) is None, "what is not trained on does not count"
    counting.ended(4, episode(5))
    missing = counting.missing(True)
    assert missing is not None and "all 100 online steps are made" in missing.why
    counting.heard(learner(5, 4, 6, steps=85), open_episode=False)
    assert counting.missing(True) is None, "one was discarded by a person"


def test_a_finished_run_and_a_limit_of_episodes_end_it() -> None:
    finished = schedule(1, learner(3, 3, 4, stage="finished")).missing(True)
    assert finished is not None and finished.why == "the run is finished"
    limited = schedule(1, learner(3, 3, 4), max_episodes=3).missing(True)
    assert limited is not None and limited.why == "all 3 episodes are made"


def test_a_report_is_made_also_when_the_episode_ends_in_its_middle() -> None:
    """The executor's thread makes it while the main thread goes on."""
    attempts = [ActingAttempt(3, 0, 43, True), None]

    class Ending:
        _schedule = schedule(1, learner(3, 3, 43))

        @property
        def attempt(self) -> ActingAttempt | None:
            return attempts.pop(0)

        def figures(self) -> dict[str, object]:
            return {}

    ending: Any = Ending()
    assert Rollout._figures(ending)["policy_version"] == 43
