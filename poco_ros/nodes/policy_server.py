"""The node that turns an observation into a chunk. It keeps no state besides the weights.

The noise of a chunk is a function of the seed in the request, so the same request to the same
version has the same answer, and asking again after a silence is harmless. New weights are read
and checked in the executor's thread while the old ones answer; putting them in place is one
assignment, between two requests. Weights that fail a check are refused and the old ones stay.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from poco_msgs.msg import PolicyWeights
from poco_msgs.srv import InferChunk

from poco_ros.core import config
from poco_ros.core.config import setting
from poco_ros.core.errors import CheckpointError, DataError
from poco_ros.learning.policies import Policy
from poco_ros.preset import load_preset
from poco_ros.ros import convert, names
from poco_ros.ros.fast_loop import Reply
from poco_ros.ros.node import PocoNode, run
from poco_ros.ros.parameters import declare_settings
from poco_ros.ros.settings import PolicyServerConfig
from poco_ros.ros.weights import policy_of

WEIGHTS = "policy_weights (learner)"


@dataclass(frozen=True)
class PolicyServerSettings(PolicyServerConfig):
    """Parameters of the node."""

    preset: str = setting("", "preset that gives the defaults and the task; empty: none, any task")


class NotHereYetError(DataError):
    """Weights that are asked for before they have arrived; not worth a warning."""


class PolicyServer(PocoNode):
    """Serves ``infer_chunk`` with the weights that ``policy_weights`` brings."""

    def __init__(self, arguments: Sequence[str] | None = None) -> None:
        super().__init__("policy_server", arguments)
        name = self.given.get("preset", "")
        defaults: dict[str, Any] = {}
        self.task = ""
        if name:
            preset = load_preset(str(name))
            defaults = config.to_dict(preset.graph.policy_server)
            self.task = preset.task.name
        self.settings = declare_settings(self, PolicyServerSettings, self.given, defaults)
        self._policies: dict[int, Policy] = {}
        self._newest: Policy | None = None
        self._newest_stamp = 0
        self._answered = 0
        self._times: deque[float] = deque(maxlen=200)
        self.health.figures = self._figures
        self.health.wait_for(WEIGHTS)
        self.create_subscription(PolicyWeights, names.POLICY_WEIGHTS, self._on_weights,
                                 names.weights_qos(self.settings.kept_versions))
        self.loop.serve(InferChunk, names.INFER_CHUNK, self._on_request)

    # -- weights (executor's thread) ----------------------------------------------------------

    def _on_weights(self, message: PolicyWeights) -> None:
        try:
            policy = policy_of(message)
            self._check(policy, convert.stamp_of(message.header.stamp))
        except (CheckpointError, DataError) as error:
            self.health.event("refused weights", str(error))
            return
        policy.act(policy.tensors["normalizer.mean"], 0)  # the first is slow
        policies = {version: held for version, held in self._policies.items()
                    if version != policy.version}
        policies[policy.version] = policy  # last = newest
        while len(policies) > self.settings.kept_versions:
            del policies[next(iter(policies))]
        self._newest_stamp = convert.stamp_of(message.header.stamp)
        self._policies, self._newest = policies, policy
        self.health.got(WEIGHTS)

    def _check(self, policy: Policy, stamp: int) -> None:
        """Refuse what cannot follow the weights of now; CheckpointError says why."""
        if self.task and policy.spec.task != self.task:
            raise CheckpointError(f"version {policy.version} is for task {policy.spec.task!r},"
                                  f" this server is for {self.task!r}")
        newest = self._newest
        if newest is None:
            return
        if policy.spec != newest.spec:
            raise CheckpointError(
                f"version {policy.version} has another architecture than version"
                f" {newest.version}: {difference(newest, policy)}; restart the policy server to"
                " serve another policy")
        if policy.version < newest.version:
            if stamp <= self._newest_stamp:
                raise CheckpointError(f"version {policy.version} is older than version"
                                      f" {newest.version} and was published before it")
            self.get_logger().info(f"weights went back from version {newest.version} to"
                                   f" {policy.version}: the learner was restarted")

    # -- requests (main thread) ---------------------------------------------------------------

    def _on_request(self, request: InferChunk.Request, reply: Reply) -> None:
        begun = time.perf_counter()
        try:
            policy = self._policy_for(request)
            chunk = policy.act(convert.observation_of(request), request.seed)
            if not np.isfinite(chunk).all():
                raise DataError(f"version {policy.version} made an action that is not finite")
        except NotHereYetError as error:
            reply(convert.infer_refusal(str(error)))
            return
        except DataError as error:
            reply(convert.infer_refusal(str(error)))
            self.health.event("refused request", str(error))
            return
        reply(convert.infer_response(chunk, policy.version))
        self._answered += 1
        self._times.append(time.perf_counter() - begun)

    def _policy_for(self, request: InferChunk.Request) -> Policy:
        newest = self._newest
        if newest is None:
            raise NotHereYetError("no weights yet: the learner has not published policy_weights")
        if request.task and request.task != newest.spec.task:
            raise DataError(f"the policy here is for task {newest.spec.task!r}, the request is"
                            f" for {request.task!r}")
        if request.policy_version == 0:
            return newest
        policy = self._policies.get(request.policy_version)
        if policy is None:
            raise NotHereYetError(f"version {request.policy_version} is not here; versions"
                             f" {', '.join(map(str, self._policies))} are")
        return policy

    def _figures(self) -> dict[str, object]:
        newest, times = self._newest, list(self._times)
        return {
            "policy_version": "none" if newest is None else newest.version,
            "task": "" if newest is None else newest.spec.task,
            "requests_answered": self._answered,
            "median_time_ms": f"{1e3 * float(np.median(times)):.2f}" if times else "",
        }


def difference(one: Policy, other: Policy) -> str:
    """Return how the specifications of two policies differ, in words."""
    ours, theirs = one.spec.to_json(), other.spec.to_json()
    return ", ".join(f"{key} {ours[key]} became {theirs[key]}" for key in ours
                     if ours[key] != theirs[key])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node; return its exit code."""
    return run(PolicyServer, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
