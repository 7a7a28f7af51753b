"""On the robot an observation is the newest features by the time of a tick, and its joints."""

from __future__ import annotations

import numpy as np
import pytest

from poco_ros.core.config import from_dict
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.core.observing import HoleError, ObservationJoiner
from poco_ros.core.task import ROBOT_JOINTS, TaskConfig
from poco_ros.robot.kinematics import JOINT_NAMES

MS = 1_000_000
TASK = TaskConfig(domain="robot", title="pick-cube", features={"front": 3, "wrist": 2},
                  max_episode_steps=100)


def parts(value: float) -> dict[str, np.ndarray]:
    return {"wrist": np.full(2, -value), "front": np.full(3, value)}


def joiner() -> ObservationJoiner:
    return ObservationJoiner(TASK.observation, 0.1)


def test_features_of_a_later_time_than_the_tick_are_not_taken() -> None:
    made = joiner()
    for at in (0, 40, 80):
        made.add_features(at * MS, parts(at))
    seen = made.observe(79 * MS, np.arange(7.0))
    np.testing.assert_array_equal(seen, [40, 40, 40, -40, -40, 0, 1, 2, 3, 4, 5, 6])
    assert made.age == pytest.approx(0.039)
    np.testing.assert_array_equal(made.observe(80 * MS, np.zeros(7))[:3], 80)


def test_missing_and_old_features_are_a_hole_that_says_how_old() -> None:
    made = joiner()
    with pytest.raises(HoleError, match="no features"):
        made.observe(0, np.zeros(7))
    made.add_features(0, parts(1))
    made.observe(100 * MS, np.zeros(7))
    with pytest.raises(HoleError, match=r"0\.101 s old, allowed are 0\.1 s"):
        made.observe(101 * MS, np.zeros(7))


def test_after_the_clock_went_back_only_new_features_count() -> None:
    made = joiner()
    made.add_features(1000 * MS, parts(1))
    made.add_features(10 * MS, parts(2))
    assert made.observe(20 * MS, np.zeros(7))[0] == 2
    with pytest.raises(HoleError):
        made.observe(1010 * MS, np.zeros(7))


def test_a_part_of_another_size_or_not_finite_is_named() -> None:
    made = joiner()
    made.add_features(0, {**parts(1), "front": np.zeros(4)})
    with pytest.raises(DataError, match="'front' has 4 values, expected 3"):
        made.observe(0, np.zeros(7))
    made.add_features(1, parts(1))
    with pytest.raises(DataError, match=r"joint_states.*value 2"):
        made.observe(1, np.array([0, 0, np.nan, 0, 0, 0, 0]))


def test_the_joints_of_an_observation_are_those_of_the_arm() -> None:
    assert (*JOINT_NAMES, "gripper") == ROBOT_JOINTS
    assert TASK.observation.parts == (("front", 3), ("wrist", 2), ("joint_states", 7))
    assert TASK.name == "pick-cube" and TASK.action_dim == 7 and TASK.step_limit == 100


@pytest.mark.parametrize(("values", "words"), [
    ({"domain": "robot"}, "needs title"),
    ({"domain": "scene", "title": "x"}, "title and features are for domain robot"),
    ({"domain": "robot", "title": "x", "features": {"front": 0}, "max_episode_steps": 9}, "front"),
    ({"domain": "robot", "title": "x", "features": {"joint_states": 7}, "max_episode_steps": 9},
     "joints' own name"),
    ({"domain": "robot", "title": "x", "features": {"a": 1}, "max_episode_steps": 9,
      "reward": "staged"}, "reward sparse"),
])
def test_a_task_on_the_robot_that_makes_no_sense_is_refused(values: dict[str, object],
                                                            words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_dict(TaskConfig, values, "test")
