"""From a tick's observation to its chunk, in the robot's whole graph beside a learner that trains.

The emulated cell, the three hardware nodes, rollout, policy server and a learner that trains, on
the same two cores. What is measured is from the stamp of the joints' measurement, on the CAN bus,
to the arrival of the chunk that answers it, where the arm controller would hear it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import rclpy
from poco_msgs.msg import ActionChunk, LearnerStatus

from benchmarks.graph import isolate
from poco_ros.bringup.robot import RealFinetuneArguments, real_finetune, resolve_finetune
from poco_ros.cli.launch import command_of
from poco_ros.core.config import to_yaml
from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.preset import load_preset
from poco_ros.processes import kept_environment
from poco_ros.ros import convert, names
from poco_ros.ros.node import PocoNode


class Listener(PocoNode):
    """Notes when chunks arrive, and whether the learner trains."""

    def __init__(self) -> None:
        super().__init__("listener")
        self.latencies: list[float] = []
        self.updates = 0
        self.loop.subscribe(ActionChunk, names.ACTION_CHUNK, self._on_chunk, names.CHUNK_QOS)
        self.loop.subscribe(LearnerStatus, names.LEARNER_STATUS, self._on_learner,
                            names.STATUS_QOS)

    def _on_chunk(self, message: ActionChunk) -> None:
        self.latencies.append((time.time_ns() - convert.stamp_of(message.header.stamp)) / 1e6)

    def _on_learner(self, message: LearnerStatus) -> None:
        self.updates = message.updates


def write_preset(name: str, folder: Path) -> Path:
    """Write the preset with random demonstrations: what is learned does not matter here."""
    preset = load_preset(name)
    generator = np.random.default_rng(0)
    store = EpisodeStore(folder / "taught")
    for number in range(20):
        store.add(Episode(
            id=f"random-{number}",
            observations=generator.standard_normal((101, preset.task.observation.size)),
            actions=generator.uniform(-0.3, 0.3, (100, preset.task.action_dim)),
            rewards=(np.arange(100) == 99).astype(np.float32), terminated=True, truncated=False,
            outcome=Outcome.SUCCESS, task=preset.task.name))
    path = folder / "preset.yaml"
    # A long warm-up: the learner has updates to do all the time.
    path.write_text(to_yaml(replace(
        preset, demonstrations=replace(preset.demonstrations, path=store.folder),
        train=replace(preset.train, offline_steps=20, utd=1000.0, critic_warmup=10))))
    return path


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu_pick_cube")
    parser.add_argument("--chunks", type=int, default=400)
    args = parser.parse_args()
    isolate()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        arguments = resolve_finetune(RealFinetuneArguments(
            preset=str(write_preset(args.preset, folder)), hardware="emulated",
            run_dir=str(folder / "run")))
        log = stack.enter_context(open(folder / "log", "wb"))
        for spec in real_finetune(arguments):
            process = subprocess.Popen(command_of(spec), stdout=log, stderr=log,
                                       env={**os.environ, **kept_environment(spec.nice)})
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)
        rclpy.init()
        listener = Listener()
        wait(listener, 1, 180.0, folder / "log")
        listener.latencies.clear()
        begun, updates = time.monotonic(), listener.updates
        wait(listener, args.chunks, 600.0, folder / "log")
        rate = (listener.updates - updates) / (time.monotonic() - begun)
        found = np.sort(listener.latencies)
        listener.destroy_node()
        rclpy.shutdown()
    print(f"{len(found)} chunks beside {rate:.1f} updates/s; ms: median"
          f" {statistics.median(found):.1f}, p90 {np.quantile(found, 0.9):.1f}, most"
          f" {found[-1]:.1f}")
    print(f"RESULT observation_to_chunk_ms={statistics.median(found):.2f}")
    print(f"RESULT observation_to_chunk_p99_ms={np.quantile(found, 0.99):.2f}")


def wait(listener: Listener, chunks: int, patience: float, log: Path) -> None:
    """Wait until so many chunks have come."""
    end = time.monotonic() + patience
    while len(listener.latencies) < chunks:
        listener.loop.wait(0.02)
        if time.monotonic() > end:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
            raise TimeoutError(f"{len(listener.latencies)} of {chunks} chunks came\n{tail}")


if __name__ == "__main__":
    main()
