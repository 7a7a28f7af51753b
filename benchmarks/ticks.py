"""Ticks of the arm's node while the real learner trains on the same machine.

The emulated cell, the arm's node and the learner are processes that are kept as the launcher keeps
them: each in a session of its own, the learner at a lower priority. The learner does whole updates
without a pause, several times as many as a robot's steps ask for. This process plays the rollout:
it sends a chunk for every five ticks, so that all that a tick can have to do is done. The figures
are those of the node's ``/diagnostics`` and count every tick since it came up. A bare timer at
ordinary priority, with nothing to do, tells what the machine itself makes late meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from poco_msgs.msg import ActionChunk, LearnerStatus
from poco_msgs.srv import Reset
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

from benchmarks.graph import isolate
from poco_ros.core import chunk as core
from poco_ros.core.config import to_yaml
from poco_ros.preset import load_preset
from poco_ros.processes import LEARNER_NICENESS, kept_environment
from poco_ros.robot.ticker import Phase, Ticker
from poco_ros.ros import convert, names
from poco_ros.ros.node import PocoNode

HORIZON = 5
PATIENCE = 300.0


class Sender(PocoNode):
    """Resets once, then sends chunks that move the arm to and fro."""

    def __init__(self) -> None:
        super().__init__("sender")
        self.figures: dict[str, str] = {}
        self.stamps: list[int] = []
        self.updates = self.sent = 0
        self.begins: int | None = None
        self._chunks = self.create_publisher(ActionChunk, names.ACTION_CHUNK, names.CHUNK_QOS)
        self.loop.subscribe(JointState, names.JOINT_STATES, self._on_joints, names.TICK_QOS)
        self.loop.subscribe(LearnerStatus, names.LEARNER_STATUS, self._on_learner,
                            names.STATUS_QOS)
        self.loop.subscribe(DiagnosticArray, names.DIAGNOSTICS, self._on_diagnostics,
                            names.DIAGNOSTICS_QOS)
        self.ready = self.create_publisher(Header, names.OPERATOR_READY, names.OPERATOR_QOS)
        self.resets = self.loop.client(Reset, names.RESET)

    def _on_learner(self, message: LearnerStatus) -> None:
        self.updates = convert.learner_status_of(message).updates

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "arm_controller":
                self.figures = {pair.key: pair.value for pair in status.values}

    def _on_joints(self, message: JointState) -> None:
        stamp = convert.stamp_of(message.header.stamp)
        self.stamps.append(stamp)
        if self.begins is not None and stamp >= self.begins and len(self.stamps) % HORIZON == 0:
            self.sent += 1
            actions = np.zeros((HORIZON, 7), np.float32)
            actions[:, 0], actions[:, -1] = (0.5 if self.sent % 2 else -0.5), 1.0
            self._chunks.publish(convert.chunk_to_msg(
                core.ActionChunk(actions, self.sent, 1, stamp), "ticks"))

    def begin(self) -> None:
        """Be ready, and begin an episode when the arm is home; again, until it is heard."""
        self.ready.publish(Header(stamp=convert.stamp_to_msg(time.time_ns())))
        self.resets.forget()
        self.resets.call(Reset.Request(episode_id="ticks"), self._on_reset)

    def _on_reset(self, answer: Reset.Response) -> None:
        if answer.success:
            self.begins = convert.stamp_of(answer.begins)
        else:
            self.begin()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Hear messages until ``condition`` holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            self.loop.wait(0.1)
            if time.monotonic() > end:
                raise TimeoutError(f"not within {PATIENCE:g} s: {what}")


@contextlib.contextmanager
def kept(log: Path, name: str, *words: str, nice: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Run a node or the cell as the launcher does; stop it at the end."""
    with open(log, "ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "poco_ros.cli.main", "node", name, *words], stdout=stream,
            stderr=stream, env={**os.environ, **kept_environment(nice)})
    try:
        yield process
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended early:\n{log.read_text()[-3000:]}")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def bare(seconds: float) -> None:
    """Tick with nothing to do, and print how late that was, as JSON [ms]."""
    ticker = Ticker(1.0 / 15.0, [Phase(0.0, lambda: None)], lambda error: None)
    ticker.start()
    time.sleep(seconds)
    ticker.stop()
    late = ticker.lateness()
    print(json.dumps({name: f"{1e3 * value:.3f}" for name, value in (
        ("p50", late.p50), ("p99", late.p99), ("p99.9", late.p999), ("max", late.max))}))


def main() -> None:
    """Print the lateness of ticks and how many were missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu_cube_single", help="what the learner trains")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--ordinary", action="store_true",
                        help="the arm's node at ordinary priority, as where real-time priority is"
                        " not allowed")
    parser.add_argument("--bare", action="store_true", help="the bare timer alone")
    args = parser.parse_args()
    if args.bare:
        bare(60.0 * args.minutes)
        return
    isolate()
    rclpy.init()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, sender = Path(name), Sender()
        log = folder / "log"
        preset = load_preset(args.preset)
        endless = folder / "preset.yaml"
        endless.write_text(to_yaml(replace(preset, train=replace(
            preset.train, offline_steps=1_000_000_000, offline_objective="full"))))
        stack.enter_context(kept(log, "learner", f"preset:={endless}",
                                 f"run_dir:={folder / 'run'}", nice=LEARNER_NICENESS))
        stack.enter_context(kept(log, "cell", "--folder", str(folder), "--port", "0",
                                 "--no-operator"))
        sender.until(lambda: sender.updates >= 20, "the learner trains")
        sender.until((folder / "cell.json").exists, "the cell is up")
        channel = json.loads((folder / "cell.json").read_text())["can"]["channel"]
        robot = folder / "robot.yaml"
        robot.write_text(yaml.safe_dump({
            "arm": {"interface": "poco_cell", "channel": channel,
                    "lock_folder": str(folder / "locks")},
            "control": {"realtime": not args.ordinary, "heartbeat_timeout": 0.0}}))
        stack.enter_context(kept(log, "arm_controller", f"config:={robot}"))
        sender.until(lambda: sender.figures.get("state") == "active", "the arm is up")
        sender.begin()
        sender.until(lambda: sender.begins is not None, "the arm is home")
        first, begun = sender.updates, time.monotonic()
        timer = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.ticks", "--bare", "--minutes", str(args.minutes)],
            stdout=subprocess.PIPE, text=True, start_new_session=True)
        while timer.poll() is None:
            sender.loop.wait(0.1)
        reference = json.loads(timer.communicate()[0])
        rate = (sender.updates - first) / (time.monotonic() - begun)
        sender.destroy_node()
    rclpy.shutdown()
    figures = sender.figures
    print(f"{figures['ticks']} ticks at priority {figures['priority']}, {sender.sent} chunks,"
          f" {figures['late_chunks']} late ticks, while the learner did {rate:.1f} updates/s")
    for phase in ("sense", "act"):
        print(f"{phase}: late by " + ", ".join(
            f"{name} {figures[f'{phase}_late_ms ({name})']}" for name in reference) + " ms")
    print("bare timer: late by " + ", ".join(
        f"{name} {value}" for name, value in reference.items()) + " ms")
    worst = max(float(figures[f"{phase}_late_ms (p99.9)"]) for phase in ("sense", "act"))
    print(f"RESULT tick_error_p999_ms={worst:.3f}")
    print(f"RESULT missed_ticks={figures['missed_ticks']}")


if __name__ == "__main__":
    main()
