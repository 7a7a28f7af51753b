"""The bytes of the acting loop's messages are those that rclpy makes and reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poco_msgs.msg import ActionChunk as ActionChunkMsg
from poco_msgs.msg import ExecutedAction as ExecutedActionMsg
from poco_msgs.msg import Features, Reward
from rclpy.serialization import deserialize_message, serialize_message

from poco_ros.core.chunk import ActionChunk
from poco_ros.core.episode import Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.joining import ExecutedAction, RewardSample, TickStatus
from poco_ros.core.observation import ObservationLayout
from poco_ros.ros import convert, wire

LIGHTLY = settings(max_examples=40, deadline=None)
# What a message cannot carry: NUL ends a string in CDR, and surrogates are no UTF-8.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40)
STAMP = st.integers(0, 2**31 * 10**9 - 1)
WORD, LONG = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def floats(elements: st.SearchStrategy[float], minimum: int = 0) -> st.SearchStrategy[np.ndarray]:
    return st.lists(elements, min_size=minimum, max_size=9).map(
        lambda values: np.array(values, np.float32))


EXECUTED = st.builds(
    ExecutedAction, stamp=STAMP, episode_id=TEXT, step=WORD, executed=floats(FINITE),
    requested=floats(FINITE), chunk_id=LONG, index=WORD, policy_version=LONG,
    status=st.sampled_from(TickStatus), reason=TEXT)
REWARDS = st.builds(RewardSample, stamp=STAMP, episode_id=TEXT, value=FINITE,
                    outcome=st.sampled_from(Outcome), truncated=st.booleans(), source=TEXT)
CHUNKS = st.tuples(
    st.builds(lambda rows, columns, *rest: ActionChunk(
        np.linspace(-1, 1, rows * columns, dtype=np.float32).reshape(rows, columns), *rest),
        st.integers(1, 4), st.integers(1, 7), LONG, LONG, STAMP, TEXT), TEXT)
LAYOUTS = st.lists(st.tuples(TEXT, st.integers(1, 5)), min_size=1, max_size=4,
                   unique_by=lambda part: part[0]).map(tuple).map(ObservationLayout)


def same(one: Any, other: Any) -> bool:
    """Return whether all fields are equal, arrays to the bit."""
    return all(np.array_equal(value, getattr(other, name)) for name, value in vars(one).items())


def is_that_of_rclpy(data: bytes, message: Any) -> bool:
    """Return whether rclpy reads ``message`` from ``data``, which is as long as its own bytes.

    The bytes themselves differ where rclpy leaves chance between two values.
    """
    return len(data) == len(serialize_message(message)) \
        and deserialize_message(data, type(message)) == message


@LIGHTLY
@given(EXECUTED)
def test_an_executed_action(action: ExecutedAction) -> None:
    message = convert.executed_to_msg(action)
    assert is_that_of_rclpy(wire.executed_to_wire(action), message)
    assert same(wire.executed_of(serialize_message(message)), action)


@LIGHTLY
@given(REWARDS)
def test_a_reward(reward: RewardSample) -> None:
    message = convert.reward_to_msg(reward)
    assert is_that_of_rclpy(wire.reward_to_wire(reward), message)
    assert same(wire.reward_of(serialize_message(message)), reward)


@LIGHTLY
@given(CHUNKS)
def test_a_chunk(given_chunk: tuple[ActionChunk, str]) -> None:
    chunk, episode_id = given_chunk
    message = convert.chunk_to_msg(chunk, episode_id)
    assert is_that_of_rclpy(wire.chunk_to_wire(chunk, episode_id), message)
    back, its_episode = wire.chunk_of(serialize_message(message))
    assert same(back, chunk) and its_episode == episode_id


@LIGHTLY
@given(LAYOUTS, STAMP)
def test_an_observation(layout: ObservationLayout, stamp: int) -> None:
    observation = np.arange(layout.size, dtype=np.float32)
    message = convert.features_to_msg(stamp, layout, observation)
    assert is_that_of_rclpy(wire.features_to_wire(stamp, layout, observation), message)
    its_stamp, back = wire.features_of(serialize_message(message), layout)
    assert its_stamp == stamp and np.array_equal(back, observation)


def test_messages_whose_lengths_change_from_one_to_the_next() -> None:
    for length in (3, 0, 7, 3, 1):
        reward = RewardSample(5, "e" * length, 1.0, source="s" * (9 - length))
        assert same(wire.reward_of(serialize_message(convert.reward_to_msg(reward))), reward)


def test_a_frame_and_padding_of_other_writers_do_no_harm() -> None:
    message = convert.reward_to_msg(RewardSample(7, "e", 0.5))
    message.header.frame_id = "base_link"
    assert same(wire.reward_of(serialize_message(message) + b"\0\0"), RewardSample(7, "e", 0.5))


def test_the_other_byte_order_is_read_too() -> None:
    """Header (0, 0) and an empty frame, episode "", 1.0, no outcome, not truncated, source ""."""
    data = bytes.fromhex("00000000 00000000 00000000 00000001 00000000 00000001 00000000 3f800000"
                         "00000000 00000001 00")
    assert deserialize_message(data, Reward).value == 1.0, "rclpy reads it so"
    assert same(wire.reward_of(data), RewardSample(0, "", 1.0))


LAYOUT = ObservationLayout((("state", 2), ("rest", 1)))


@pytest.mark.parametrize("message, words", [
    (Features(names=["state"], sizes=[2], data=[1.0, 2.0]), "'rest' is missing"),
    (Features(names=["state", "rest"], sizes=[2, 1], data=[1.0]), "sizes must"),
    (Features(names=["state", "rest"], sizes=[2, 1], data=[1.0, float("nan"), 2.0]), "state"),
    (Features(names=["state", "rest"], sizes=[1, 2], data=[1.0, 2.0, 3.0]), "state"),
])
def test_an_observation_that_does_not_fit_is_refused(message: Features, words: str) -> None:
    with pytest.raises(DataError, match=words):
        wire.features_of(serialize_message(message), LAYOUT)


def test_parts_in_another_order_are_put_in_ours() -> None:
    message = Features(names=["rest", "state"], sizes=[1, 2], data=[3.0, 1.0, 2.0])
    assert wire.features_of(serialize_message(message), LAYOUT)[1].tolist() == [1.0, 2.0, 3.0]


def test_what_is_not_known_is_refused_with_its_name() -> None:
    with pytest.raises(DataError, match="status 9"):
        wire.executed_of(serialize_message(ExecutedActionMsg(status=9)))
    with pytest.raises(DataError, match="outcome 9"):
        wire.reward_of(serialize_message(Reward(outcome=9)))
    with pytest.raises(DataError, match="expected 2 x 3"):
        wire.chunk_of(serialize_message(ActionChunkMsg(horizon=2, action_dim=3, actions=[0.0])))
    with pytest.raises(DataError, match="not finite"):
        wire.chunk_of(serialize_message(
            ActionChunkMsg(horizon=1, action_dim=1, actions=[float("nan")])))
