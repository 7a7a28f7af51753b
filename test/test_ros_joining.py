"""Three topics become one episode, in whatever order their messages come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.joining import (
    ENVIRONMENT,
    EpisodeBuilder,
    ExecutedAction,
    RewardSample,
    TickStatus,
)
from poco_ros.core.labels import labelled

PERIOD = 50
BEGINS = 1_000


def observation(k: int) -> np.ndarray:
    return np.full(3, k, np.float32)


def executed(k: int, status: TickStatus = TickStatus.NOMINAL, episode: str = "e",
             version: int = 7) -> ExecutedAction:
    action = np.full(2, k / 100, np.float32)
    return ExecutedAction(BEGINS + k * PERIOD, episode, k, action, action, 1 + k // 5, k % 5,
                          version, status, "why")


def reward(k: int, outcome: Outcome = Outcome.NONE, truncated: bool = False) -> RewardSample:
    """Of the step that led to observation k + 1."""
    return RewardSample(BEGINS + (k + 1) * PERIOD, "e", k / 10, outcome, truncated, ENVIRONMENT)


def streams(steps: int, **last: object) -> list[list[tuple[str, object]]]:
    """The three streams of an episode, each in its own order."""
    return [
        [("observation", (BEGINS + k * PERIOD, observation(k))) for k in range(steps + 1)],
        [("executed", executed(k)) for k in range(steps)],
        [("reward", reward(k, **(last if k == steps - 1 else {})))  # type: ignore[arg-type]
         for k in range(steps)],
    ]


def feed(builder: EpisodeBuilder, kind: str, item: object) -> None:
    if kind == "observation":
        builder.add_observation(*item)  # type: ignore[misc]
    elif kind == "executed":
        builder.add_executed(item)  # type: ignore[arg-type]
    else:
        builder.add_reward(item)  # type: ignore[arg-type]


def joined(order: list[int], steps: int, **last: object) -> Episode:
    """Feed the streams, taking the next message from stream ``order[i]`` each time."""
    builder = EpisodeBuilder("e", "task", BEGINS)
    waiting = streams(steps, **last)
    for stream in [*order, *(s for s, rest in enumerate(waiting) for _ in rest)]:
        if waiting[stream]:
            feed(builder, *waiting[stream].pop(0))
    assert builder.closed
    return builder.build()


@given(st.lists(st.integers(0, 2), max_size=40), st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_the_order_in_which_messages_arrive_does_not_matter(order: list[int], steps: int) -> None:
    episode = joined(order, steps, outcome=Outcome.SUCCESS)
    assert len(episode) == steps and episode.terminated and not episode.truncated
    np.testing.assert_array_equal(episode.observations[:, 0], np.arange(steps + 1))
    np.testing.assert_array_equal(episode.actions[:, 0],
                                  np.arange(steps, dtype=np.float32) / np.float32(100))
    np.testing.assert_array_equal(episode.rewards, np.arange(steps, dtype=np.float32) / 10)
    np.testing.assert_array_equal(episode.stamps, np.arange(steps + 1) * PERIOD)
    assert episode.trainable and (episode.policy_versions == 7).all()


@pytest.mark.parametrize(("last", "terminated", "truncated", "outcome"), [
    ({"outcome": Outcome.SUCCESS}, True, False, Outcome.SUCCESS),
    ({"outcome": Outcome.FAILURE}, True, False, Outcome.FAILURE),
    ({"truncated": True}, False, True, Outcome.FAILURE),
    ({"truncated": True, "outcome": Outcome.SUCCESS}, False, True, Outcome.SUCCESS),
])
def test_termination_and_truncation_stay_apart(
        last: dict[str, object], terminated: bool, truncated: bool, outcome: Outcome) -> None:
    episode = joined([0, 1, 2] * 5, 5, **last)
    assert (episode.terminated, episode.truncated, episode.outcome) == \
        (terminated, truncated, outcome)


def test_what_belongs_to_another_episode_or_to_before_is_left_out() -> None:
    builder = EpisodeBuilder("e", "task", BEGINS)
    builder.add_observation(BEGINS - 1, observation(99))
    builder.add_executed(executed(0, episode="the one before"))
    builder.add_reward(RewardSample(BEGINS, "e", 1.0, Outcome.SUCCESS, False, ENVIRONMENT))
    assert builder.received is None and builder.steps == 0 and not builder.closed
    for stream in streams(2, outcome=Outcome.SUCCESS):
        for kind, item in stream:
            feed(builder, kind, item)
    assert builder.build().observations[0, 0] == 0


def test_a_missing_action_closes_the_episode_and_keeps_it_from_training() -> None:
    builder = EpisodeBuilder("e", "task", BEGINS)
    observations, actions, rewards = streams(5)
    for kind, item in [*observations, *actions[:2], *rewards]:
        feed(builder, kind, item)
    feed(builder, *actions[3])
    episode = builder.build()
    assert len(episode) == 2 and not episode.trainable
    assert "step 2 is missing" in episode.notes[0]


def test_a_missing_observation_closes_the_episode_and_keeps_it_from_training() -> None:
    builder = EpisodeBuilder("e", "task", BEGINS)
    observations, actions, rewards = streams(5)
    for kind, item in [*observations[:2], *observations[3:], *actions, *rewards]:
        feed(builder, kind, item)
    assert builder.closed
    episode = builder.build()
    assert len(episode) == 1 and not episode.trainable and not episode.truncated


def test_held_ticks_are_steps_and_a_stop_cuts_the_episode() -> None:
    builder = EpisodeBuilder("e", "task", BEGINS)
    observations, _, rewards = streams(3)
    for kind, item in [*observations, *rewards]:
        feed(builder, kind, item)
    builder.add_executed(executed(0))
    builder.add_executed(executed(1, TickStatus.HELD, version=0))
    builder.add_executed(executed(2, TickStatus.STOPPED))
    episode = builder.build()
    assert len(episode) == 2 and episode.policy_versions.tolist() == [7, 0]
    assert not episode.terminated and not episode.truncated and episode.trainable
    assert "stopped at step 2" in episode.notes[0]


@pytest.mark.parametrize(("status", "learned"), [(TickStatus.FAULT, False),
                                                 (TickStatus.BLOCKED, True)])
def test_a_fault_cuts_the_episode_and_a_collision_is_learned_from(
        status: TickStatus, learned: bool) -> None:
    builder = EpisodeBuilder("e", "task", BEGINS, step_reward=0.0)
    for kind, item in streams(3)[0]:
        feed(builder, kind, item)
    builder.add_executed(executed(0))
    builder.add_executed(executed(1))
    builder.add_executed(executed(2, status))
    episode = builder.build()
    assert len(episode) == 2 and episode.trainable is learned
    assert "at step 2" in episode.notes[0]
    failed = labelled(episode, Outcome.FAILURE, "keypad")
    assert failed.terminated and failed.trainable is learned and not failed.rewards.any()


def test_an_episode_without_a_complete_step_is_none() -> None:
    builder = EpisodeBuilder("e", "task", BEGINS)
    builder.add_observation(BEGINS, observation(0))
    builder.cut("label")
    with pytest.raises(DataError, match="before its first step"):
        builder.build()


@given(st.lists(st.integers(0, 1), max_size=40), st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_without_rewards_a_step_is_complete_when_its_next_observation_is_there(
        order: list[int], steps: int) -> None:
    builder = EpisodeBuilder("e", "task", BEGINS, step_reward=-1.0)
    waiting = streams(steps)[:2]
    for stream in [*order, *(s for s, rest in enumerate(waiting) for _ in rest)]:
        if waiting[stream]:
            feed(builder, *waiting[stream].pop(0))
    assert builder.steps == steps and not builder.closed
    builder.truncate()
    episode = builder.build()
    assert episode.truncated and episode.outcome == Outcome.FAILURE
    np.testing.assert_array_equal(episode.rewards, np.full(steps, -1.0))


@pytest.mark.parametrize("late", [False, True])
def test_an_episode_begins_with_the_observation_that_its_first_action_acted_on(late: bool) -> None:
    builder = EpisodeBuilder("e", "task", BEGINS, step_reward=0.0)
    rest = 3
    first = ExecutedAction(BEGINS + rest * PERIOD, "e", 0, np.zeros(2), np.zeros(2), 1, 0, 7)
    for k in range(rest + (0 if late else 2)):
        builder.add_observation(BEGINS + k * PERIOD, observation(k))
    builder.add_executed(first)
    for k in range(rest + (0 if late else 2), rest + 2):
        builder.add_observation(BEGINS + k * PERIOD, observation(k))
    assert builder.steps == 1 and not builder.closed
    np.testing.assert_array_equal(builder.build().observations[:, 0], [rest, rest + 1])
