"""What the tests of the robot floor share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from poco_ros.core.config import from_dict, merge, read_yaml
from poco_ros.robot.config import RobotConfig

CONFIG = Path(__file__).resolve().parents[1] / "config" / "robot"


def wait_until(condition: Callable[[], bool], timeout: float = 5.0, what: str = "") -> float:
    """Wait for ``condition``; return how long it took [s]."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.002)
    return time.monotonic() - began


def robot_config(channel: str, lock_folder: Path, changes: Mapping[str, Any] | None = None
                 ) -> RobotConfig:
    """Return the shipped settings, on an emulated arm's serial adapter and without an operator."""
    shipped = read_yaml(CONFIG / "piper.yaml")
    emulated = {"arm": {"interface": "slcan", "channel": channel,
                        "bus_options": {"sleep_after_open": 0.01},
                        "reconnect_period": 0.1, "lock_folder": str(lock_folder)},
                "control": {"heartbeat_timeout": 0.0}}
    return from_dict(RobotConfig, merge(merge(shipped, emulated), changes or {}), "test")
