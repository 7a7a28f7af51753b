"""Laws that every limit keeps, and what each of them bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poco_ros.robot.config import WorkspaceConfig
from poco_ros.robot.kinematics import JOINT_LOWER, JOINT_UPPER, watch_points
from poco_ros.robot.limits import Limit, PositionLimit, StepLimit, VelocityLimit
from poco_ros.robot.workspace_limit import WorkspaceLimit

PERIOD = 1 / 15
LOWER, UPPER = np.append(JOINT_LOWER, 0.0), np.append(JOINT_UPPER, 0.07)
WORKSPACE = WorkspaceConfig(table_height=0.0, clearance=0.005, box_lower=(0.05, -0.4, 0.0),
                            box_upper=(0.6, 0.4, 0.7))
LIMITS: list[Limit] = [
    PositionLimit(LOWER, UPPER), StepLimit(np.full(7, 0.07)),
    VelocityLimit(np.full(6, 0.8), PERIOD), WorkspaceLimit(WORKSPACE)]

allowed = st.tuples(*(st.floats(low, high) for low, high in zip(LOWER, UPPER, strict=True))
                    ).map(np.array)
wild = st.lists(st.floats(-50.0, 50.0), min_size=7, max_size=7).map(np.array)
near = st.lists(st.floats(-0.2, 0.2), min_size=7, max_size=7).map(np.array)
elapsed = st.floats(0.0, 1.0)
scale = st.floats(0.05, 1.0)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
@settings(max_examples=60)
@given(data=st.data(), previous=allowed, elapsed=elapsed, scale=scale)
def test_a_limit_leads_back_towards_the_pose_before(
        limit: Limit, data: st.DataObject, previous: np.ndarray, elapsed: float, scale: float
) -> None:
    requested = data.draw(st.one_of(wild, near.map(lambda change: previous + change)))
    result = limit.apply(requested, previous, elapsed, scale)
    low, high = np.minimum(requested, previous), np.maximum(requested, previous)
    assert (result >= low - 1e-9).all() and (result <= high + 1e-9).all()
    # What has been allowed once is allowed, so limits can be applied one after the other.
    again = limit.apply(result, previous, elapsed, scale)
    np.testing.assert_allclose(again, result, atol=5e-4 if "workspace" in limit.name else 1e-9)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
@given(previous=allowed, elapsed=elapsed)
@settings(max_examples=30)
def test_staying_is_always_allowed(limit: Limit, previous: np.ndarray, elapsed: float) -> None:
    np.testing.assert_array_equal(limit.apply(previous, previous, elapsed), previous)


@given(previous=allowed, requested=wild, elapsed=elapsed, scale=scale)
@settings(max_examples=60)
def test_velocity_keeps_its_bound_and_the_direction(
        previous: np.ndarray, requested: np.ndarray, elapsed: float, scale: float) -> None:
    change = LIMITS[2].apply(requested, previous, elapsed, scale)[:-1] - previous[:-1]
    assert np.abs(change).max() <= 0.8 * min(2 * elapsed, PERIOD) * scale + 1e-9
    asked = requested[:-1] - previous[:-1]
    np.testing.assert_allclose(change * np.abs(asked).max(), asked * np.abs(change).max(),
                               atol=1e-9)


@given(previous=allowed, requested=st.one_of(allowed, near))
@settings(max_examples=80)
def test_workspace_is_never_left_further_than_before(
        previous: np.ndarray, requested: np.ndarray) -> None:
    limit = WorkspaceLimit(WORKSPACE)
    result = limit.apply(requested, previous, PERIOD)
    assert (limit.depth(result[:-1]) <= limit.depth(previous[:-1]) + 2e-9).all()


def test_table_at_height_zero_is_a_table() -> None:
    home = np.array([0.0, 1.2, -1.0, 0.0, 0.9, 0.0, 0.03])
    down = home + np.array([0.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0])
    guarded = WorkspaceLimit(WorkspaceConfig(table_height=0.0, clearance=0.0))
    assert watch_points(down[:-1], 0.135)[:, 2].min() < -0.05, "the request does go below"
    reached = guarded.apply(down, home, PERIOD)
    assert watch_points(reached[:-1], 0.135)[:, 2].min() == pytest.approx(0.0, abs=2e-4)
    free = WorkspaceLimit(WorkspaceConfig(table_height=None))
    np.testing.assert_array_equal(free.apply(down, home, PERIOD), down)


def test_the_arm_slides_along_the_table_instead_of_sticking() -> None:
    limit = WorkspaceLimit(WorkspaceConfig(table_height=0.0))
    pose = np.array([0.0, 1.2, -1.0, 0.0, 0.9, 0.0, 0.03])
    push = np.array([0.05, 0.06, 0.0, 0.0, 0.0, 0.0, 0.0])  # turn, and press down
    for _ in range(30):
        pose = limit.apply(pose + push, pose, PERIOD)
        assert limit.depth(pose[:-1]).max() < 1e-6
    assert pose[0] == pytest.approx(1.5), "turning went on while the table stopped the press"


def test_an_arm_outside_its_box_may_come_in() -> None:
    limit = WorkspaceLimit(WorkspaceConfig(box_lower=(0.25, -0.5, 0.0)))
    folded = np.array([0.0, 0.2, -0.2, 0.0, 0.2, 0.0, 0.0])
    reaching = folded + np.array([0.0, 0.06, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert limit.depth(folded[:-1]).max() > 0
    np.testing.assert_array_equal(limit.apply(reaching, folded, PERIOD), reaching)
