"""Environment steps/s through ROS in lock-step, against the bare loop in one process.

The graph is the real one, twice: ``rollout``, ``policy_server`` and ``sim_bridge`` composed in one
process, as a lock-step graph is launched, and in a process each. This process plays the learner:
it publishes fixed weights and takes the episodes. Blocks of episodes with the same seeds are run
in turn, bare and over both graphs, so that all meet the same minutes of the machine; a ratio is
the median over the blocks. The second half of the blocks is run beside a process that trains, at
the niceness that the launcher gives to the learner.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import multiprocessing.synchronize
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
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
from poco_ros.learning.policies import Policy
from poco_ros.preset import Preset, find_preset, load_preset
from poco_ros.processes import LEARNER_NICENESS, lower_priority
from poco_ros.ros import convert, names
from poco_ros.ros.fast_loop import Reply
from poco_ros.ros.node import PocoNode
from poco_ros.ros.weights import weights_to_msg
from poco_ros.training import signature_of
from sim_bridge.factory import make_environment

GRAPHS = {"composed": True, "separate": False}
"""Namespace of a graph -> whether its nodes are composed in one process."""


class FixedLearner(PocoNode):
    """Takes episodes, never changes the weights, and lets a block of episodes run at a time."""

    def __init__(self, policy: Policy, namespace: str, lag: int) -> None:
        super().__init__("learner", ["--ros-args", "-r", f"__ns:=/{namespace}"])
        self.policy, self.lag = policy, lag
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
        # Episode e waits for all before e - lag to be trained on.
        self.allowed = max(0, episodes - 1 - self.lag)
        self._tell()
        while len(self.episodes) < episodes:
            self.loop.wait(0.05)
            if time.perf_counter() - begun > timeout:
                raise TimeoutError(f"{len(self.episodes)} of {episodes} episodes came")
        return time.perf_counter() - begun


class Comparison:
    """Blocks of the same episodes, bare and over every graph."""

    def __init__(self, preset: Preset, policy: Policy, learners: Sequence[FixedLearner]) -> None:
        self._policy, self._learners = policy, learners
        self._environment = make_environment(preset.task)
        self._done = 1 + max(learner.lag for learner in learners)
        for learner in learners:  # the first are slow
            learner.run_until(self._done)
        run_episode(self._environment, policy, episode_seed(0, 0), "warm")

    def run(self, blocks: int, episodes: int) -> dict[str, list[float]]:
        """Return steps/s of every block: ``bare``, and by the namespaces of the graphs.

        Raises:
            RuntimeError: an episode over ROS differs from the bare loop's.
        """
        rates: dict[str, list[float]] = {"bare": []}
        for _ in range(blocks):
            first, self._done = self._done, self._done + episodes
            begun = time.perf_counter()
            bare = [run_episode(self._environment, self._policy, episode_seed(0, number), "bare")
                    for number in range(first, self._done)]
            steps = sum(map(len, bare))
            rates["bare"].append(steps / (time.perf_counter() - begun))
            for learner in self._learners:
                name = learner.get_namespace().strip("/")
                rates.setdefault(name, []).append(steps / learner.run_until(self._done))
                for ours, theirs in zip(bare, learner.episodes[first:], strict=True):
                    if not np.array_equal(ours.observations, theirs.observations):
                        raise RuntimeError(f"{name}: {theirs.id} differs from the bare loop's")
        return rates

    def close(self) -> None:
        """Release the simulator."""
        self._environment.close()


@contextlib.contextmanager
def training(preset_name: str) -> Iterator[None]:
    """Train in a process of its own, at the niceness of the learner, while the block runs."""
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    process = context.Process(target=_train, args=(preset_name, begun), daemon=True)
    process.start()
    try:
        if not begun.wait(120.0) or not process.is_alive():
            raise RuntimeError("the training process did not get going")
        yield
        if not process.is_alive():
            raise RuntimeError("the training process ended early")
    finally:
        process.kill()
        process.join()


def _train(preset_name: str, begun: multiprocessing.synchronize.Event) -> None:
    os.setsid()  # niceness acts on a whole session where the kernel shares between sessions
    lower_priority(LEARNER_NICENESS)
    import torch  # of this process alone: nothing that acts knows it

    from benchmarks.update import update_of
    torch.set_num_threads(1)
    preset = load_preset(preset_name)
    update = update_of(preset.agent, preset.task.observation.size, preset.task.action_dim)
    update()
    begun.set()
    while True:
        update()


def report(rates: dict[str, list[float]], suffix: str = "") -> None:
    """Print the medians, and the ratios to the bare loop with their ranges."""
    for name in GRAPHS:
        ratios = [r / b for r, b in zip(rates[name], rates["bare"], strict=True)]
        print(f"{name}{suffix.replace('_', ' ')}: {statistics.median(rates[name]):.0f} steps/s,"
              f" bare {statistics.median(rates['bare']):.0f}, ratio from {min(ratios):.3f} to"
              f" {max(ratios):.3f} over {len(ratios)} blocks")
        kind = "" if GRAPHS[name] else f"_{name}"
        result = f"RESULT ros_lockstep{kind}{suffix}"
        print(f"{result}_steps_per_s={statistics.median(rates[name]):.0f}")
        print(f"{result}_ratio={statistics.median(ratios):.3f}", flush=True)


def main() -> None:
    """Print the steps/s of all and their ratios, alone and beside a training process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu_cube_single")
    parser.add_argument("--blocks", type=int, default=9, help="blocks of each half")
    parser.add_argument("--episodes", type=int, default=4, help="episodes of a block")
    args = parser.parse_args()
    isolate()
    preset = load_preset(args.preset)
    policy = make_agent(preset.agent, signature_of(preset), 0, "cpu").policy(1)
    rclpy.init()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as graphs:
        shared = {"preset": str(find_preset(args.preset))}
        for name, composed in GRAPHS.items():
            run = {"rollout": {**shared, "run_dir": f"{folder}/{name}"},
                   "policy_server": shared, "sim_bridge": shared}
            graphs.enter_context(nodes(run, Path(folder) / f"{name}.log", composed=composed,
                                       namespace=name))
        comparison = Comparison(preset, policy, [
            FixedLearner(policy, name, preset.train.sync_lag) for name in GRAPHS])
        report(comparison.run(args.blocks, args.episodes))
        with training(args.preset):
            report(comparison.run(args.blocks, args.episodes), "_training")
        comparison.close()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
