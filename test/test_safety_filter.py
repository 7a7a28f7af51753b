"""The safety filter over random and adversarial command streams, and what it does about faults."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poco_ros.robot.arm import ArmCommand, ArmError, ArmFault, ArmState
from poco_ros.robot.config import ActionConfig, SafetyConfig, WorkspaceConfig
from poco_ros.robot.kinematics import JOINT_LOWER, JOINT_NAMES, JOINT_UPPER
from poco_ros.robot.safety_filter import SafetyFilter, Verdict
from poco_ros.robot.workspace_limit import WorkspaceLimit

PERIOD = 1 / 15
HOME = np.array([0.0, 1.2, -1.0, 0.0, 0.9, 0.0])
WORKSPACE = WorkspaceConfig(table_height=0.0, box_lower=(0.0, -0.5, 0.0))
SAFETY = SafetyConfig(workspace=WORKSPACE, joint_velocity=dict.fromkeys(JOINT_NAMES, 0.9))
TIGHT = replace(SAFETY, joint_limits={
    name: (low + 0.1, high - 0.1)
    for name, low, high in zip(JOINT_NAMES, JOINT_LOWER, JOINT_UPPER, strict=True)})
MARGIN = SAFETY.limit_margin
SECOND = 1_000_000_000
FAULT = ArmFault("motor", "joint3: driver error")
TEACHING = ArmFault("teaching", "a person leads the arm", mute=True)


def state(positions: np.ndarray = HOME, now: int = SECOND, gripper: float = 0.03,
          faults: tuple[ArmFault, ...] = ()) -> ArmState:
    return ArmState(JOINT_NAMES, np.asarray(positions, np.float64), gripper, now, now, True,
                    None, faults)


def entered(config: SafetyConfig = SAFETY, positions: np.ndarray = HOME) -> SafetyFilter:
    filter = SafetyFilter(config, ActionConfig(), JOINT_NAMES, PERIOD)
    filter.enter(state(positions, 0))
    return filter


@dataclass
class Tick:
    """One tick of a stream: what is asked, how old it is, how the arm is."""

    action: np.ndarray
    age: float
    elapsed: float
    lag: np.ndarray
    """Measured minus commanded joints [rad]."""
    faults: tuple[ArmFault, ...] = ()
    kind: str = "act"
    stop: bool = field(default=False)


numbers = st.one_of(st.floats(-1, 1), st.sampled_from([-1.0, 1.0, 5.0, -1e9, np.nan, np.inf]))
actions = st.one_of(
    st.lists(numbers, min_size=7, max_size=7), st.lists(numbers, min_size=0, max_size=9),
    st.sampled_from([[1.0] * 7, [-1.0] * 7])).map(np.array)
ticks = st.builds(
    Tick, action=actions, age=st.one_of(st.floats(0, 0.5), st.floats(-1, 30)),
    elapsed=st.one_of(st.just(PERIOD), st.floats(0.0, 5.0)),
    lag=st.one_of(st.just(np.zeros(6)),
                  st.lists(st.floats(-0.6, 0.6), min_size=6, max_size=6).map(np.array)),
    faults=st.sampled_from([(), (), (), (), (), (), (FAULT,), (TEACHING,)]),
    kind=st.sampled_from(["act", "act", "act", "move", "rest"]),
    stop=st.sampled_from([False] * 15 + [True]))


def outside(positions: np.ndarray) -> np.ndarray:
    """Return how far each joint is outside its tightened limits [rad]."""
    inner = 0.1 + MARGIN
    return np.maximum(np.maximum(JOINT_LOWER + inner - positions,
                                 positions - (JOINT_UPPER - inner)), 0.0)


@given(stream=st.lists(ticks, min_size=1, max_size=40),
       start=st.tuples(*(st.floats(low + 0.06, high - 0.06) for low, high in
                         zip(JOINT_LOWER, JOINT_UPPER, strict=True))).map(np.array))
@settings(max_examples=120, deadline=None)
def test_no_stream_of_commands_breaks_a_limit(stream: list[Tick], start: np.ndarray) -> None:
    filter = entered(TIGHT, start)
    workspace = WorkspaceLimit(WORKSPACE)
    now = 0
    assert filter.pose is not None
    np.testing.assert_array_equal(filter.pose.positions, start)
    for tick in stream:
        now += round(tick.elapsed * 1e9)
        before = filter.pose
        measured = state(before.positions + tick.lag, now, faults=tick.faults)
        if tick.stop:
            filter.stop("test")
        if tick.kind == "act":
            decision = filter.act(tick.action, now - round(tick.age * 1e9), measured, now)
        elif tick.kind == "move":
            wanted = np.resize(tick.action, 7) if len(tick.action) else np.full(7, np.nan)
            decision = filter.move(ArmCommand.from_vector(4 * wanted), measured, now)
        else:
            decision = filter.rest(measured, now)
        command = decision.command.positions
        assert np.isfinite(decision.command.vector()).all()
        assert 0.0 <= decision.command.gripper <= 0.07
        assert np.abs(decision.executed).max() <= 1.0 and np.isfinite(decision.requested).all()
        moved = command - before.positions
        if decision.verdict in (Verdict.NOMINAL, Verdict.LIMITED):
            assert not tick.faults and not filter.stop_reason
            assert (outside(command) <= outside(before.positions) + 1e-9).all()
            assert np.abs(moved).max() <= 0.07 + 1e-9
            assert np.abs(moved).max() <= 0.9 * min(2 * tick.elapsed, PERIOD) + 1e-9
            assert (workspace.depth(command) <= workspace.depth(before.positions) + 1e-8).all()
            if tick.kind == "act":
                assert 0.0 <= round(tick.age, 9) <= SAFETY.chunk_age, "followed a stale chunk"
                assert tick.action.shape == (7,) and np.isfinite(tick.action).all()
                again = filter.mapping.pose(decision.executed, before)
                np.testing.assert_allclose(again.vector(), decision.command.vector(), atol=1e-6)
        else:
            assert decision.reason
            away = np.abs(command - measured.positions).max()
            if not np.array_equal(command, before.positions):
                assert away <= TIGHT.entry_tolerance, "a hold moves nothing"
            assert away <= TIGHT.following_error, "it is not held by a spring either"
            if any(fault.mute for fault in tick.faults):
                assert away <= TIGHT.entry_tolerance, "nothing is kept of before"
        if filter.stop_reason:
            assert decision.verdict is Verdict.STOPPED


def test_within_the_limits_what_is_asked_is_executed() -> None:
    filter = entered(replace(SAFETY, soft_start=0.0))
    action = np.array([0.5, -0.25, 0.1, 1.0, 0.0, -0.8, -0.2])
    decision = filter.act(action, SECOND, state(now=SECOND), SECOND)
    assert decision.verdict is Verdict.NOMINAL and decision.reason == ""
    np.testing.assert_allclose(decision.executed, action, atol=1e-6)
    np.testing.assert_allclose(decision.command.positions - HOME, action[:6] * 0.06, atol=1e-9)
    assert decision.command.gripper == pytest.approx(0.035 * 0.8)


@pytest.mark.parametrize("action, words", [
    (np.array([0, 0, np.nan, 0, 0, 0, 0]), "finite"), (np.zeros(6), "7 finite values"),
    (np.full(7, np.inf), "finite")])
def test_a_malformed_action_holds(action: np.ndarray, words: str) -> None:
    decision = entered().act(action, SECOND, state(now=SECOND), SECOND)
    assert decision.verdict is Verdict.HELD and words in decision.reason and not decision.fault


def test_a_stale_action_holds_and_needs_no_operator() -> None:
    decision = entered().act(np.ones(7), SECOND, state(now=3 * SECOND), 3 * SECOND)
    assert decision.verdict is Verdict.HELD
    assert "2.000 s old" in decision.reason and not decision.fault


def test_a_fault_holds_the_measured_pose_not_the_commanded_one() -> None:
    filter = entered()
    filter.act(np.ones(7), SECOND, state(now=SECOND), SECOND)
    sagged = state(HOME - 0.02, 2 * SECOND, faults=(FAULT,))
    decision = filter.act(np.ones(7), 2 * SECOND, sagged, 2 * SECOND)
    assert decision.verdict is Verdict.HELD and decision.fault
    assert "joint3: driver error" in decision.reason
    np.testing.assert_allclose(decision.command.positions, HOME - 0.02)


def test_a_held_pose_does_not_creep_with_the_sagging_arm() -> None:
    filter = entered()
    poses = [filter.hold(state(HOME - 0.01 * tick), "test").command.positions
             for tick in range(1, 6)]
    np.testing.assert_allclose(poses, np.broadcast_to(HOME - 0.01, (5, 6)))


def test_a_pose_held_while_nobody_listened_is_taken_afresh() -> None:
    filter = entered()
    silent = ArmFault("bus_silent", "no measurement", mute=True)
    filter.hold(state(HOME, faults=(silent,)), "silent")
    # Meanwhile somebody moved the arm by hand.
    decision = filter.hold(state(HOME + 0.3), "silent")
    np.testing.assert_allclose(decision.command.positions, HOME + 0.3)


@pytest.mark.parametrize("others", [TEACHING, ArmFault("bus_silent", "no frames", mute=True)])
def test_fingers_that_others_may_have_moved_are_left_where_they_are(others: ArmFault) -> None:
    filter = entered()
    filter.hold(state(), "test")
    filter.hold(state(faults=(others,)), "others have it")
    decision = filter.hold(state(gripper=0.06), "others have it")
    assert decision.command.gripper == 0.06
    assert filter.hold(state(gripper=0.05), "test").command.gripper == 0.06, "nothing creeps"


def test_fingers_grip_again_what_they_were_asked_to_since_others_had_the_arm() -> None:
    filter = entered()
    filter.hold(state(faults=(TEACHING,)), "teaching")
    filter.enter(state(now=0))
    grasp = np.array([0, 0, 0, 0, 0, 0, -1.0])
    for tick in range(1, 5):
        filter.act(grasp, tick * SECOND, state(now=tick * SECOND, gripper=0.04), tick * SECOND)
    assert filter.hold(state(gripper=0.04), "test").command.gripper == 0.0


def test_an_arm_that_was_led_outside_its_limits_is_held_where_it_is() -> None:
    filter = entered(TIGHT)
    led = HOME.copy()
    led[1] = 0.01  # the arm's own limit is 0, ours 0.11
    filter.hold(state(led, faults=(TEACHING,)), "teaching")
    decision = filter.hold(state(led), "teaching")
    np.testing.assert_array_equal(decision.command.positions, led)


@pytest.mark.parametrize("positions, held", [(-0.05, 0.0), (-0.2, -0.2)])
def test_a_pose_beyond_the_arms_own_limits_is_held_at_the_limit_or_not_asked_for(
        positions: float, held: float) -> None:
    filter = entered()
    beyond = HOME.copy()
    beyond[1] = positions
    assert filter.hold(state(beyond), "test").command.positions[1] == held


def test_a_held_pose_that_the_arm_was_driven_away_from_is_not_returned_to() -> None:
    filter = entered()
    filter.hold(state(), "emergency stop")
    sunk = state(HOME - np.eye(6)[2] * 0.5)
    np.testing.assert_array_equal(filter.hold(sunk, "test").command.positions, sunk.positions)


def test_a_pose_is_measured_afresh_when_somebody_else_had_the_arm() -> None:
    filter = entered()
    filter.hold(state(), "test")
    filter.let_go()
    decision = filter.hold(state(HOME + 0.2, gripper=0.06), "test")
    np.testing.assert_array_equal(decision.command.positions, HOME + 0.2)
    assert decision.command.gripper == 0.06


def test_holding_does_not_let_go_of_what_the_gripper_holds() -> None:
    filter = entered()
    grasp = np.array([0, 0, 0, 0, 0, 0, -1.0])
    for tick in range(1, 5):
        filter.act(grasp, tick * SECOND, state(now=tick * SECOND, gripper=0.04), tick * SECOND)
    decision = filter.hold(state(gripper=0.04), "test")
    assert decision.command.gripper == 0.0


def test_an_arm_that_does_not_follow_is_a_fault() -> None:
    filter = entered()
    decision = filter.act(np.zeros(7), SECOND, state(HOME + np.eye(6)[2] * 0.5, SECOND), SECOND)
    assert decision.fault and "joint3" in decision.reason and "blocks" in decision.reason
    assert decision.blocked  # what was asked for brought it there
    again = filter.act(np.zeros(7), SECOND, state(HOME, SECOND), SECOND)
    assert again.blocked, "it was driven away from where it was held, too"
    third = filter.act(np.zeros(7), SECOND, state(HOME, SECOND), SECOND)
    assert not third.fault and not third.blocked


@pytest.mark.parametrize("faults", [(FAULT,), ()])
def test_an_arm_that_is_driven_away_by_a_fault_or_a_stop_is_not_blocked(
        faults: tuple[ArmFault, ...]) -> None:
    filter = entered()
    if not faults:
        filter.stop("the key")
    away = state(HOME + np.eye(6)[2] * 0.5, SECOND, faults=faults)
    decision = filter.act(np.zeros(7), SECOND, away, SECOND)
    assert decision.fault and not decision.blocked


def test_a_stop_stays_latched_until_it_is_released() -> None:
    filter = entered()
    filter.stop("red button")
    for tick in range(1, 4):
        now = tick * SECOND
        decision = filter.act(np.ones(7), now, state(now=now), now)
        assert decision.verdict is Verdict.STOPPED and decision.reason == "red button"
    filter.release()
    filter.enter(state(now=5 * SECOND))
    decision = filter.act(np.ones(7), 6 * SECOND, state(now=6 * SECOND), 6 * SECOND)
    assert decision.verdict in (Verdict.NOMINAL, Verdict.LIMITED)


def test_activation_starts_at_the_measured_pose_with_small_steps() -> None:
    elsewhere = HOME + np.array([0.4, 0.2, -0.3, 0.1, -0.2, 0.3])
    filter = entered(positions=elsewhere)
    assert filter.pose is not None
    np.testing.assert_allclose(filter.pose.positions, elsewhere)
    steps, now = [], 0
    action = np.array([1.0, 0, 0, 0, 0, 0, 0])
    for _ in range(20):
        now += round(PERIOD * 1e9)
        before = filter.pose
        decision = filter.act(action, now, state(before.positions, now), now)
        steps.append(decision.command.positions[0] - before.positions[0])
    assert steps[0] < 0.01 and steps[-1] == pytest.approx(0.06)
    assert (np.diff(steps) >= -1e-9).all(), "steps grow, they never jump back"


def test_an_arm_far_outside_its_limits_is_not_activated() -> None:
    outside = HOME.copy()
    outside[1] = -0.5
    with pytest.raises(ArmError, match=r"joint2 is at -0.500 rad, outside its limits"):
        entered(positions=outside)


def test_an_arm_slightly_outside_its_limits_is_led_in_step_by_step_when_it_is_to_move() -> None:
    step = 0.01
    filter = SafetyFilter(
        replace(TIGHT, joint_step=dict.fromkeys(JOINT_NAMES, step), soft_start=0.0,
                workspace=WorkspaceConfig()), ActionConfig(), JOINT_NAMES, PERIOD)
    resting = HOME.copy()
    resting[1] = 0.06
    assert filter.enter(state(resting, 0)).positions[1] == 0.06
    now, path = round(PERIOD * 1e9), [0.06]
    assert filter.rest(state(resting, now), now).command.positions[1] == 0.06
    for _ in range(8):
        now += round(PERIOD * 1e9)
        assert filter.pose is not None
        decision = filter.act(np.zeros(7), now, state(filter.pose.positions, now), now)
        path.append(decision.command.positions[1])
    assert np.diff(path).max() <= step + 1e-9
    assert path[-1] == pytest.approx(0.11)


def test_an_arm_that_rests_beyond_its_own_limits_is_asked_for_the_limit() -> None:
    resting = HOME.copy()
    resting[1] = -0.02
    filter = entered(positions=resting)
    assert filter.pose is not None and filter.pose.positions[1] == 0.0


def test_foreign_joint_names_hold() -> None:
    filter = entered()
    foreign = replace(state(now=SECOND), joint_names=("a", "b", "c", "d", "e", "f"))
    decision = filter.act(np.zeros(7), SECOND, foreign, SECOND)
    assert decision.fault and "joints" in decision.reason
