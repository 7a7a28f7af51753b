"""The cell's cameras as programs see them: MJPEG over HTTP, and what can go wrong with it."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from cell_support import ask, quick_config, refusal, running, wait_until

from poco_ros.cell.cell import Cell


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    with running(quick_config(tmp_path_factory.mktemp("cell"))) as cell:
        yield cell


@pytest.fixture
def front(cell: Cell) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(cell.description()["cameras"]["front"])
    assert capture.isOpened()
    yield capture
    capture.release()
    ask(cell, "/fault/clear")


def test_both_cameras_stream_15_pictures_a_second_and_more(cell: Cell) -> None:
    captures = [cv2.VideoCapture(url) for url in cell.description()["cameras"].values()]
    for capture in captures:
        picture = capture.read()[1]
        assert picture.shape == (64, 64, 3)
    began = time.monotonic()
    for _ in range(30):
        assert all(capture.read()[0] for capture in captures)
    assert 30 / (time.monotonic() - began) >= 15.0
    for capture in captures:
        capture.release()


def test_colours_arrive_in_the_right_order(cell: Cell) -> None:
    """The cube is red: OpenCV gives blue, green, red."""
    picture = cv2.imdecode(np.frombuffer(read(cell, "/camera/front.jpg"), np.uint8), 1)
    red = (picture[..., 2] > 110) & (picture[..., 0] < 70) & (picture[..., 1] < 70)
    assert red.sum() > 8


def test_pictures_follow_the_scene(cell: Cell, front: cv2.VideoCapture) -> None:
    places = []
    for seed in (1, 2):
        ask(cell, f"/scene/scatter?seed={seed}")
        for _ in range(6):
            picture = front.read()[1]
        places.append(picture.astype(int))
    assert np.abs(places[0] - places[1]).max() > 60


def test_nothing_is_rendered_while_nobody_watches(cell: Cell) -> None:
    def rendered() -> int:
        return sum(stream.pictures for stream in cell.streams.values())

    def rests() -> bool:
        before, since = rendered(), cell.scene.time
        wait_until(lambda: cell.scene.time > since + 0.4, "time passes")
        return rendered() == before

    wait_until(rests, "the cameras rest")


def test_a_frozen_camera_repeats_its_picture(cell: Cell, front: cv2.VideoCapture) -> None:
    first, second = front.read()[1], front.read()[1]
    assert not np.array_equal(first, second)  # a sensor never gives the same picture twice
    ask(cell, "/fault/frozen_camera?seconds=0")
    for _ in range(4):
        before, after = front.read()[1], front.read()[1]
    np.testing.assert_array_equal(before, after)
    ask(cell, "/fault/clear")
    for _ in range(4):
        before, after = front.read()[1], front.read()[1]
    assert not np.array_equal(before, after)


def test_dropped_pictures_leave_gaps(cell: Cell, front: cv2.VideoCapture) -> None:
    front.read()
    ask(cell, "/fault/dropped_frames?share=0.8&seconds=0")
    front.read()
    began = time.monotonic()
    for _ in range(6):
        front.read()
    assert time.monotonic() - began > 0.5  # 6 pictures would take 0.3 s


def test_a_silent_camera_sends_nothing_and_recovers(cell: Cell, front: cv2.VideoCapture) -> None:
    for _ in range(3):
        front.read()
    ask(cell, "/fault/silent_camera?seconds=0.6")
    began = time.monotonic()
    for _ in range(3):  # one or two may be under way
        assert front.read()[0]
    assert time.monotonic() - began > 0.3


def test_wrong_requests_are_told_what_there_is(cell: Cell) -> None:
    assert refusal(cell, "/camera/back.mjpg") == (404, "no /camera/back.mjpg; there are "
                                                  "/camera/front.mjpg, /camera/wrist.mjpg")
    for path, words in (("/nonsense", "/fault"), ("/fault/nonsense", "silent_bus"),
                        ("/fault/silent_bus?minutes=1", "seconds"),
                        ("/fault/silent_bus?seconds=soon", "not a number"),
                        ("/fault/silent_joint?joint=7", "1 to 6"), ("/key/enter", "ready"),
                        ("/leader/start?count=-1", "whole number"),
                        ("/scene/scatter?seed=x", "whole number")):
        status, message = refusal(cell, path)
        assert status in (400, 404) and words in message


def test_the_page_shows_cameras_keys_and_faults(cell: Cell) -> None:
    page = read(cell, "/").decode()
    for piece in ("/camera/front.mjpg", "/camera/wrist.mjpg", "/key/ready", "/fault/silent_bus"):
        assert piece in page


def read(cell: Cell, path: str) -> bytes:
    with urllib.request.urlopen(cell.web.address + path, timeout=10) as response:
        return response.read()


def test_streams_end_when_the_cell_ends(tmp_path: Path) -> None:
    with running(quick_config(tmp_path)) as cell:
        response = urllib.request.urlopen(cell.description()["cameras"]["wrist"], timeout=10)
        assert response.read(64)
    assert len(response.read()) < 1_000_000  # ends instead of waiting for more
    response.close()
