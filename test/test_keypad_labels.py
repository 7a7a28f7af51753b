"""A label counts for the open or the just-ended episode; a second press in time corrects it."""

from __future__ import annotations

import pytest

from poco_ros.core.episode import Outcome
from poco_ros.core.errors import DataError
from poco_ros.robot.labels import LabelConfig, LabelDesk

SECOND = 1_000_000_000


@pytest.fixture
def desk() -> LabelDesk:
    desk = LabelDesk(LabelConfig(late=10.0, correction=5.0))
    desk.open("first", 100 * SECOND)
    return desk


def test_the_open_episode_is_labelled(desk: LabelDesk) -> None:
    label = desk.label(Outcome.SUCCESS, 110 * SECOND)
    assert (label.episode_id, label.outcome, label.corrects) == (
        "first", Outcome.SUCCESS, Outcome.NONE)


def test_the_episode_that_just_ended_is_labelled(desk: LabelDesk) -> None:
    desk.end(120 * SECOND)
    assert desk.label(Outcome.FAILURE, 123 * SECOND).episode_id == "first"


def test_a_label_long_after_the_end_counts_for_nothing(desk: LabelDesk) -> None:
    desk.end(120 * SECOND)
    with pytest.raises(DataError, match=r"ended 11\.0 s ago"):
        desk.label(Outcome.FAILURE, 131 * SECOND)


def test_before_any_episode_there_is_nothing_to_label() -> None:
    with pytest.raises(DataError, match="nothing to label"):
        LabelDesk(LabelConfig()).label(Outcome.SUCCESS, SECOND)


def test_a_second_press_in_time_corrects(desk: LabelDesk) -> None:
    desk.label(Outcome.SUCCESS, 110 * SECOND)
    desk.end(110 * SECOND)
    label = desk.label(Outcome.FAILURE, 113 * SECOND)
    assert (label.outcome, label.corrects) == (Outcome.FAILURE, Outcome.SUCCESS)


def test_a_second_press_too_late_does_not(desk: LabelDesk) -> None:
    desk.label(Outcome.SUCCESS, 110 * SECOND)
    with pytest.raises(DataError, match="was labelled SUCCESS 6"):
        desk.label(Outcome.FAILURE, 116 * SECOND)


def test_a_late_label_is_corrected_in_the_time_after_it_not_after_the_end() -> None:
    desk = LabelDesk(LabelConfig())
    desk.open("first", 100 * SECOND)
    desk.end(120 * SECOND)
    desk.label(Outcome.SUCCESS, 120 * SECOND + 29 * SECOND // 10)
    label = desk.label(Outcome.FAILURE, 120 * SECOND + 49 * SECOND // 10)
    assert (label.episode_id, label.corrects) == ("first", Outcome.SUCCESS)
    with pytest.raises(DataError, match=r"was labelled FAILURE 3\.1 s ago"):
        desk.label(Outcome.SUCCESS, 128 * SECOND)


def test_a_press_from_before_an_episode_belongs_to_the_one_before(desk: LabelDesk) -> None:
    desk.end(120 * SECOND)
    desk.open("second", 124 * SECOND)
    # Pressed at 123.9, arrived when the second episode was open already.
    assert desk.label(Outcome.SUCCESS, 124 * SECOND - 1).episode_id == "first"
    assert desk.label(Outcome.SUCCESS, 125 * SECOND).episode_id == "second"


def test_opening_ends_the_episode_before(desk: LabelDesk) -> None:
    desk.open("second", 130 * SECOND)
    assert desk.label(Outcome.DISCARD, 131 * SECOND, "first").episode_id == "first"
    assert desk.label(Outcome.DISCARD, 131 * SECOND).episode_id == "second"


def test_an_episode_that_is_named_and_unknown_is_refused(desk: LabelDesk) -> None:
    with pytest.raises(DataError, match="'other' is neither open nor"):
        desk.label(Outcome.SUCCESS, 101 * SECOND, "other")


def test_no_outcome_is_no_label(desk: LabelDesk) -> None:
    with pytest.raises(DataError, match="no label"):
        desk.label(Outcome.NONE, 101 * SECOND)
