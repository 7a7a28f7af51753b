"""Episodes as an MCAP recording of the graph's own topics, for Foxglove, Lichtblick and ros2 bag.

====================================  ==============================  =============================
topic                                 type                            one message
====================================  ==============================  =============================
``/features``                         ``poco_msgs/Features``          an observation, at its stamp
``/joint_states``                     ``sensor_msgs/JointState``      an observation with joints
``/executed_action``                  ``poco_msgs/ExecutedAction``    a step, at its observation
``/reward``                           ``poco_msgs/Reward``            a step, at the one after
``/episode``                          ``poco_msgs/EpisodeStatus``     the begin, and the end
``/camera/<name>/image/compressed``   ``sensor_msgs/CompressedImage`` a recorded picture
====================================  ==============================  =============================

A metadata record ``episode <id>`` tells what the messages do not: source, task, notes.

An episode holds what was executed, not what was asked for. So of an executed action its
``requested`` is empty, and its ``status`` is HELD where nobody asked for one, else 255: NOMINAL
or LIMITED, which of them was not recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mcap.writer import Writer
from poco_msgs.msg import EpisodeStatus as EpisodeStatusMsg
from poco_msgs.msg import ExecutedAction as ExecutedActionMsg
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage

from poco_ros import __version__
from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.files import replacing
from poco_ros.core.joining import ExecutedAction, RewardSample, TickStatus
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.task import JOINTS_PART
from poco_ros.data.parts import columns, layout_for
from poco_ros.data.pictures import Picture, RecordedPictures
from poco_ros.data.recording import has_stamps
from poco_ros.robot.kinematics import GRIPPER_NAME, JOINT_NAMES
from poco_ros.ros import convert, names
from poco_ros.ros.definitions import definition_of

PAUSE = 1_000_000_000
"""Between two episodes whose stamps count from their own begin [ns]."""
RECORDED = "recorded"
"""``source`` of the rewards."""
STATUS_NOT_RECORDED = 255
"""``status`` of an executed action; no node takes it for one."""


@dataclass(frozen=True)
class Entry:
    """One message of the recording; it is made only when it is written."""

    stamp: int
    topic: str
    make: Callable[[], Any]


def write_mcap(path: str | Path, episodes: Iterable[Episode],
               layout: ObservationLayout | None = None,
               pictures: RecordedPictures | None = None) -> int:
    """Write episodes to ``path``, atomically; return how many.

    Log times are the stamps. An episode whose begin is not recorded is dated by its pictures (to
    one picture's time); without pictures it begins a second after the episode before.

    Args:
        path: the MCAP file.
        episodes: at least one; they are taken one by one.
        layout: parts of the observation; None = one part ``state``.
        pictures: what was recorded beside them.

    Raises:
        DataError: there are none, one has no stamps, or its observation has another size.
        OSError: the disk is full or not writable.
    """
    count, ended = 0, -PAUSE
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        writer = Writer(stream)
        writer.start(profile="ros2", library=f"poco_ros {__version__}")
        channels = _Channels(writer)
        for episode in episodes:
            layout = layout_for(episode, layout)
            _check_stamps(episode)
            began = _began(episode, pictures, ended + PAUSE)
            stamps = [int(stamp) for stamp in episode.stamps - episode.stamps[0] + began]
            entries = list(_entries(episode, count, layout, stamps))
            if pictures is not None:
                entries += _pictures(episode, pictures)
            for entry in sorted(entries, key=lambda entry: entry.stamp):
                channels.write(entry)
            writer.add_metadata(f"episode {episode.id}", _words(episode))
            count, ended = count + 1, stamps[-1]
        if not count:
            raise DataError(f"{path}: there are no episodes to write")
        writer.finish()
    return count


class _Channels:
    """The channels of a recording, each made with its first message."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._written: dict[str, int] = {}

    def write(self, entry: Entry) -> None:
        message = entry.make()
        if entry.topic not in self._channels:
            self._channels[entry.topic] = self._writer.register_channel(
                entry.topic, "cdr", self._schema(type(message)), {"offered_qos_profiles": ""})
        number = self._written[entry.topic] = self._written.get(entry.topic, 0) + 1
        self._writer.add_message(self._channels[entry.topic], entry.stamp,
                                 serialize_message(message), entry.stamp, number)

    def _schema(self, kind: type) -> int:
        name = f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
        if name not in self._schemas:
            self._schemas[name] = self._writer.register_schema(
                name, "ros2msg", definition_of(name).encode())
        return self._schemas[name]


def _check_stamps(episode: Episode) -> None:
    if not has_stamps(episode) or (np.diff(episode.stamps) < 0).any() or episode.stamps[0] < 0:
        raise DataError(f"episode {episode.id}: has no stamps that rise from 0 or later, and a"
                        " recording lies in time; name the control rate with --rate")


def _began(episode: Episode, pictures: RecordedPictures | None, otherwise: int) -> int:
    """Return when the first observation was taken [ns]."""
    if episode.began or episode.stamps[0]:
        return episode.began + int(episode.stamps[0])
    began = pictures.began(episode) if pictures is not None else None
    return otherwise if began is None else began


def _entries(episode: Episode, number: int, layout: ObservationLayout,
             stamps: list[int]) -> Iterator[Entry]:
    """Yield the messages of an episode but the pictures; what comes first at a stamp, first."""
    yield Entry(stamps[0], _absolute(names.EPISODE), partial(
        _status, episode, number, stamps[0], EpisodeStatusMsg.RUNNING))
    yield from _observations(episode, layout, stamps)
    versions = episode.policy_versions  # all 0: not recorded, or a person's
    held = (versions == 0) & versions.any() & (episode.source == "online")
    last = len(episode) - 1
    for step in range(len(episode)):
        action = ExecutedAction(
            stamps[step], episode.id, step, episode.actions[step], np.zeros(0, np.float32),
            policy_version=int(versions[step]))
        reward = RewardSample(
            stamps[step + 1], episode.id, float(episode.rewards[step]),
            episode.outcome if step == last else Outcome.NONE,
            episode.truncated and step == last, RECORDED)
        yield Entry(action.stamp, _absolute(names.EXECUTED_ACTION),
                    partial(_executed, action, bool(held[step])))
        yield Entry(reward.stamp, _absolute(names.REWARD),
                    partial(convert.reward_to_msg, reward))
    yield Entry(stamps[-1], _absolute(names.EPISODE), partial(
        _status, episode, number, stamps[-1], EpisodeStatusMsg.ENDED))


def _observations(episode: Episode, layout: ObservationLayout,
                  stamps: list[int]) -> Iterator[Entry]:
    """Yield features and joints; the columns of the joints are not among the features."""
    places = columns(layout)
    joints = places.pop(JOINTS_PART, slice(0, 0))
    rest = np.r_[tuple(places.values())] if places else np.zeros(0, np.int64)
    others = tuple(part for part in layout.parts if part[0] != JOINTS_PART)
    joint_names = _joint_names(joints.stop - joints.start)
    for stamp, row in zip(stamps, episode.observations, strict=True):
        if joint_names:
            yield Entry(stamp, _absolute(names.JOINT_STATES), partial(
                convert.joint_state_to_msg, stamp, joint_names, row[joints]))
        if others:
            yield Entry(stamp, _absolute(names.FEATURES), partial(
                convert.features_to_msg, stamp, ObservationLayout(others), row[rest]))


def _joint_names(count: int) -> tuple[str, ...]:
    """Return the names of the joints; the arm's own, or numbers when there are not as many."""
    own = (*JOINT_NAMES, GRIPPER_NAME)
    return own if count == len(own) else tuple(f"joint{index + 1}" for index in range(count))


def _pictures(episode: Episode, pictures: RecordedPictures) -> Iterator[Entry]:
    for camera, found in pictures.of(episode).items():
        for picture in found:
            yield Entry(picture.stamp, f"/camera/{camera}/image/compressed",
                        partial(_picture, picture))


def _picture(picture: Picture) -> CompressedImage:
    """Return a recorded picture, its bytes as they are."""
    return convert.compressed_to_msg(picture.stamp, picture.path.read_bytes())


def _executed(action: ExecutedAction, held: bool) -> ExecutedActionMsg:
    message = convert.executed_to_msg(action)
    message.status = TickStatus.HELD.value if held else STATUS_NOT_RECORDED
    message.reason = "" if held else "its status was not recorded"
    return message


def _status(episode: Episode, number: int, stamp: int, phase: int) -> EpisodeStatusMsg:
    ended = phase == EpisodeStatusMsg.ENDED
    return convert.episode_status_to_msg(stamp, convert.EpisodeStatus(
        episode.id, number, phase=phase, step=len(episode) if ended else 0,
        outcome=episode.outcome if ended else Outcome.NONE,
        detail="; ".join(episode.notes) if ended else ""))


def _words(episode: Episode) -> dict[str, str]:
    return {"id": episode.id, "task": episode.task, "source": episode.source,
            "outcome": episode.outcome.name.lower(), "terminated": str(episode.terminated),
            "truncated": str(episode.truncated), "trainable": str(episode.trainable),
            "notes": "\n".join(episode.notes)}


def _absolute(topic: str) -> str:
    return f"/{topic}"
