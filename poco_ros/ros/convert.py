"""Messages to and from the objects of the core. No other module touches message fields of ours.

Arrays travel as ``array.array(typecode, x.tobytes())``: one copy, where a list or a numpy array
would be converted value by value.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from builtin_interfaces.msg import Time
from poco_msgs.msg import ActionChunk as ActionChunkMsg
from poco_msgs.msg import Episode as EpisodeMsg
from poco_msgs.msg import EpisodeStatus as EpisodeStatusMsg
from poco_msgs.msg import ExecutedAction as ExecutedActionMsg
from poco_msgs.msg import Features as FeaturesMsg
from poco_msgs.msg import LearnerStatus as LearnerStatusMsg
from poco_msgs.msg import Reward as RewardMsg
from poco_msgs.srv import InferChunk
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Header

from poco_ros.core.chunk import ActionChunk
from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.joining import ExecutedAction, RewardSample, TickStatus
from poco_ros.core.observation import ObservationLayout

NANOSECONDS = 1_000_000_000


def stamp_to_msg(nanoseconds: int) -> Time:
    """Return a time in [ns] as a message."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return Time(sec=seconds, nanosec=rest)


def stamp_of(time: Time) -> int:
    """Return a message's time in [ns]."""
    return int(time.sec) * NANOSECONDS + int(time.nanosec)


def clock_to_msg(nanoseconds: int) -> Clock:
    """Return a time in [ns] as a message of /clock."""
    return Clock(clock=stamp_to_msg(nanoseconds))


def _header(nanoseconds: int) -> Header:
    return Header(stamp=stamp_to_msg(nanoseconds))


def _floats(values: np.ndarray) -> array[float]:
    return array("f", np.ascontiguousarray(values, np.float32).tobytes())


def _doubles(values: np.ndarray) -> array[float]:
    return array("d", np.ascontiguousarray(values, np.float64).tobytes())


def _matrix(values: array[float], rows: int, columns: int, what: str) -> np.ndarray:
    if rows < 1 or columns < 1 or len(values) != rows * columns:
        raise DataError(f"{what}: {len(values)} values, expected {rows} x {columns}")
    return np.frombuffer(values, np.float32).reshape(rows, columns)


def _outcome(value: int, what: str) -> Outcome:
    try:
        return Outcome(value)
    except ValueError as error:
        raise DataError(f"{what}: outcome {value} is unknown; expected one of"
                        f" {', '.join(f'{o.value} {o.name}' for o in Outcome)}") from error


# -- observations -----------------------------------------------------------------------------


def features_to_msg(stamp: int, layout: ObservationLayout, observation: np.ndarray) -> FeaturesMsg:
    """Return an observation (O,) with the names and sizes of its parts."""
    return FeaturesMsg(header=_header(stamp), names=list(layout.names),
                       sizes=array("I", [size for _, size in layout.parts]),
                       data=_floats(observation))


def features_of(message: FeaturesMsg, layout: ObservationLayout) -> tuple[int, np.ndarray]:
    """Return stamp [ns] and observation (O,) in the order of ``layout``.

    Raises:
        DataError: sizes do not add up, a part is missing, has another size or is not finite.
    """
    sizes, data = message.sizes.tolist(), np.frombuffer(message.data, np.float32)
    as_laid_out = sum(sizes) == data.size and len(message.names) == len(sizes) \
        and tuple(zip(message.names, sizes, strict=True)) == layout.parts
    if as_laid_out and np.isfinite(data).all():  # the usual case, on the way of every chunk
        return stamp_of(message.header.stamp), data
    stamp, parts = parts_of(message)
    return stamp, layout.assemble(parts)


def parts_of(message: FeaturesMsg) -> tuple[int, dict[str, np.ndarray]]:
    """Return stamp [ns] and the parts by name; DataError when their sizes do not add up."""
    sizes, data = message.sizes.tolist(), np.frombuffer(message.data, np.float32)
    if len(message.names) != len(sizes) or sum(sizes) != data.size:
        raise DataError(f"features: names {message.names} of sizes {sizes} beside {data.size}"
                        " values; sizes must be one a name and add up to the values")
    ends = np.cumsum(sizes)
    return stamp_of(message.header.stamp), {
        name: data[end - size:end]
        for name, size, end in zip(message.names, sizes, ends, strict=True)}


def joint_state_to_msg(stamp: int, names: Iterable[str], positions: np.ndarray,
                       velocities: np.ndarray | None = None) -> JointState:
    """Return joint positions (J,) [rad, gripper in m] by name, and velocities (J,) if known."""
    return JointState(header=_header(stamp), name=list(names), position=_doubles(positions),
                      velocity=[] if velocities is None else _doubles(velocities))


