"""The messages of the acting loop straight to and from the bytes that DDS carries.

On its way from sender to handler a message object costs some 20 us, nearly all of them in Python:
every field is set twice on either side. Publishing and taking the bytes takes 4 us, and rclpy
allows it on either side by itself, so nobody else sees a difference. What comes in an encoding
that is not known here is left to rclpy and :mod:`poco_ros.ros.convert`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from poco_msgs.msg import ActionChunk as ActionChunkMsg
from poco_msgs.msg import ExecutedAction as ExecutedActionMsg
from poco_msgs.msg import Features as FeaturesMsg
from poco_msgs.msg import Reward as RewardMsg
from rclpy.serialization import deserialize_message

from poco_ros.core.chunk import ActionChunk
from poco_ros.core.episode import Outcome
from poco_ros.core.joining import ExecutedAction, RewardSample, TickStatus
from poco_ros.core.observation import ObservationLayout
from poco_ros.ros import convert
from poco_ros.ros.cdr import Codec
from poco_ros.ros.convert import NANOSECONDS

HEADER = "i I s"
"""std_msgs/Header: seconds, nanoseconds, frame."""
NO_FRAME = b""
EXECUTED = Codec(f"{HEADER} s I Q I Q *f *f B s")
REWARD = Codec(f"{HEADER} s f B ? s")
CHUNK = Codec(f"{HEADER} s s Q Q I I *f")

OUTCOMES = {outcome.value: outcome for outcome in Outcome}
STATUSES = {status.value: status for status in TickStatus}


@cache
def _features(parts: int) -> Codec:
    return Codec(f"{HEADER} I{' s' * parts} *I *f")


@cache
def _named(layout: ObservationLayout) -> tuple[object, ...]:
    """Return what does not change in the observations of a layout: names and sizes."""
    sizes = np.array([size for _, size in layout.parts], np.uint32).tobytes()
    return (len(layout.parts), *(name.encode() for name in layout.names), sizes)


def _bytes(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, np.float32).tobytes()


def _array(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.float32)


def features_to_wire(stamp: int, layout: ObservationLayout, observation: np.ndarray) -> bytes:
    """Return ``Features``: an observation (O,) with the names and sizes of its parts."""
    return _features(len(layout.parts)).encode(
        *divmod(stamp, NANOSECONDS), NO_FRAME, *_named(layout), _bytes(observation))


def features_of(data: bytes, layout: ObservationLayout) -> tuple[int, np.ndarray]:
    """Return stamp [ns] and observation (O,) in the order of ``layout``.

    Raises:
        DataError: as :func:`poco_ros.ros.convert.features_of` does.
    """
    fields = _features(len(layout.parts)).decode(data)
    if fields is not None and fields[3:-1] == _named(layout):
        observation = _array(fields[-1])
        if observation.size == layout.size and np.isfinite(observation).all():
            return fields[0] * NANOSECONDS + fields[1], observation
    return convert.features_of(deserialize_message(data, FeaturesMsg), layout)


def executed_to_wire(action: ExecutedAction) -> bytes:
    """Return ``ExecutedAction``: what was executed in a tick."""
    return EXECUTED.encode(
        *divmod(action.stamp, NANOSECONDS), NO_FRAME, action.episode_id.encode(), action.step,
        action.chunk_id, action.index, action.policy_version, _bytes(action.requested),
        _bytes(action.executed), action.status.value, action.reason.encode())


def executed_of(data: bytes) -> ExecutedAction:
    """Return what was executed in a tick; DataError for an unknown status."""
    fields = EXECUTED.decode(data)
    if fields is None or fields[10] not in STATUSES:
        return convert.executed_of(deserialize_message(data, ExecutedActionMsg))
    (seconds, rest, _, episode_id, step, chunk_id, index, version, requested, executed, status,
     reason) = fields
    return ExecutedAction(
        seconds * NANOSECONDS + rest, episode_id.decode(), step, _array(executed),
        _array(requested), chunk_id, index, version, STATUSES[status], reason.decode())


def reward_to_wire(reward: RewardSample) -> bytes:
    """Return ``Reward``: a reward or a label."""
    return REWARD.encode(
        *divmod(reward.stamp, NANOSECONDS), NO_FRAME, reward.episode_id.encode(), reward.value,
        reward.outcome.value, reward.truncated, reward.source.encode())


def reward_of(data: bytes) -> RewardSample:
    """Return a reward or a label; DataError for an unknown outcome."""
    fields = REWARD.decode(data)
    if fields is None or fields[5] not in OUTCOMES:
        return convert.reward_of(deserialize_message(data, RewardMsg))
    seconds, rest, _, episode_id, value, outcome, truncated, source = fields
    return RewardSample(seconds * NANOSECONDS + rest, episode_id.decode(), value,
                        OUTCOMES[outcome], truncated, source.decode())


def chunk_to_wire(chunk: ActionChunk, episode_id: str) -> bytes:
    """Return ``ActionChunk``: a chunk for the environment side."""
    return CHUNK.encode(
        *divmod(chunk.observation_stamp, NANOSECONDS), NO_FRAME, chunk.task.encode(),
        episode_id.encode(), chunk.chunk_id, chunk.policy_version, *chunk.actions.shape,
        _bytes(chunk.actions))


def chunk_of(data: bytes) -> tuple[ActionChunk, str]:
    """Return a chunk and the id of its episode.

    Raises:
        DataError: sizes do not add up, or it is not finite in [-1, 1].
    """
    fields = CHUNK.decode(data)
    if fields is None or len(fields[9]) != 4 * fields[7] * fields[8] or not fields[9]:
        message = deserialize_message(data, ActionChunkMsg)
        return convert.chunk_of(message), message.episode_id
    seconds, rest, _, task, episode_id, chunk_id, version, horizon, action_dim, actions = fields
    return ActionChunk(_array(actions).reshape(horizon, action_dim), chunk_id, version,
                       seconds * NANOSECONDS + rest, task.decode()), episode_id.decode()
