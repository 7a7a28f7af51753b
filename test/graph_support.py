"""Real nodes in real processes over real DDS, and somebody in this process who looks on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from poco_msgs.msg import EpisodeStatus, LearnerStatus, PolicyWeights
from rclpy.signals import SignalHandlerOptions

from poco_ros.cli.node import NODES
from poco_ros.core.files import write_atomic
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.rollout import run_episode
from poco_ros.core.seeding import episode_id, episode_seed
from poco_ros.learning.config import DEFAULT_ALGORITHM, shared_settings
from poco_ros.learning.policies import FlowPolicy, Policy, PolicySpec
from poco_ros.preset import Preset
from poco_ros.ros import convert, names
from poco_ros.ros.node import PocoNode
from poco_ros.training import TrainingRun, open_run
from sim_bridge.factory import make_environment

PATIENCE = 120.0
"""How long a condition may take on a busy machine before the test fails [s]."""
TASK = "cube-single-task1"

TINY: dict[str, Any] = {
    "task": {"domain": "cube-single", "max_episode_steps": 40},
    "agent": {"hidden_dim": 16, "num_layers": 2, "batch_size": 16, "num_candidates": 2,
              "flow_steps": 3, "normalize_observations": True},
    "train": {"offline_steps": 30, "offline_objective": "bc", "critic_warmup": 40, "utd": 0.5,
              "warmup_utd": 0.5, "online_steps": 400, "eval_every": 0, "checkpoint_every": 25,
              "log_every": 10},
}
"""A preset that learns nothing worth having, quickly."""


LOOPBACK_ONLY = """<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns="http://www.eprosima.com"><profiles>
  <transport_descriptors><transport_descriptor>
    <transport_id>loopback</transport_id>
    <type>UDPv4</type>
    <interfaceWhiteList><address>127.0.0.1</address></interfaceWhiteList>
    <maxInitialPeersRange>32</maxInitialPeersRange>
  </transport_descriptor></transport_descriptors>
  <participant profile_name="loopback_only" is_default_profile="true"><rtps>
    <userTransports><transport_id>loopback</transport_id></userTransports>
    <useBuiltinTransports>false</useBuiltinTransports>
    <builtin><initialPeersList>
      <locator><udpv4><address>127.0.0.1</address></udpv4></locator>
    </initialPeersList></builtin>
  </rtps></participant>
</profiles></dds>
"""
"""The range LOCALHOST would use shared memory, and a killed process leaves its part behind."""


def isolate() -> None:
    """Give this process and its children a DDS domain of their own, on this host only.

    The first ports of the domain are tried, so that two sessions on a machine do not meet.
    """
    profile = Path(tempfile.gettempdir()) / f"poco-loopback-{os.getuid()}.xml"
    if not profile.exists() or profile.read_text() != LOOPBACK_ONLY:
        write_atomic(profile, LOOPBACK_ONLY)
    os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(profile)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SYSTEM_DEFAULT"
    for domain in random.SystemRandom().sample(range(1, 101), 100):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7400 + 250 * domain + 10))
            except OSError:
                continue
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        return
    raise RuntimeError("no free DDS domain on this host")


@contextlib.contextmanager
def ros() -> Iterator[None]:
    """Have rclpy in this process, isolated."""
    isolate()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield
    finally:
        rclpy.shutdown()


def write_preset(path: Path, changes: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write the tiny preset with some settings changed, section by section.

    What another algorithm does not know of the agent's settings is left out.
    """
    given = {**TINY, "agent": shared_settings(
        TINY["agent"], changes.get("agent", {}).get("algorithm", DEFAULT_ALGORITHM))}
    sections = {*given, *changes}
    path.write_text(yaml.safe_dump(
        {key: {**given.get(key, {}), **changes.get(key, {})} for key in sections}))
    return path


def small_policy(version: int = 1, seed: int = 0, hidden_dim: int = 16,
                 task: str = TASK) -> Policy:
    """Return a policy with random weights for cube-single."""
    spec = PolicySpec("flow", task, ObservationLayout((("state", 28),)), 5, 5, hidden_dim, 2,
                      "silu", {"flow_steps": 3})
    generator = np.random.default_rng(seed)
    tensors = {"normalizer.mean": np.zeros(28, np.float32),
               "normalizer.std": np.ones(28, np.float32)}
    for name, shape in FlowPolicy.shapes(spec).items():
        tensors[name] = generator.standard_normal(shape).astype(np.float32) / np.sqrt(shape[-1]) \
            if name.endswith("weight") else np.zeros(shape, np.float32)
    return FlowPolicy(spec, tensors, version)


def run_headless(preset: Preset, folder: Path, seed: int) -> TrainingRun:
    """Run a preset to its end in this process, without ROS: what the graph must come to."""
    run = open_run(preset, folder, seed)
    environment = make_environment(preset.task)
    trainer = run.trainer
    while True:
        while run.work_due():
            run.work()
        number = trainer.episodes_added
        if trainer.environment_steps >= preset.train.online_steps:
            break
        # The graph begins an episode while the one before is trained on; the weights are the same.
        acting = trainer.acting_policy(number)
        assert acting is not None
        run.store_episode(run_episode(environment, acting, episode_seed(seed, number),
                                      episode_id(seed, number)))
    run.close()
    environment.close()
    return run


