"""Environment steps/s through ROS in lock-step, against the bare loop in one process.

The graph is the real one: ``sim_bridge``, ``rollout`` and ``policy_server`` in processes of their
own. This process plays the learner: it publishes fixed weights and takes the episodes. Blocks of
episodes with the same seeds are run in turn, bare and over ROS, so that both meet the same minutes
of the machine; the ratio is the median over the blocks.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import rclpy
from poco_msgs.msg import LearnerStatus, PolicyWeights
from poco_msgs.srv import StoreEpisode

from benchmarks.graph import isolate, nodes
from poco_ros.core.episode import Episode
from poco_ros.core.rollout import run_episode
from poco_ros.core.seeding import episode_seed
from poco_ros.learning.agents import make_agent
from poco_ros.learning.policy import Policy
from poco_ros.preset import find_preset, load_preset
from poco_ros.ros import convert, names
from poco_ros.ros.fast_loop import Reply
from poco_ros.ros.node import PocoNode
from poco_ros.ros.weights import weights_to_msg
from poco_ros.training import policy_spec
from sim_bridge.factory import make_environment


class FixedLearner(PocoNode):
    """Takes episodes, never changes the weights, and lets a block of episodes run at a time."""

    def __init__(self, policy: Policy) -> None:
        super().__init__("learner")
        self.policy = policy
        self.episodes: list[Episode] = []
        self.allowed = 0
        self._status = self.create_publisher(LearnerStatus, names.LEARNER_STATUS,
                                             names.STATUS_QOS)
        weights = self.create_publisher(PolicyWeights, names.POLICY_WEIGHTS,
                                        names.weights_qos(3))
        weights.publish(weights_to_msg(1, policy.to_bytes(), policy.version, 0))
        self.loop.serve(StoreEpisode, names.STORE_EPISODE, self._on_episode)

    def _on_episode(self, request: StoreEpisode.Request, reply: Reply) -> None:
        self.episodes.append(convert.episode_of(request.episode))
        self._tell()
        reply(StoreEpisode.Response(success=True, episodes_stored=len(self.episodes)))

    def _tell(self) -> None:
        trained = min(len(self.episodes), self.allowed)
        self._status.publish(convert.learner_status_to_msg(0, convert.LearnerStatus(
            stage="online", policy_version=self.policy.version,
            episodes_stored=len(self.episodes), episodes_trained=trained,
            round_versions=(self.policy.version,) * 3)))

    def run_until(self, episodes: int, timeout: float = 120.0) -> float:
        """Let the graph make episodes until there are so many in all; return the time [s]."""
        begun = time.perf_counter()
        self.allowed = episodes - 1  # with a lag of 0, episode e waits for e to be trained on
        self._tell()
        while len(self.episodes) < episodes:
            self.loop.wait(0.05)
            if time.perf_counter() - begun > timeout:
                raise TimeoutError(f"{len(self.episodes)} of {episodes} episodes came")
        return time.perf_counter() - begun


def main() -> None:
    """Print the steps/s of both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu_cube_single")
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--episodes", type=int, default=4, help="episodes of a block")
    args = parser.parse_args()
    isolate()
    preset = load_preset(args.preset)
    policy = make_agent(preset.agent, policy_spec(preset), 0, "cpu").policy(1)
    environment = make_environment(preset.task)
    rclpy.init()
    with tempfile.TemporaryDirectory() as folder:
        path = find_preset(args.preset)
        shared = {"preset": str(path)}
        log = Path(folder) / "log"
        with nodes({"sim_bridge": shared, "policy_server": shared,
                    "rollout": {**shared, "run_dir": folder, "sync_lag": 0}}, log):
            learner = FixedLearner(policy)
            learner.run_until(1)
            run_episode(environment, policy, episode_seed(0, 0), "warm")
            bare, ros = [], []
            for block in range(args.blocks):
                first = 1 + block * args.episodes
                begun = time.perf_counter()
                episodes = [run_episode(environment, policy, episode_seed(0, number), f"b{number}")
                            for number in range(first, first + args.episodes)]
                steps = sum(map(len, episodes))
                bare.append(steps / (time.perf_counter() - begun))
                ros.append(steps / learner.run_until(first + args.episodes))
                for ours, theirs in zip(episodes, learner.episodes[first:], strict=True):
                    if not np.array_equal(ours.observations, theirs.observations):
                        raise RuntimeError(f"{theirs.id} differs from the bare loop's")
    rclpy.shutdown()
    environment.close()
    print(f"bare {statistics.median(bare):.0f} steps/s, over ROS {statistics.median(ros):.0f}")
    ratios = [r / b for r, b in zip(ros, bare, strict=True)]
    print(f"ratio from {min(ratios):.3f} to {max(ratios):.3f} over {args.blocks} blocks")
    print(f"RESULT ros_lockstep_steps_per_s={statistics.median(ros):.0f}")
    print(f"RESULT ros_lockstep_ratio={statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
