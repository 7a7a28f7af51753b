"""Measurements are consistent: no torn read, whatever is lost on the bus."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poco_ros.robot.arm import ArmFault
from poco_ros.robot.piper_faults import find_faults
from poco_ros.robot.piper_feedback import PiperFeedback
from poco_ros.robot.piper_protocol import (
    from_angle_units,
    from_length_units,
    to_angle_units,
    to_length_units,
)

MILLISECOND = 1_000_000


def joint_frames(number: int) -> list[tuple[int, bytes]]:
    """Frames of measurement ``number``: every joint carries it."""
    return [(0x2A5 + part, struct.pack(">ii", number, number)) for part in range(3)]


OTHERS = [(0x2A8, struct.pack(">ihBB", 30_000, 0, 0x40, 0)), (0x2A1, bytes([1, *[0] * 7])),
          *((0x261 + motor, bytes([0] * 5 + [0x40, 0, 0])) for motor in range(6))]
"""Frames that are not of the joints: an arm under control, with power."""


def awaiting(*missing: int) -> PiperFeedback:
    """Return one that has heard the joints once, and all the rest but some frames."""
    feedback = PiperFeedback(snapshot_spread=0.004, silence_timeout=0.12, report_timeout=0.5)
    for identifier, data in (*joint_frames(0), *OTHERS):
        if identifier not in missing:
            feedback.feed(identifier, data, -1e-3, -MILLISECOND, -MILLISECOND)
    assert feedback.newest is None
    return feedback


@given(lost=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=20))
def test_a_measurement_never_mixes_two_instants(lost: list[list[bool]]) -> None:
    feedback = awaiting()
    whole = 0
    for number, losses in enumerate(lost):
        for part, (identifier, data) in enumerate(joint_frames(number)):
            if losses[part]:
                continue
            now = number * 5 * MILLISECOND + part * MILLISECOND // 10
            feedback.feed(identifier, data, now * 1e-9, now, now)
            newest = feedback.newest
            if newest is not None:
                units = [to_angle_units(position) for position in newest.positions]
                assert len(set(units)) == 1, "torn between two measurements"
        if not any(losses):
            whole += 1
            assert feedback.newest is not None
            assert to_angle_units(feedback.newest.positions[0]) == number
    assert (feedback.newest is not None) == (whole > 0)


def test_a_set_whose_frames_are_far_apart_is_left_out_and_counted() -> None:
    feedback = awaiting()
    for part, (identifier, data) in enumerate(joint_frames(7)):
        feedback.feed(identifier, data, part * 0.01, 0, 0)
    assert feedback.newest is None and feedback.torn == 1


def test_a_wild_angle_is_noise() -> None:
    feedback = awaiting()
    for identifier, data in joint_frames(5_000_000):
        feedback.feed(identifier, data, 0.0, 0, 0)
    assert feedback.newest is None and feedback.torn == 1


@pytest.mark.parametrize("missing", [0x2A8, 0x2A1, 0x261, 0x266])
def test_positions_count_only_once_the_rest_is_known_and_with_a_fault_once_it_is_late(
        missing: int) -> None:
    feedback = awaiting(missing)
    for tick in range(60):
        now = tick * 10 * MILLISECOND
        for identifier, data in joint_frames(tick):
            feedback.feed(identifier, data, now * 1e-9, now, now)
        measured = feedback.newest
        assert (measured is not None) == (tick >= 50 and missing != 0x2A8)
        if measured is not None:
            assert "report_missing" in {
                fault.code for fault in find_faults(measured, 0.0, 0.12, 0.5)}


def test_a_measurement_is_a_snapshot_that_later_frames_do_not_change() -> None:
    feedback = awaiting()
    for number in (1_000, 2_000):
        for identifier, data in joint_frames(number):
            feedback.feed(identifier, data, number * 1.0, number, number)
        if number == 1_000:
            first = feedback.newest
    assert first is not None and feedback.newest is not first
    np.testing.assert_allclose(first.positions, from_angle_units(1_000))


@given(st.floats(-3.2, 3.2), st.floats(0.0, 0.07))
def test_units_of_the_bus_round_trip(angle: float, length: float) -> None:
    assert from_angle_units(to_angle_units(angle)) == pytest.approx(angle, abs=1e-5)
    assert from_length_units(to_length_units(length)) == pytest.approx(length, abs=1e-6)


def faults_without(missing: set[int], seconds: float, since_a_silence: bool = False
                   ) -> list[ArmFault]:
    """Return the faults of an arm that has not sent some frames for so long."""
    feedback = awaiting()
    began = 10_000 * MILLISECOND if since_a_silence else 0
    for tick in range(round(seconds / 0.01) + 1):
        now = began + tick * 10 * MILLISECOND
        for identifier, data in (*OTHERS, *joint_frames(tick)):
            if identifier not in missing or not (tick or since_a_silence):
                feedback.feed(identifier, data, now * 1e-9, now, now)
    assert feedback.newest is not None
    return find_faults(feedback.newest, 0.0, 0.12, 0.5)


@pytest.mark.parametrize("missing, words, mute", [
    ({0x2A8}, "the gripper (frame 0x2A8)", False),
    ({0x2A1}, "the status of the arm (frame 0x2A1)", True),
    ({0x263}, "the driver of joint3 (frame 0x263)", False),
    ({0x2A8, 0x261, 0x266}, "the gripper (frame 0x2A8), the driver of joint1 (frame 0x261), the"
     " driver of joint6 (frame 0x266)", False)])
def test_what_is_not_reported_any_more_is_a_fault(missing: set[int], words: str, mute: bool
                                                  ) -> None:
    assert not faults_without(missing, 0.45)
    faults = faults_without(missing, 0.55)
    assert [(fault.code, fault.mute) for fault in faults] == [("report_missing", mute)]
    assert f"no report of {words} for 0.5 s" in faults[0].detail


@pytest.mark.parametrize("missing, mute", [(0x2A8, True), (0x2A1, True), (0x263, False)])
def test_what_is_only_known_from_before_a_silence_commands_nothing(
        missing: int, mute: bool) -> None:
    faults = faults_without({missing}, 0.55, since_a_silence=True)
    assert [(fault.code, fault.mute) for fault in faults] == [("report_missing", mute)]


def test_what_was_said_before_a_silence_of_the_bus_does_not_count_after_it() -> None:
    feedback = awaiting()

    def hear(at: int, *frames: tuple[int, bytes]) -> None:
        for identifier, data in frames:
            feedback.feed(identifier, data, at * 1e-9, at, at)

    hear(0, *joint_frames(1))
    before = feedback.newest
    assert before is not None
    gripper, status, *motors = OTHERS
    back = 1_000 * MILLISECOND
    hear(back - MILLISECOND, *OTHERS)
    for tick, frame in enumerate((status, gripper, *motors)):
        hear(back + tick * 10 * MILLISECOND, *joint_frames(2), frame)
        assert feedback.newest is before, "it ages, and the bus counts as silent"
    at = back + 100 * MILLISECOND
    hear(at, *joint_frames(3))
    assert feedback.newest is not None and feedback.newest.monotonic_ns == at
    assert not find_faults(feedback.newest, 0.0, 0.12, 0.5)


@pytest.mark.parametrize(("gap", "silent"), [(115, False), (125, True)])
def test_a_gap_that_is_no_fault_is_no_silence(gap: int, silent: bool) -> None:
    feedback = awaiting()
    for at in (0, gap * MILLISECOND):
        for identifier, data in joint_frames(1):
            feedback.feed(identifier, data, at * 1e-9, at, at)
    assert feedback.newest is not None
    assert feedback.newest.monotonic_ns == (0 if silent else gap * MILLISECOND)
