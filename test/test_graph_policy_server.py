"""The policy server over DDS: stateless, exact versions, and nothing broken gets in or out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from graph_support import Graph, Onlooker, ros, small_policy
from poco_msgs.msg import PolicyWeights
from poco_msgs.srv import InferChunk

from poco_ros.learning.policies import Policy, make_policy
from poco_ros.ros import convert, names
from poco_ros.ros.fast_loop import FastClient
from poco_ros.ros.weights import weights_to_msg

pytestmark = pytest.mark.graph
OBSERVATION = np.linspace(-1, 1, 28, dtype=np.float32)


class Served(Onlooker):
    """Publishes weights as a learner would, and asks as a rollout would."""

    def __init__(self) -> None:
        super().__init__("served")
        self.stamp = 0
        self.topic = self.create_publisher(PolicyWeights, names.POLICY_WEIGHTS,
                                           names.weights_qos(3))
        self.client: FastClient[InferChunk.Response] = self.loop.client(
            InferChunk, names.INFER_CHUNK)

    def publish(self, policy: Policy, **changes: object) -> None:
        self.stamp += 1
        message = weights_to_msg(self.stamp, policy.to_bytes(), policy.version, 0)
        for name, value in changes.items():
            setattr(message, name, value)
        self.topic.publish(message)

    def infer(self, observation: np.ndarray = OBSERVATION, seed: int = 5, version: int = 0,
              task: str = "cube-single-task1") -> InferChunk.Response:
        return self.ask(self.client, convert.infer_request(task, observation, seed, version))

    def serves(self, version: int) -> None:
        """Wait until the newest version is this one."""
        self.until(lambda: self.infer().policy_version == version, f"version {version} answers")

    def refused(self, words: str) -> None:
        """Wait until the server reports a refusal, and check that the old weights answer."""
        self.until(lambda: self.says("policy_server", words), words)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with ros(), Graph(tmp_path_factory.mktemp("server")) as graph:
        graph.start("policy_server")
        served = Served()
        answer = served.infer()
        assert not answer.success and "no weights yet" in answer.message
        served.publish(small_policy(version=1))
        served.serves(1)
        yield served
        served.destroy_node()


def actions(answer: InferChunk.Response) -> np.ndarray:
    return convert.chunk_of_response(answer, 1, 0, "").actions


def test_equal_requests_have_equal_answers_and_they_are_the_policys(server: Served) -> None:
    expected = small_policy(version=1).act(OBSERVATION, 5)
    for seed in (5, 6, 5):
        answer = server.infer(seed=seed, version=1)
        assert answer.success and answer.policy_version == 1
        assert (actions(answer).tobytes() == expected.tobytes()) == (seed == 5)


def test_the_newest_answers_and_older_ones_can_be_asked_for(server: Served) -> None:
    for version in (2, 3):
        server.publish(small_policy(version=version, seed=version))
    server.serves(3)
    for version in (1, 2, 3):
        expected = small_policy(version=version, seed=version if version > 1 else 0)
        answer = server.infer(version=version)
        assert actions(answer).tobytes() == expected.act(OBSERVATION, 5).tobytes()
    answer = server.infer(version=99)
    assert not answer.success and "version 99 is not here" in answer.message


@pytest.mark.parametrize(("change", "why"), [
    ({"observation": OBSERVATION[:-1]}, r"shape (27,), expected (28,)"),
    ({"observation": np.where(np.arange(28) == 9, np.nan, OBSERVATION)}, "value 9 is nan"),
    ({"task": "scene-task2"}, "the request is for 'scene-task2'"),
])
def test_a_request_that_makes_no_sense_is_answered_with_what_is_wrong(
        server: Served, change: dict[str, object], why: str) -> None:
    answer = server.infer(**change)  # type: ignore[arg-type]
    assert not answer.success and why in answer.message
    assert server.infer().success


def test_broken_or_foreign_weights_are_refused_and_the_old_ones_answer(server: Served) -> None:
    before = server.infer()
    wide = small_policy(version=50, hidden_dim=24)
    server.publish(wide)
    server.refused("another architecture than version 3: hidden_dim 16 became 24")
    server.publish(small_policy(version=51, task="scene-task2"))
    server.refused("task cube-single-task1 became scene-task2")
    server.publish(small_policy(version=52), sha256="0" * 64)
    server.refused("version 52: sha256 is")
    broken = small_policy(version=53)
    content = bytearray(broken.to_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    good = weights_to_msg(0, bytes(content), 53, 0)
    server.publish(broken, data=good.data, sha256=good.sha256)
    server.refused("holds values that are not finite")
    after = server.infer()
    assert after.policy_version == 3 and actions(after).tobytes() == actions(before).tobytes()


def test_a_learner_that_was_restarted_may_go_back(server: Served) -> None:
    server.publish(small_policy(version=2, seed=2))
    server.serves(2)
    server.stamp = -5  # published before what is served: a late message
    server.publish(replace_version(small_policy(seed=1), 1))
    server.refused("older than version 2 and was published before it")
    assert server.infer().policy_version == 2


def replace_version(policy: Policy, version: int) -> Policy:
    return make_policy(replace(policy.spec), policy.tensors, version)
