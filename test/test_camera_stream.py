"""Cameras on real streams: a network camera over HTTP, and a video file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from mjpeg_server import MjpegServer, draw, number_of
from robot_support import wait_until

from poco_ros.robot.camera import Camera
from poco_ros.robot.vision_config import CameraConfig


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    served = MjpegServer()
    yield served
    served.close()


@pytest.fixture
def camera(server: MjpegServer) -> Iterator[Camera]:
    camera = Camera(CameraConfig("front", server.url, rate=50.0, silent_after=0.4,
                                 frozen_after=0.3, read_timeout=1.0, reconnect_period=0.1))
    camera.start()
    assert camera.wait_newer(0, 10.0) is not None
    yield camera
    camera.stop()


def codes(camera: Camera) -> set[str]:
    return {fault.code for fault in camera.faults()}


def test_the_newest_frame_is_given_in_rgb_with_true_stamps(camera: Camera, server: MjpegServer
                                                           ) -> None:
    number, delays = 0, []
    for _ in range(40):
        frame = camera.wait_newer(number, 5.0)
        assert frame is not None and frame.number > number
        number = frame.number
        delays.append((frame, frame.monotonic_ns))
        assert abs(frame.wall_ns - time.time_ns()) < 2e9
    sent = server.ask()
    late = [(stamp - sent[number_of(frame.picture)]) * 1e-9 for frame, stamp in delays]
    assert min(late) > -0.001, "no stamp lies before the picture"
    assert np.median(late) < 0.02, "no frame waits in a buffer"
    red, _, blue = delays[0][0].picture[48, 32]
    assert red > 180 and blue < 60


def test_a_slow_reader_gets_the_newest_frame_not_the_oldest(camera: Camera, server: MjpegServer
                                                            ) -> None:
    first = camera.newest()
    assert first is not None
    wait_until(lambda: max(server.ask()) > number_of(first.picture) + 15)
    newest = camera.newest()
    assert newest is not None
    assert max(server.ask()) - number_of(newest.picture) <= 4


def test_a_frozen_camera_is_noticed(camera: Camera, server: MjpegServer) -> None:
    server.ask(frozen=True)
    wait_until(lambda: codes(camera) == {"frozen"})
    repeated = camera.newest()
    time.sleep(0.5)  # longer than a silent camera is borne
    assert camera.newest() is repeated and codes(camera) == {"frozen"}
    server.ask(frozen=False)
    wait_until(lambda: "frozen" not in codes(camera))


def test_dropped_frames_are_noticed(camera: Camera, server: MjpegServer) -> None:
    server.ask(keep_every=3)
    wait_until(lambda: codes(camera) == {"dropping"} and camera.dropped > 10)


def test_a_silent_camera_is_noticed_and_opened_again(camera: Camera, server: MjpegServer) -> None:
    server.ask(silent=True)
    wait_until(lambda: "silent" in codes(camera))
    wait_until(lambda: camera.reconnections > 0)
    server.ask(silent=False)
    wait_until(lambda: not codes(camera))


def test_a_camera_that_hangs_up_comes_back(camera: Camera, server: MjpegServer) -> None:
    server.ask(hang_up=True)
    wait_until(lambda: "closed" in codes(camera))
    assert "http://127.0.0.1" in str(camera.faults()[0])
    number = camera.newest().number  # type: ignore[union-attr]
    server.ask(hang_up=False)
    assert camera.wait_newer(number, 5.0) is not None
    wait_until(lambda: not codes(camera))


def test_a_camera_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    camera = Camera(CameraConfig("front", str(tmp_path / "later.avi"), reconnect_period=0.05,
                                 silent_after=5.0, frozen_after=0.0))
    camera.start()
    wait_until(lambda: "no such file" in str(camera.faults()))
    write_video(tmp_path / "later.avi", 5)
    assert camera.wait_newer(0, 5.0) is not None
    camera.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "camera_front"]


def write_video(path: Path, frames: int) -> None:
    unfinished = path.with_name(f"unfinished-{path.name}")
    writer = cv2.VideoWriter(str(unfinished), cv2.VideoWriter.fourcc(*"MJPG"), 50.0, (64, 64))
    for number in range(1, frames + 1):
        writer.write(draw(number, number))
    writer.release()
    unfinished.rename(path)


def test_a_video_file_is_played_at_its_rate_and_again(tmp_path: Path) -> None:
    write_video(tmp_path / "video.avi", 10)
    camera = Camera(CameraConfig("front", str(tmp_path / "video.avi")))
    camera.start()
    shown, number = [], 0
    for _ in range(25):
        frame = camera.wait_newer(number, 5.0)
        assert frame is not None
        number = frame.number
        shown.append((number_of(frame.picture), frame.monotonic_ns * 1e-9))
    camera.stop()
    assert len({picture for picture, _ in shown}) == 10
    assert shown[-1][1] - shown[0][1] > 0.35, "paced, not as fast as it can be read"
