"""Recordings that Foxglove, Lichtblick and ros2 bag open: the graph's own topics at true times.

They are read back here by a decoder that knows nothing of ROS but the definitions in the file.
"""

from __future__ import annotations

import errno
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_support import files_up_to
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from poco_msgs.msg import ExecutedAction, Reward
from rclpy.serialization import deserialize_message
from recording_support import (
    BEGAN,
    PERIOD,
    PRESET,
    add_pictures,
    contents,
    recorded,
    recordings,
    store,
)

from poco_ros.cli.main import USER_ERROR, main
from poco_ros.core.episode import Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.joining import TickStatus
from poco_ros.core.observation import ObservationLayout
from poco_ros.data.pictures import RecordedPictures
from poco_ros.ros import convert
from poco_ros.ros.definitions import definition_of
from poco_ros.ros.mcap import PAUSE, STATUS_NOT_RECORDED, write_mcap

LAYOUT = ObservationLayout((("front", 3), ("wrist", 2), ("joint_states", 7)))


def decoded(path: Path) -> dict[str, list[tuple[int, Any]]]:
    """Return topic -> (log time, decoded message), in the order of time."""
    found: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    with open(path, "rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        before = 0
        for _, channel, message, content in reader.iter_decoded_messages():
            assert message.log_time >= before
            before = message.log_time
            found[channel.topic].append((message.log_time, content))
    return found


def stamp(message: Any) -> int:
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


def test_every_message_of_an_episode_is_there_at_its_own_time(tmp_path: Path) -> None:
    """An observation at t_k, its action at t_k, its reward at t_{k+1}; what is read is exact."""
    episode = recordings()[1]
    episode = replace(episode, stamps=episode.stamps + BEGAN)
    path = tmp_path / "one.mcap"
    assert write_mcap(path, [episode], LAYOUT) == 1
    found = decoded(path)
    assert {topic: len(rows) for topic, rows in found.items()} == {
        "/joint_states": 21, "/features": 21, "/executed_action": 20, "/reward": 20,
        "/episode": 2}
    times = episode.stamps.tolist()
    for topic, expected in {"/joint_states": times, "/features": times, "/episode": [
            times[0], times[-1]], "/executed_action": times[:-1], "/reward": times[1:]}.items():
        assert [time for time, _ in found[topic]] == expected
        assert [stamp(message) for _, message in found[topic]] == expected
    for index, (_, joints) in enumerate(found["/joint_states"]):
        assert joints.name == [*(f"joint{n}" for n in range(1, 7)), "gripper"]
        np.testing.assert_array_equal(joints.position, episode.observations[index, 5:])
    for index, (_, features) in enumerate(found["/features"]):
        assert features.names == ["front", "wrist"] and list(features.sizes) == [3, 2]
        np.testing.assert_array_equal(np.float32(features.data), episode.observations[index, :5])
    for step, (_, action) in enumerate(found["/executed_action"]):
        held = 5 <= step < 9
        assert (action.step, action.policy_version) == (step, 0 if held else 7)
        assert action.status == (TickStatus.HELD if held else STATUS_NOT_RECORDED), \
            "whether a limit reduced it was not recorded, and nothing is made up"
        np.testing.assert_array_equal(np.float32(action.executed), episode.actions[step])
        assert not len(action.requested), "it was not recorded, and nothing is made up"
    assert [m.value for _, m in found["/reward"]] == episode.rewards.tolist()
    assert [m.outcome for _, m in found["/reward"]] == [0] * 19 + [Outcome.FAILURE]
    assert found["/reward"][-1][1].truncated and not found["/reward"][-2][1].truncated
    (_, begin), (_, end) = found["/episode"]
    assert (begin.phase, begin.step, end.phase, end.step) == (2, 0, 3, 20)
    assert end.outcome == Outcome.FAILURE and end.detail == "failure by keypad"


def test_the_graph_itself_reads_the_messages(tmp_path: Path) -> None:
    """rclpy takes the bytes, and they are what the nodes say."""
    episode = recorded(0)
    write_mcap(tmp_path / "one.mcap", [episode], LAYOUT)
    with open(tmp_path / "one.mcap", "rb") as stream:
        reader = make_reader(stream)
        assert reader.get_header().profile == "ros2"
        actions = [deserialize_message(message.data, ExecutedAction)
                   for _, _, message in reader.iter_messages("/executed_action")]
        rewards = [convert.reward_of(deserialize_message(message.data, Reward))
                   for _, _, message in reader.iter_messages("/reward")]
    np.testing.assert_array_equal(np.stack([np.float32(a.executed) for a in actions]),
                                  episode.actions)
    assert {action.episode_id for action in actions} == {episode.id}
    assert [reward.value for reward in rewards] == episode.rewards.tolist()
    assert rewards[-1].outcome == Outcome.SUCCESS
    with pytest.raises(DataError, match="status 255 is unknown"):
        convert.executed_of(actions[0])


def test_definitions_come_with_all_that_they_hold() -> None:
    text = definition_of("sensor_msgs/msg/JointState")
    assert "float64[] position" in text
    assert text.count("MSG: std_msgs/Header") == text.count("MSG: builtin_interfaces/Time") == 1
    assert "uint8 HELD=2" in definition_of("poco_msgs/msg/ExecutedAction"), "constants have names"
    with pytest.raises(DataError, match="NoSuchType"):
        definition_of("std_msgs/msg/NoSuchType")


def test_schemas_and_what_is_known_of_each_episode_are_in_the_file(tmp_path: Path) -> None:
    episodes = recordings()
    write_mcap(tmp_path / "all.mcap", episodes, LAYOUT)
    with open(tmp_path / "all.mcap", "rb") as stream:
        reader = make_reader(stream)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        for channel in summary.channels.values():
            schema = summary.schemas[channel.schema_id]
            assert (channel.message_encoding, schema.encoding) == ("cdr", "ros2msg")
            assert schema.data.decode() == definition_of(schema.name)
        assert {schema.name for schema in summary.schemas.values()} == {
            "poco_msgs/msg/ExecutedAction", "poco_msgs/msg/Reward", "poco_msgs/msg/Features",
            "poco_msgs/msg/EpisodeStatus", "sensor_msgs/msg/JointState"}
        words = [record.metadata for record in reader.iter_metadata()]
    assert summary.statistics.message_count == sum(4 * len(e) + 4 for e in episodes)
    assert [each["id"] for each in words] == [episode.id for episode in episodes]
    assert words[3]["trainable"] == "False" and words[3]["notes"] == "discard by keypad"
    assert words[7]["source"] == "recovery"


def test_pictures_tell_when_an_episode_was(tmp_path: Path) -> None:
    """Its stamps count from its begin; its pictures have the time of the wall."""
    with_pictures, without = recorded(0), recorded(1)
    add_pictures(tmp_path / "pictures", with_pictures)
    write_mcap(tmp_path / "two.mcap", [with_pictures, without], LAYOUT,
               RecordedPictures(tmp_path / "pictures"))
    found = decoded(tmp_path / "two.mcap")
    assert found["/joint_states"][0][0] == BEGAN
    ended = BEGAN + 20 * PERIOD
    assert found["/joint_states"][20][0] == ended
    assert found["/joint_states"][21][0] == ended + PAUSE, "the next one follows"
    for camera in ("front", "wrist"):
        rows = found[f"/camera/{camera}/image/compressed"]
        folder = tmp_path / "pictures" / camera / with_pictures.id
        assert [f"{time}.jpg" for time, _ in rows] == sorted(contents(folder))
        assert [bytes(message.data) for _, message in rows] == list(contents(folder).values())
        assert {message.format for _, message in rows} == {"jpeg"}


def test_without_pictures_episodes_follow_one_another(tmp_path: Path) -> None:
    write_mcap(tmp_path / "all.mcap", [recorded(0), recorded(1)])
    found = decoded(tmp_path / "all.mcap")
    assert "/joint_states" not in found, "nobody said which values are joints"
    assert found["/features"][0][1].names == ["state"]
    times = [time for time, _ in found["/features"]]
    assert times[0] == 0 and times[20] == 20 * PERIOD and times[21] == 20 * PERIOD + PAUSE


def test_the_command_converts_a_folder_and_an_hdf5(tmp_path: Path) -> None:
    store(tmp_path / "set", recordings())
    (tmp_path / "robot.yaml").write_text(PRESET)
    named = ["--preset", str(tmp_path / "robot.yaml")]
    for dest in ("folder.mcap", "all.hdf5"):
        assert main(["data", "convert", str(tmp_path / "set"), str(tmp_path / dest), *named]) == 0
    assert main(["data", "convert", str(tmp_path / "all.hdf5"), str(tmp_path / "hdf5.mcap")]) == 0
    folder, hdf5 = (decoded(tmp_path / name) for name in ("folder.mcap", "hdf5.mcap"))
    assert set(folder) == set(hdf5) and "/joint_states" in folder
    for topic, rows in folder.items():
        assert [(time, str(message)) for time, message in rows] == [
            (time, str(message)) for time, message in hdf5[topic]]


def test_episodes_that_lie_nowhere_in_time_need_a_rate(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path / "set", [recorded(0, stamps=np.zeros(21, np.int64))])
    words = ["data", "convert", str(tmp_path / "set"), str(tmp_path / "set.mcap")]
    assert main(words) == USER_ERROR
    assert "--rate" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.mcap"))
    assert main([*words, "--rate", "20"]) == 0
    assert decoded(tmp_path / "set.mcap")["/reward"][0][0] == 50_000_000


def test_a_full_disk_or_a_wrong_layout_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    with files_up_to(20_000):
        with pytest.raises(OSError) as failed:
            write_mcap(tmp_path / "all.mcap", recordings(), LAYOUT)
    assert failed.value.errno == errno.EFBIG
    with pytest.raises(DataError, match=r"ep-0-000000.*name the preset"):
        write_mcap(tmp_path / "all.mcap", recordings(), ObservationLayout((("state", 5),)))
    with pytest.raises(DataError, match="no episodes"):
        write_mcap(tmp_path / "all.mcap", [])
    assert not list(tmp_path.iterdir())


def test_a_recording_is_written_and_not_read(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mcap(tmp_path / "all.mcap", [recorded(0)])
    assert main(["data", "convert", str(tmp_path / "all.mcap"), str(tmp_path / "set")]) \
        == USER_ERROR
    assert "convert the episodes that it was made from" in capsys.readouterr().err
