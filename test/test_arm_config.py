"""Settings of the arm's side: what is shipped loads, what is dangerous is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from robot_support import CONFIG, robot_config

from poco_ros.core.config import load, to_dict
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.robot.config import RobotConfig
from poco_ros.robot.joints import reorder
from poco_ros.robot.kinematics import JOINT_LOWER, JOINT_NAMES, JOINT_UPPER
from poco_ros.robot.safety_filter import SafetyFilter


def test_the_shipped_settings_are_the_defaults() -> None:
    shipped, default = load(RobotConfig, CONFIG / "piper.yaml"), RobotConfig()
    limits = shipped.safety.joint_limits
    for name, low, high in zip(JOINT_NAMES, JOINT_LOWER, JOINT_UPPER, strict=True):
        assert low <= limits[name][0] <= low + 1e-3 and high - 1e-3 <= limits[name][1] <= high
    same = to_dict(shipped)
    same["safety"]["joint_limits"] = to_dict(default)["safety"]["joint_limits"]
    assert same == to_dict(default)


def _limits(**changes: tuple[float, float]) -> dict[str, Any]:
    return {"safety": {"joint_limits": {**RobotConfig().safety.joint_limits, **changes}}}


@pytest.mark.parametrize("changes, words", [
    (_limits(joint2=(-0.5, 1.0)), "joint2.*is wider than the arm's own"),
    (_limits(joint2=(1.0, 1.01)), "leaves no room"),
    ({"safety": {"joint_step": {"joint1": -0.1}}}, "joint_step: joint1 is -0.1"),
    ({"safety": {"joint_velocity": {"joint1": 25.0}}}, "joint1 is 25.0, .* less than 20 rad/s"),
    ({"safety": {"gripper_range": [0.05, 0.02]}}, "low < high"),
    ({"safety": {"gripper_range": [0.0, 0.2]}}, "0.07"),
    ({"safety": {"workspace": {"box_lower": [0, 0, 1], "box_upper": [1, 1, 0.5]}}}, "not below"),
    ({"safety": {"chunk_agee": 1.0}}, "did you mean 'chunk_age'"),
    ({"actions": {"joint_delta": {"joint1": 3.0}}}, "0 to 1 rad"),
    ({"actions": {"gripper_open": 0.0}}, "must exceed"),
    ({"control": {"act_offset": 0.066}}, "leaves no room in a tick"),
    ({"arm": {"stop_mode": "drop"}}, "'drop' is not one of")])
def test_dangerous_settings_are_refused(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        robot_config("x", tmp_path, changes)


@pytest.mark.parametrize("key", ["joint_step", "joint_velocity", "joint_limits"])
def test_a_missing_joint_is_named_and_never_becomes_zero(key: str) -> None:
    values = dict(getattr(RobotConfig().safety, key))
    del values["joint4"]
    safety = type(RobotConfig().safety)(**{key: values})
    with pytest.raises(ConfigError, match=f"{key}: missing joints .'joint4'"):
        SafetyFilter(safety, RobotConfig().actions, JOINT_NAMES, 1 / 15)


def test_joints_are_ordered_by_name_never_by_index() -> None:
    shuffled = ("joint3", "joint1", "joint2")
    np.testing.assert_array_equal(
        reorder(shuffled, [3.0, 1.0, 2.0], ("joint1", "joint2", "joint3")), [1.0, 2.0, 3.0])
    for names in (("joint1", "joint2"), ("joint1", "joint1", "joint2"), ("a", "b", "c")):
        with pytest.raises(DataError):
            reorder(names, [0.0] * 3, ("joint1", "joint2", "joint3"))
