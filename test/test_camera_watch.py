"""Frozen, dropped and silent frames are told apart from jitter."""

from __future__ import annotations

import numpy as np
import pytest

from poco_ros.core.config import load
from poco_ros.core.errors import ConfigError
from poco_ros.robot.camera import crop
from poco_ros.robot.camera_source import device_stamp
from poco_ros.robot.camera_watch import FrameWatch
from poco_ros.robot.vision_config import CameraConfig, VisionConfig

MILLISECOND = 1_000_000
RANDOM = np.random.default_rng(0)


def picture() -> np.ndarray:
    return RANDOM.integers(0, 255, (8, 8, 3), np.uint8)


def watch(rate: float = 30.0) -> FrameWatch:
    return FrameWatch(rate, frozen_after=1.0, drop_share=0.25)


@pytest.mark.parametrize("rate", [30.0, 0.0], ids=["rate given", "rate learned"])
def test_a_steady_stream_has_no_fault(rate: float) -> None:
    frames = watch(rate)
    for number in range(100):
        frames.add(picture(), round(number * 1e9 / 30))
    assert frames.faults(round(100e9 / 30)) == [] and frames.dropped == 0
    assert frames.rate == pytest.approx(30.0)


def test_jitter_that_catches_up_is_not_a_dropped_frame() -> None:
    frames = watch()
    jitter = RANDOM.uniform(0.0, 0.9, 200)
    for number in range(200):
        frames.add(picture(), round((number + jitter[number]) * 1e9 / 30))
    assert frames.dropped <= 4


def test_every_missing_frame_is_counted() -> None:
    frames = watch()
    arrived = [number for number in range(300) if number % 10 != 5]
    for number in arrived:
        frames.add(picture(), round(number * 1e9 / 30))
    assert frames.dropped == pytest.approx(30, abs=2)
    assert frames.faults(round(10e9)) == [], "a tenth is counted, but no fault"


def test_many_missing_frames_are_a_fault() -> None:
    frames = watch()
    for number in range(0, 120, 2):
        frames.add(picture(), round(number * 1e9 / 30))
    assert [fault.code for fault in frames.faults(round(4e9))] == ["dropping"]


def test_identical_pictures_are_a_frozen_camera_and_it_thaws() -> None:
    frames = watch()
    still = picture()
    for number in range(60):
        assert frames.add(still.copy(), round(number * 1e9 / 30)) == (number == 0)
    assert [fault.code for fault in frames.faults(round(2e9))] == ["frozen"]
    assert frames.add(picture(), round(2.01e9))
    assert frames.faults(round(2.01e9)) == []


def test_where_pictures_may_be_identical_each_is_a_new_one() -> None:
    frames = FrameWatch(30.0, frozen_after=0.0, drop_share=0.25)
    still = picture()
    assert all(frames.add(still.copy(), round(number * 1e9 / 30)) for number in range(60))
    assert frames.faults(round(2e9)) == []


def test_drivers_that_report_nonsense_as_capture_time_are_not_believed() -> None:
    now = 5_000 * MILLISECOND
    assert device_stamp(4_990.0, now) == 4_990 * MILLISECOND
    for nonsense in (0.0, 6_000.0, -1.0):
        assert device_stamp(nonsense, now) == now


def test_crop_takes_shares_of_the_picture() -> None:
    whole = np.arange(10 * 20 * 3, dtype=np.uint8).reshape(10, 20, 3)
    part = crop(whole, (0.25, 0.5, 0.75, 1.0))
    np.testing.assert_array_equal(part, whole[5:10, 5:15])


def test_cameras_are_told_apart_by_name() -> None:
    with pytest.raises(ConfigError, match="unique"):
        VisionConfig((CameraConfig("a"), CameraConfig("a")))
    with pytest.raises(ConfigError, match="'front/left': a name begins with a letter"):
        VisionConfig((CameraConfig("front/left"),))  # it could be no topic and no folder


def test_the_shipped_settings_load() -> None:
    from robot_support import CONFIG
    cameras = load(VisionConfig, CONFIG / "cameras.yaml").cameras
    assert [camera.name for camera in cameras] == ["front", "wrist"]