class NodeProcess:
    """One node in a process of its own; its output goes to a file."""

    def __init__(self, name: str, parameters: Mapping[str, object], log: Path,
                 preexec: Callable[[], None] | None = None) -> None:
        self.name, self.log = name, log
        words = [f for key, value in parameters.items() for f in ("-p", f"{key}:={value}")]
        self._command = [sys.executable, "-m", NODES[name], "--ros-args", *words]
        self._preexec = preexec
        self.start()

    def start(self) -> None:
        """Start the process, again after it has ended."""
        with open(self.log, "ab") as stream:
            self.process = subprocess.Popen(self._command, stdout=stream, stderr=stream,
                                            preexec_fn=self._preexec)

    def kill(self) -> None:
        """End the process as a crash would: no handler runs."""
        self.process.kill()
        self.process.wait()

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send Ctrl-C, or what else asks to stop, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def output(self) -> str:
        """Return what the process has written so far."""
        return self.log.read_text(errors="replace")

    def maps(self) -> str:
        """Return the memory maps of the process."""
        return Path(f"/proc/{self.process.pid}/maps").read_text()


class Graph:
    """Some nodes; leaving the context ends all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: dict[str, NodeProcess] = {}

    def start(self, name: str, preexec: Callable[[], None] | None = None,
              **parameters: object) -> NodeProcess:
        """Start a node."""
        self.nodes[name] = NodeProcess(name, parameters, self.folder / f"{name}.log", preexec)
        return self.nodes[name]

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes.values():
            if node.process.poll() is None:
                node.process.send_signal(signal.SIGINT)
        for node in self.nodes.values():
            try:
                node.process.wait(PATIENCE / 2)
            except subprocess.TimeoutExpired:
                node.kill()

    def logs(self) -> str:
        """Return what all nodes have written, for a failure's message."""
        return "\n".join(f"--- {name}\n{node.output()[-3000:]}"
                         for name, node in self.nodes.items())


class Onlooker(PocoNode):
    """Hears what the graph says, and waits for conditions."""

    def __init__(self, name: str = "onlooker") -> None:
        super().__init__(name)
        self.diagnostics: dict[str, list[tuple[int, str]]] = {}
        self.figures: dict[str, dict[str, str]] = {}
        self.episodes: list[EpisodeStatus] = []
        self.learner: convert.LearnerStatus | None = None
        self.weights: dict[int, PolicyWeights] = {}
        self.loop.subscribe(DiagnosticArray, names.DIAGNOSTICS, self._on_diagnostics,
                            names.DIAGNOSTICS_QOS)
        self.loop.subscribe(EpisodeStatus, names.EPISODE, self.episodes.append,
                            names.weights_qos(100))
        self.loop.subscribe(LearnerStatus, names.LEARNER_STATUS, self._on_learner,
                            names.STATUS_QOS)
        self.loop.subscribe(PolicyWeights, names.POLICY_WEIGHTS, self._on_weights,
                            names.weights_qos(20))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            level = int.from_bytes(status.level, "little")
            self.diagnostics.setdefault(status.name, []).append((level, status.message))
            self.figures[status.name] = {pair.key: pair.value for pair in status.values}

    def _on_learner(self, message: LearnerStatus) -> None:
        self.learner = convert.learner_status_of(message)

    def _on_weights(self, message: PolicyWeights) -> None:
        self.weights[message.version] = message

    def says(self, node: str, words: str, since: int = 0) -> bool:
        """Return whether a node's diagnostics had these words, from report ``since`` on."""
        return any(words in text for _, text in self.diagnostics.get(node, [])[since:])

    def reports(self, node: str) -> int:
        """Return how many reports of a node were heard."""
        return len(self.diagnostics.get(node, []))

    def until(self, condition: Callable[[], bool], what: str, graph: Graph | None = None,
              patience: float = PATIENCE) -> None:
        """Wait until ``condition`` holds, hearing messages meanwhile; fail with ``what``."""
        end = time.monotonic() + patience
        while not condition():
            self.loop.wait(0.02)
            if time.monotonic() > end:
                logs = "" if graph is None else graph.logs()
                raise AssertionError(f"not within {patience:g} s: {what}; diagnostics"
                                     f" { {n: d[-1:] for n, d in self.diagnostics.items()} }"
                                     f"\n{logs}")

    def ask(self, client: Any, request: Any, patience: float = PATIENCE) -> Any:
        """Call a service of the loop and return its answer; asked again until it comes."""
        answers: list[Any] = []
        end = time.monotonic() + patience
        while not answers:
            client.forget()
            client.call(request, answers.append)
            again = time.monotonic() + 1.0
            while not answers and time.monotonic() < again:
                self.loop.wait(0.02)
            assert time.monotonic() < end, f"no answer within {patience:g} s"
        return answers[0]
