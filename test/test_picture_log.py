"""Recorded pictures: whole or absent, each with the joints nearest in time, whatever happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from disk_support import files_up_to
from robot_support import wait_until

from poco_ros.core.errors import DataError
from poco_ros.robot.camera import Frame
from poco_ros.robot.picture_log import (
    BETWEEN,
    PictureLog,
    PictureRecorder,
    read_cameras,
    read_states,
)
from poco_ros.robot.picture_set import load_pictures

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND
PICTURE = np.full((48, 64, 3), (200, 40, 20), np.uint8)
JOINTS = {"joint1": 0.25, "gripper": 0.07}


@pytest.fixture
def log(tmp_path: Path) -> PictureLog:
    return PictureLog(tmp_path / "pictures", ["front", "wrist"])


@pytest.fixture
def recorder(log: PictureLog) -> Iterator[PictureRecorder]:
    recorder = PictureRecorder(log)
    yield recorder
    recorder.stop()


def frame(stamp: int) -> Frame:
    return Frame(PICTURE, 1, time.monotonic_ns(), stamp)


def test_what_is_written_is_read_camera_by_camera_and_episode_by_episode(log: PictureLog) -> None:
    for camera in ("front", "wrist"):
        for index, episode in enumerate(("a", "b")):
            log.add(camera, episode, NOW + index, PICTURE, JOINTS)
    data = load_pictures(log.folder, 32)
    assert data.camera_names == ("front", "wrist") and data.state_names == ("joint1", "gripper")
    assert data.cameras.tolist() == [0, 0, 1, 1] and data.groups.tolist() == [0, 1, 0, 1]
    assert data.states is not None and np.allclose(data.states, [0.25, 0.07])
    assert np.abs(data.pictures.reshape(-1, 3).astype(int) - (200, 40, 20)).max() < 8


def test_a_full_disk_leaves_no_part_of_a_picture_behind(log: PictureLog) -> None:
    log.add("front", "a", NOW, PICTURE, JOINTS)
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    with files_up_to(4096), pytest.raises(OSError, match=rf"front/a/{NOW + 1}\.jpg"):
        log.add("front", "a", NOW + 1, noise, JOINTS)
    assert {path.name for path in (log.folder / "front/a").iterdir()} == {f"{NOW}.jpg",
                                                                         "states.csv"}
    log.add("front", "a", NOW + 2, noise, JOINTS)
    assert len(load_pictures(log.folder, 32).pictures) == 2


def test_pictures_between_episodes_belong_together_when_they_are_near_in_time(log: PictureLog
                                                                              ) -> None:
    for seconds in (0, 1, 100, 101, 200):
        log.add("front", BETWEEN, NOW + seconds * SECOND, PICTURE, None)
    assert load_pictures(log.folder, 32).groups.tolist() == [0, 0, 1, 1, 2]


def test_a_torn_last_line_is_left_out_and_taken_away_when_work_goes_on(log: PictureLog) -> None:
    table = log.folder / "front/a/states.csv"
    for index in range(3):
        log.add("front", "a", NOW + index, PICTURE, JOINTS)
    table.write_bytes(table.read_bytes()[:-4])
    assert list(read_states(table)) == [NOW, NOW + 1]
    again = PictureLog(log.folder, ["wrist", "side"])
    assert read_cameras(log.folder) == ["front", "wrist", "side"], "old numbers stay"
    again.add("front", "a", NOW + 3, PICTURE, dict(reversed(JOINTS.items())))
    assert read_states(table)[NOW + 3] == JOINTS and len(read_states(table)) == 3


def test_a_row_that_the_disk_has_no_room_for_leaves_nothing_of_itself(log: PictureLog) -> None:
    table = log.folder / "front/a/states.csv"
    for index in range(60):
        log.add("front", "a", NOW + index, PICTURE, JOINTS)
    whole = table.read_bytes()
    with files_up_to(len(whole) + 10):  # more than a picture, and ends in the middle of a row
        for index in (60, 61):
            with pytest.raises(OSError, match=r"front/a/states\.csv"):
                log.add("front", "a", NOW + index, PICTURE, JOINTS)
        assert table.read_bytes() == whole
    log.add("front", "a", NOW + 62, PICTURE, JOINTS)
    assert list(read_states(table)) == [NOW + index for index in (*range(60), 62)]
    assert len(load_pictures(log.folder, 32, states=True)) == 61


@pytest.mark.parametrize("wanted, pictures, states", [(True, 2, 2), (False, 5, 0), (None, 5, 0)])
def test_pictures_without_states_are_left_out_where_states_are_wanted(
        log: PictureLog, wanted: bool | None, pictures: int, states: int) -> None:
    for index in range(5):
        log.add("front", "a", NOW + index, PICTURE, JOINTS if index < 2 else None)
    data = load_pictures(log.folder, 32, wanted)
    assert len(data) == pictures and (0 if data.states is None else len(data.states)) == states


def test_other_joints_and_names_that_are_no_folder_are_refused(log: PictureLog) -> None:
    log.add("front", "a", NOW, PICTURE, JOINTS)
    with pytest.raises(DataError, match="has the joints joint1, gripper, now they are joint1"):
        log.add("front", "a", NOW + 1, PICTURE, {"joint1": 0.0})
    for name in ("", "..", "a/b", ".hidden"):
        with pytest.raises(DataError, match="cannot be the name of a folder"):
            log.add("front", name, NOW, PICTURE, None)


def test_a_damaged_table_or_description_is_named(log: PictureLog) -> None:
    log.add("front", "a", NOW, PICTURE, JOINTS)
    table = log.folder / "front/a/states.csv"
    table.write_text(table.read_text() + "17,x,y\n")
    with pytest.raises(DataError, match=r"states\.csv:3: '17,x,y' is no stamp and 2 values"):
        load_pictures(log.folder, 32)
    (log.folder / "cameras.json").write_text("{}")
    with pytest.raises(DataError, match=r"cameras\.json: does not name the cameras"):
        load_pictures(log.folder, 32)


def test_a_picture_gets_the_joints_nearest_in_time_before_or_after(
        log: PictureLog, recorder: PictureRecorder) -> None:
    recorder.add_joints(NOW, {"joint1": 0.0})
    recorder.add_picture("front", "a", frame(NOW + 60_000_000))
    recorder.add_joints(NOW + 66_000_000, {"joint1": 1.0})
    recorder.add_picture("front", "a", frame(NOW + 70_000_000))
    recorder.add_joints(NOW + 132_000_000, {"joint1": 2.0})
    recorder.add_picture("front", "a", frame(NOW + SECOND))  # nothing near it
    wait_until(lambda: recorder.kept == 3)
    rows = read_states(log.folder / "front/a/states.csv")
    assert {stamp - NOW: row["joint1"] for stamp, row in rows.items()} == {
        60_000_000: 1.0, 70_000_000: 1.0}


def test_what_was_taken_is_kept_at_the_end(log: PictureLog) -> None:
    recorder = PictureRecorder(log)
    for index in range(10):
        recorder.add_picture("wrist", "a", frame(NOW + index))
    recorder.stop()
    assert recorder.kept == 10 and len(load_pictures(log.folder, 32)) == 10


def test_a_folder_that_cannot_be_written_is_told_and_nothing_hangs(
        log: PictureLog, recorder: PictureRecorder) -> None:
    (log.folder / "front").write_text("a file where a folder belongs")
    recorder.add_picture("front", "a", frame(NOW))
    wait_until(lambda: "pictures are not kept" in recorder.trouble and recorder.lost == 1)
    recorder.add_picture("wrist", "a", frame(NOW))
    wait_until(lambda: recorder.kept == 1 and not recorder.trouble)