def joints_of(message: JointState, names: Sequence[str]) -> tuple[int, np.ndarray]:
    """Return stamp [ns] and the positions (J,) [rad, gripper in m] of ``names``, in their order.

    Raises:
        DataError: a joint is missing, or there is not one position a name.
    """
    positions = dict(zip(message.name, message.position, strict=False))
    missing = [name for name in names if name not in positions]
    if missing or len(message.name) != len(message.position):
        raise DataError(f"joint_states: {len(message.position)} positions of {message.name};"
                        f" {', '.join(missing) or 'none'} of {', '.join(names)} missing")
    return stamp_of(message.header.stamp), np.array([positions[name] for name in names])


def image_to_msg(stamp: int, picture: np.ndarray) -> Image:
    """Return a picture (H, W, 3) uint8, RGB."""
    height, width, channels = picture.shape
    return Image(header=_header(stamp), height=height, width=width, encoding="rgb8",
                 is_bigendian=0, step=width * channels, data=array("B", picture.tobytes()))


def compressed_to_msg(stamp: int, jpeg: bytes) -> CompressedImage:
    """Return a JPEG."""
    return CompressedImage(header=_header(stamp), format="jpeg", data=array("B", jpeg))


# -- actions and rewards ----------------------------------------------------------------------


def chunk_to_msg(chunk: ActionChunk, episode_id: str) -> ActionChunkMsg:
    """Return a chunk for the environment side."""
    horizon, action_dim = chunk.actions.shape
    return ActionChunkMsg(
        header=_header(chunk.observation_stamp), task=chunk.task, episode_id=episode_id,
        chunk_id=chunk.chunk_id, policy_version=chunk.policy_version, horizon=horizon,
        action_dim=action_dim, actions=_floats(chunk.actions))


def chunk_of(message: ActionChunkMsg) -> ActionChunk:
    """Return the chunk; DataError when sizes do not add up or it is not finite in [-1, 1]."""
    actions = _matrix(message.actions, message.horizon, message.action_dim,
                      f"chunk {message.chunk_id}")
    return ActionChunk(actions, message.chunk_id, message.policy_version,
                       stamp_of(message.header.stamp), message.task)


def executed_to_msg(action: ExecutedAction) -> ExecutedActionMsg:
    """Return what was executed in a tick."""
    return ExecutedActionMsg(
        header=_header(action.stamp), episode_id=action.episode_id, step=action.step,
        chunk_id=action.chunk_id, index=action.index, policy_version=action.policy_version,
        requested=_floats(action.requested), executed=_floats(action.executed),
        status=action.status.value, reason=action.reason)


def executed_of(message: ExecutedActionMsg) -> ExecutedAction:
    """Return what was executed in a tick; DataError for an unknown status."""
    try:
        status = TickStatus(message.status)
    except ValueError as error:
        raise DataError(f"executed action of step {message.step}: status {message.status} is"
                        " unknown") from error
    return ExecutedAction(
        stamp_of(message.header.stamp), message.episode_id, message.step,
        np.frombuffer(message.executed, np.float32), np.frombuffer(message.requested, np.float32),
        message.chunk_id, message.index, message.policy_version, status, message.reason)


def reward_to_msg(reward: RewardSample) -> RewardMsg:
    """Return a reward or a label."""
    return RewardMsg(header=_header(reward.stamp), episode_id=reward.episode_id,
                     value=float(reward.value), outcome=reward.outcome.value,
                     truncated=reward.truncated, source=reward.source)


def reward_of(message: RewardMsg) -> RewardSample:
    """Return a reward or a label; DataError for an unknown outcome."""
    return RewardSample(stamp_of(message.header.stamp), message.episode_id, message.value,
                        _outcome(message.outcome, "reward"), message.truncated, message.source)


# -- inference --------------------------------------------------------------------------------


def infer_request(task: str, observation: np.ndarray, seed: int,
                  policy_version: int) -> InferChunk.Request:
    """Return the request for a chunk; version 0 = the newest."""
    return InferChunk.Request(task=task, observation=_floats(observation), seed=seed,
                              policy_version=policy_version)


def observation_of(request: InferChunk.Request) -> np.ndarray:
    """Return the observation (O,) of a request, unchecked."""
    return np.frombuffer(request.observation, np.float32)


def infer_response(actions: np.ndarray, policy_version: int) -> InferChunk.Response:
    """Return the chunk (T, A) as the answer."""
    horizon, action_dim = actions.shape
    return InferChunk.Response(success=True, policy_version=policy_version, horizon=horizon,
                               action_dim=action_dim, actions=_floats(actions))


def infer_refusal(message: str) -> InferChunk.Response:
    """Return the answer to a request that cannot be met."""
    return InferChunk.Response(success=False, message=message)


