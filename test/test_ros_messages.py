"""Messages carry the core's objects there and back, bit for bit, and refuse what is not whole."""

from __future__ import annotations

from array import array
from dataclasses import replace

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message

from poco_ros.core.chunk import ActionChunk
from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import CheckpointError, DataError
from poco_ros.core.joining import ExecutedAction, RewardSample, TickStatus
from poco_ros.core.observation import ObservationLayout
from poco_ros.learning.policies import FlowPolicy, PolicySpec
from poco_ros.nodes.arm_controller.tick_topics import executed_action
from poco_ros.robot.arm import ArmCommand
from poco_ros.robot.control_status import Executed
from poco_ros.robot.safety_filter import Decision
from poco_ros.ros import convert
from poco_ros.ros.weights import policy_of, weights_to_msg

LAYOUT = ObservationLayout((("camera", 3), ("joints", 2)))


def over_the_wire(message: object) -> object:
    """Serialise and read back, as DDS does."""
    return deserialize_message(serialize_message(message), type(message))


def random_episode() -> Episode:
    generator = np.random.default_rng(0)
    return Episode(
        id="ep-3-000007", observations=generator.standard_normal((6, 5)),
        actions=generator.uniform(-1, 1, (5, 2)), rewards=generator.standard_normal(5),
        terminated=True, truncated=False, outcome=Outcome.SUCCESS,
        policy_versions=np.arange(5) + 2**40, stamps=np.arange(6) * 50_000_000, trainable=False,
        task="cube-single-task1", source="recovery", notes=("success by keypad", "ä"))


def policy(version: int = 5) -> FlowPolicy:
    spec = PolicySpec("flow", "t", LAYOUT, 2, 3, 8, 1, "silu", {"flow_steps": 2})
    tensors = {"normalizer.mean": np.zeros(5, np.float32),
               "normalizer.std": np.ones(5, np.float32)}
    for name, shape in FlowPolicy.shapes(spec).items():
        tensors[name] = np.full(shape, 0.1 if name.endswith("weight") else 0.0, np.float32)
    return FlowPolicy(spec, tensors, version)


def test_an_episode_survives_the_wire_to_the_bit() -> None:
    episode = replace(random_episode(), encoder="0123abcd4567")
    again = convert.episode_of(over_the_wire(convert.episode_to_msg(episode)))
    assert again.to_bytes() == episode.to_bytes()


def test_an_episode_whose_arrays_are_not_whole_is_refused() -> None:
    message = convert.episode_to_msg(random_episode())
    message.observations = message.observations[:-1]
    with pytest.raises(DataError, match="'ep-3-000007': observations: 29 values, expected 6 x 5"):
        convert.episode_of(message)
    message = convert.episode_to_msg(random_episode())
    message.actions[3] = float("nan")
    with pytest.raises(DataError, match=r"actions\[1\] is not finite"):
        convert.episode_of(message)
    message = convert.episode_to_msg(random_episode())
    message.outcome = 9
    with pytest.raises(DataError, match="outcome 9 is unknown; expected one of 0 NONE"):
        convert.episode_of(message)


def test_chunks_and_ticks_survive_the_wire() -> None:
    actions = np.random.default_rng(1).uniform(-1, 1, (4, 2)).astype(np.float32)
    chunk = ActionChunk(actions, 9, 2**40, 1_700_000_000_123_456_789, "t")
    again = convert.chunk_of(over_the_wire(convert.chunk_to_msg(chunk, "e")))
    np.testing.assert_array_equal(again.actions, actions)
    assert (again.chunk_id, again.policy_version, again.observation_stamp, again.task) == \
        (9, 2**40, chunk.observation_stamp, "t")
    action = ExecutedAction(123, "e", 4, actions[0], actions[1], 9, 3, 5, TickStatus.LIMITED,
                            "limit of joint2")
    back = convert.executed_of(over_the_wire(convert.executed_to_msg(action)))
    np.testing.assert_array_equal(back.executed, action.executed)
    np.testing.assert_array_equal(back.requested, action.requested)
    assert (back.stamp, back.step, back.index, back.status, back.reason) == \
        (123, 4, 3, TickStatus.LIMITED, "limit of joint2")
    reward = RewardSample(5, "e", 0.5, Outcome.FAILURE, True, "environment")
    assert convert.reward_of(over_the_wire(convert.reward_to_msg(reward))) == reward


