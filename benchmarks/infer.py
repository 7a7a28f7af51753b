"""``infer_chunk`` over ROS at the CPU preset, while the real learner trains on the same machine.

Policy server and learner are real nodes in processes of their own, the learner at the niceness
that the launcher gives it. This process asks, one request after the other, as a rollout does.
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
from poco_msgs.srv import InferChunk

from benchmarks.graph import isolate, nodes
from poco_ros.learning.agents import make_agent
from poco_ros.preset import Preset, find_preset, load_preset
from poco_ros.ros import convert, names
from poco_ros.ros.node import PocoNode
from poco_ros.ros.weights import weights_to_msg
from poco_ros.training import signature_of


class Asker(PocoNode):
    """Publishes weights and asks for chunks."""

    def __init__(self, preset: Preset) -> None:
        super().__init__("asker")
        policy = make_agent(preset.agent, signature_of(preset), 0, "cpu").policy(1)
        self.task, self.size = preset.task.name, policy.spec.observation.size
        weights = self.create_publisher(PolicyWeights, names.POLICY_WEIGHTS,
                                        names.weights_qos(3))
        weights.publish(weights_to_msg(1, policy.to_bytes(), 1, 0))
        self.loop.subscribe(LearnerStatus, names.LEARNER_STATUS, self._on_status,
                            names.STATUS_QOS)
        self.client = self.loop.client(InferChunk, names.INFER_CHUNK)
        self.updates = 0

    def _on_status(self, message: LearnerStatus) -> None:
        self.updates = convert.learner_status_of(message).updates

    def ask(self, number: int) -> float:
        """Ask for a chunk and return how long the answer took [s]; inf when it was refused."""
        generator = np.random.default_rng(number)
        observation = generator.standard_normal(self.size).astype(np.float32)
        answers: list[InferChunk.Response] = []
        begun = time.perf_counter()
        self.client.forget()
        self.client.call(convert.infer_request(self.task, observation, number, 0), answers.append)
        while not answers and time.perf_counter() - begun < 1.0:
            self.loop.wait(0.1)
        took = time.perf_counter() - begun
        return took if answers and answers[0].success else float("inf")


def main() -> None:
    """Print median and 99th percentile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu_cube_single")
    parser.add_argument("--requests", type=int, default=1000)
    args = parser.parse_args()
    isolate()
    path = find_preset(args.preset)
    rclpy.init()
    with tempfile.TemporaryDirectory() as folder:
        run = {"preset": path, "run_dir": Path(folder) / "run"}
        with nodes({"policy_server": {"preset": path}, "learner": run}, Path(folder) / "log",
                   nice=("learner",)):
            asker = Asker(load_preset(args.preset))
            end = time.monotonic() + 300.0
            while asker.updates < 20 or asker.ask(0) == float("inf"):
                asker.loop.wait(0.1)
                if time.monotonic() > end:
                    raise TimeoutError("policy server or learner did not get going")
            first = asker.updates
            begun = time.monotonic()
            times = []
            for number in range(args.requests):
                times.append(asker.ask(number))
                time.sleep(0.005)
            while asker.updates == first:
                asker.loop.wait(0.1)
            rate = (asker.updates - first) / (time.monotonic() - begun)
    rclpy.shutdown()
    print(f"{args.requests} requests while the learner did {rate:.0f} updates/s")
    print(f"RESULT infer_chunk_ms={1e3 * statistics.median(times):.2f}")
    print(f"RESULT infer_chunk_p99_ms={1e3 * statistics.quantiles(times, n=100)[98]:.2f}")


if __name__ == "__main__":
    main()