def chunk_of_response(response: InferChunk.Response, chunk_id: int, observation_stamp: int,
                      task: str) -> ActionChunk:
    """Return the chunk of an answer; DataError when it is not whole, finite and in [-1, 1]."""
    actions = _matrix(response.actions, response.horizon, response.action_dim,
                      "answer of infer_chunk")
    return ActionChunk(actions, chunk_id, response.policy_version, observation_stamp, task)


# -- episodes ---------------------------------------------------------------------------------


def episode_to_msg(episode: Episode) -> EpisodeMsg:
    """Return the wire form of an episode."""
    return EpisodeMsg(
        header=_header(episode.began), id=episode.id, task=episode.task, source=episode.source,
        steps=len(episode),
        observation_dim=episode.observations.shape[1], action_dim=episode.actions.shape[1],
        observations=_floats(episode.observations), actions=_floats(episode.actions),
        rewards=_floats(episode.rewards), policy_versions=_integers(episode.policy_versions),
        stamps=_integers(episode.stamps), terminated=episode.terminated,
        truncated=episode.truncated, outcome=episode.outcome.value, trainable=episode.trainable,
        notes=list(episode.notes), encoder=episode.encoder)


def _integers(values: np.ndarray) -> array[int]:
    return array("q", np.ascontiguousarray(values, np.int64).tobytes())


def episode_of(message: EpisodeMsg) -> Episode:
    """Return the episode; DataError when anything breaks its contract."""
    what = f"episode {message.id!r}"
    return Episode(
        id=message.id, task=message.task, source=message.source,
        observations=_matrix(message.observations, message.steps + 1, message.observation_dim,
                             f"{what}: observations"),
        actions=_matrix(message.actions, message.steps, message.action_dim, f"{what}: actions"),
        rewards=np.frombuffer(message.rewards, np.float32),
        policy_versions=np.frombuffer(message.policy_versions, np.int64),
        stamps=np.frombuffer(message.stamps, np.int64),
        terminated=message.terminated, truncated=message.truncated,
        outcome=_outcome(message.outcome, what), trainable=message.trainable,
        notes=tuple(message.notes), began=stamp_of(message.header.stamp),
        encoder=message.encoder)


@dataclass(frozen=True)
class EpisodeStatus:
    """Where the current episode stands."""

    episode_id: str = ""
    number: int = 0
    seed: int = 0
    phase: int = EpisodeStatusMsg.WAITING
    step: int = 0
    outcome: Outcome = Outcome.NONE
    success_rate: float = 0.0
    window: int = 0
    detail: str = ""


def episode_status_to_msg(stamp: int, status: EpisodeStatus) -> EpisodeStatusMsg:
    """Return the state of an episode."""
    return EpisodeStatusMsg(
        header=_header(stamp), episode_id=status.episode_id, number=status.number,
        seed=status.seed, phase=status.phase, step=status.step, outcome=status.outcome.value,
        success_rate=float(status.success_rate), window=status.window, detail=status.detail)


# -- learning ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class LearnerStatus:
    """How learning goes."""

    stage: str = ""
    policy_version: int = 0
    episodes_stored: int = 0
    episodes_trained: int = 0
    round_versions: tuple[int, ...] = ()
    environment_steps: int = 0
    updates: int = 0
    updates_owed: int = 0
    updates_per_second: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    detail: str = ""
    encoder: str = ""

    def version_of_round(self, episodes: int) -> int | None:
        """Return the version that has learned from just ``episodes`` episodes; None = unknown."""
        back = self.episodes_trained - episodes
        return self.round_versions[-1 - back] if 0 <= back < len(self.round_versions) else None


def learner_status_to_msg(stamp: int, status: LearnerStatus) -> LearnerStatusMsg:
    """Return how learning goes."""
    return LearnerStatusMsg(
        header=_header(stamp), stage=status.stage, policy_version=status.policy_version,
        episodes_stored=status.episodes_stored, episodes_trained=status.episodes_trained,
        round_versions=array("Q", status.round_versions),
        environment_steps=status.environment_steps, updates=status.updates,
        updates_owed=status.updates_owed, updates_per_second=float(status.updates_per_second),
        metric_names=list(status.metrics), metric_values=array("f", status.metrics.values()),
        detail=status.detail, encoder=status.encoder)


def learner_status_of(message: LearnerStatusMsg) -> LearnerStatus:
    """Return how learning goes."""
    return LearnerStatus(
        message.stage, message.policy_version, message.episodes_stored, message.episodes_trained,
        tuple(message.round_versions), message.environment_steps, message.updates,
        message.updates_owed, message.updates_per_second,
        dict(zip(message.metric_names, message.metric_values, strict=False)), message.detail,
        message.encoder)