def test_a_chunk_that_is_not_finite_or_not_whole_is_refused() -> None:
    message = convert.chunk_to_msg(ActionChunk(np.zeros((2, 2)), 1, 1, 0), "e")
    message.actions[1] = float("nan")
    with pytest.raises(DataError, match="chunk 1: action 0 is not finite"):
        convert.chunk_of(message)
    message.actions = array("f", [0.0] * 3)
    with pytest.raises(DataError, match="chunk 1: 3 values, expected 2 x 2"):
        convert.chunk_of(message)


def test_features_are_taken_by_name_and_not_by_place() -> None:
    swapped = ObservationLayout((("joints", 2), ("camera", 3)))
    message = convert.features_to_msg(77, swapped, np.arange(5, dtype=np.float32))
    stamp, observation = convert.features_of(over_the_wire(message), LAYOUT)
    assert stamp == 77 and observation.tolist() == [2.0, 3.0, 4.0, 0.0, 1.0]


@pytest.mark.parametrize(("change", "why"), [
    ({"names": ["camera", "wrist"]}, "part 'joints' is missing"),
    ({"sizes": array("I", [2, 3])}, "part 'camera' has 2 values, expected 3"),
    ({"sizes": array("I", [3])}, "sizes must be one a name"),
    ({"data": array("f", [0.0] * 4)}, "add up to the values"),
    ({"data": array("f", [0.0, 0.0, float("nan"), 0.0, 0.0])}, "part 'camera': value 2 is nan"),
])
def test_features_that_are_not_the_policys_are_refused(change: dict[str, object],
                                                       why: str) -> None:
    message = convert.features_to_msg(0, LAYOUT, np.zeros(5, np.float32))
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(DataError, match=why):
        convert.features_of(message, LAYOUT)


@pytest.mark.parametrize("by_file", [False, True])
def test_weights_arrive_whole_by_bytes_and_by_file(by_file: bool, tmp_path: object) -> None:
    content = policy().to_bytes()
    file = None
    if by_file:
        file = tmp_path / "w v5.safetensors"  # type: ignore[operator]
        file.write_bytes(content)
    message = over_the_wire(weights_to_msg(1, content, 5, 2, file))
    assert len(message.data) == (0 if by_file else len(content))
    assert policy_of(message).to_bytes() == content
    if by_file:
        file.unlink()
        with pytest.raises(CheckpointError, match="must see the same file"):
            policy_of(message)


def test_weights_that_changed_on_the_way_are_refused() -> None:
    message = weights_to_msg(1, policy().to_bytes(), 5, 2)
    message.data[-3] ^= 1
    with pytest.raises(CheckpointError, match="version 5: sha256 is"):
        policy_of(message)
    with pytest.raises(CheckpointError, match="the file says version 5"):
        policy_of(weights_to_msg(1, policy().to_bytes(), 6, 2))
    with pytest.raises(CheckpointError, match="not a policy file, or truncated"):
        policy_of(weights_to_msg(1, policy().to_bytes()[:-8], 5, 2))


def test_a_round_names_its_version() -> None:
    status = convert.LearnerStatus(stage="online", episodes_trained=7, round_versions=(30, 41),
                                   encoder="0123abcd4567")
    again = convert.learner_status_of(over_the_wire(convert.learner_status_to_msg(0, status)))
    assert again == status
    assert [again.version_of_round(n) for n in (5, 6, 7, 8)] == [None, 30, 41, None]


@pytest.mark.parametrize(("verdict", "fault", "blocked", "told"), [
    (TickStatus.HELD, False, False, TickStatus.HELD),
    (TickStatus.HELD, True, False, TickStatus.FAULT),
    (TickStatus.HELD, True, True, TickStatus.BLOCKED),
    (TickStatus.STOPPED, True, False, TickStatus.STOPPED),
])
def test_a_tick_of_the_arm_says_what_held_it(
        verdict: TickStatus, fault: bool, blocked: bool, told: TickStatus) -> None:
    action = np.zeros(7, np.float32)
    decision = Decision(ArmCommand(np.zeros(6), 0.0), action, action, verdict, "why", fault,
                        blocked)
    executed = executed_action(Executed(5, "e", 3, None, decision))
    assert (executed.status, executed.reason, executed.step) == (told, "why", 3)
    assert convert.executed_of(convert.executed_to_msg(executed)).status == told
