"""The policy of every kind, served over DDS by one and the same policy server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_support import TASK, Graph, Onlooker, ros
from poco_msgs.msg import PolicyWeights
from poco_msgs.srv import InferChunk

from poco_ros.core.config import from_dict
from poco_ros.core.observation import ObservationLayout
from poco_ros.learning.agents import make_agent
from poco_ros.learning.config import CONSISTENCY, DIFFUSION, AgentConfig
from poco_ros.learning.policies import POLICIES, Policy, Signature
from poco_ros.ros import convert, names
from poco_ros.ros.weights import weights_to_msg

pytestmark = pytest.mark.graph
OBSERVATION = np.linspace(-1, 1, 28, dtype=np.float32)
SERVED = {"flow": ("poco", {}), DIFFUSION: ("poco", {"policy": DIFFUSION}),
          CONSISTENCY: ("bc", {"policy": CONSISTENCY}), "best_of_n": ("qc", {}),
          "one_step": ("qc_fql", {}), "gaussian": ("rlpd_ac", {}),
          "steered_flow": ("dsrl", {"noise_hidden_dim": 16, "noise_layers": 2}),
          "noisy_flow": ("dppo", {})}
"""Kind of policy -> an algorithm that acts with it, and settings."""


def policy_of_kind(kind: str) -> Policy:
    algorithm, settings = SERVED[kind]
    config = from_dict(AgentConfig, {"algorithm": algorithm, "hidden_dim": 16, "num_layers": 2,
                                     **settings}, "test")
    signature = Signature(TASK, ObservationLayout((("state", 28),)), 5)
    policy = make_agent(config, signature, 3).policy(7)
    assert policy.spec.kind == kind
    return policy


def test_the_policy_of_every_kind_is_served(tmp_path: Path) -> None:
    assert set(SERVED) == set(POLICIES)
    with ros():
        asker = Onlooker("asker")
        newest = names.weights_qos(1)  # what a server that starts later is told
        topic = asker.create_publisher(PolicyWeights, names.POLICY_WEIGHTS, newest)
        client = asker.loop.client(InferChunk, names.INFER_CHUNK)
        request = convert.infer_request(TASK, OBSERVATION, 5, 0)
        for stamp, kind in enumerate(SERVED, 1):
            policy = policy_of_kind(kind)
            topic.publish(weights_to_msg(stamp, policy.to_bytes(), policy.version, 0))
            with Graph(tmp_path) as graph:
                graph.start("policy_server")
                asker.until(lambda: asker.ask(client, request).success, kind, graph)
                answer = asker.ask(client, request)
            found = convert.chunk_of_response(answer, 1, 0, "")
            assert found.policy_version == 7
            assert found.actions.tobytes() == policy.act(OBSERVATION, 5).tobytes(), kind
        asker.destroy_node()
