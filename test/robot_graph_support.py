"""The robot's graph beside the emulated cell, and a person at its keypad and its plugs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import yaml
from cell_support import wait_until
from graph_support import PATIENCE, Onlooker
from poco_msgs.msg import EpisodeStatus
from poco_msgs.msg import ExecutedAction as ExecutedActionMsg
from rcl_interfaces.msg import Log

from poco_ros.bringup import GRAPHS, NodeSpec
from poco_ros.cli.launch import command_of
from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.joining import ExecutedAction, TickStatus
from poco_ros.processes import kept_environment
from poco_ros.ros import convert, names

QUICK = Path(__file__).resolve().parent.parent / "config/cell/quick.yaml"
HOME = (0.0, 1.2, -1.0, 0.0, 0.9, 0.0)
FEATURES = 128
LIMIT = 120
"""Steps of an episode without a label: time for two words to be typed on a busy machine."""
HALT = re.compile("-> (holding|stopped)")
"""In what the arm's node logs: from now on it executes nothing."""
PRESET: dict[str, Any] = {
    "task": {"domain": "robot", "title": "pick-cube", "features": {"front": FEATURES},
             "max_episode_steps": LIMIT},
    "demonstrations": {"kind": "episodes"},
    "agent": {"hidden_dim": 16, "num_layers": 2, "batch_size": 16, "num_candidates": 2,
              "flow_steps": 3, "normalize_observations": True},
    "train": {"offline_steps": 150, "offline_objective": "bc", "critic_warmup": 40, "utd": 0.1,
              "warmup_utd": 0.5, "online_steps": 100_000, "eval_every": 0,
              "checkpoint_every": 50, "log_every": 10},
    "graph": {"rollout": {"correction_window": 0.5}},
}


def write_robot_preset(folder: Path, changes: Mapping[str, Mapping[str, Any]] = {}) -> Path:
    """Write a preset that learns to turn the first joint; nothing else is demonstrated."""
    generator = np.random.default_rng(0)
    store = EpisodeStore(folder / "taught")
    size = FEATURES + 7
    for number in range(4):
        actions = np.zeros((30, 7), np.float32)
        actions[:, 0], actions[:, -1] = 0.25, 0.9
        store.add(Episode(
            id=f"taught-{number}", observations=generator.standard_normal((31, size)),
            actions=actions, rewards=(np.arange(30) == 29).astype(np.float32), terminated=True,
            truncated=False, outcome=Outcome.SUCCESS, task="pick-cube", source="demonstration"))
    path = folder / "preset.yaml"
    sections = {**PRESET, **changes}
    values = {key: {**PRESET.get(key, {}), **changes.get(key, {})} for key in sections}
    values["demonstrations"] = {**values["demonstrations"], "path": str(folder / "taught")}
    path.write_text(yaml.safe_dump(values))
    return path


class RobotGraph:
    """The processes of ``poco launch GRAPH hardware:=emulated``."""

    def __init__(self, place: Path, preset: Path, graph: str = "real_finetune",
                 operator: bool = False, **arguments: Any) -> None:
        """Take a folder, a graph, whether the operator presses keys by himself, and arguments."""
        cell = place / "cell.yaml"
        values = yaml.safe_load(QUICK.read_text())
        values["operator"]["enabled"] = operator
        cell.write_text(yaml.safe_dump(values))
        self.folder = place
        launched = GRAPHS[graph]
        self.arguments = launched.resolve(launched.arguments(
            preset=str(preset), hardware="emulated", cell=str(cell), run_dir=str(place / "run"),
            **arguments))
        self.specs: dict[str, NodeSpec] = {
            spec.name: spec for spec in launched.nodes(self.arguments)}
        self.home = np.array(values.get("scene", {}).get("home", HOME))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        port = yaml.safe_load(Path(self.arguments.cell).read_text())["port"]
        self._control = f"http://127.0.0.1:{port}"

    @contextmanager
    def up(self, *nodes: str) -> Iterator[RobotGraph]:
        """Run ``nodes``; none = all, and the cell."""
        try:
            for name in nodes or self.specs:
                self.start(name)
            yield self
        finally:
            for process in reversed(self.processes.values()):
                process.send_signal(signal.SIGINT)
            for process in self.processes.values():
                process.wait(30)

    def start(self, name: str) -> None:
        """Start a node, again after it has ended."""
        spec = self.specs[name]
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                command_of(spec), stdout=log, stderr=log,
                env={**os.environ, **kept_environment(spec.nice)})

    def kill(self, name: str) -> None:
        """End a node as a crash would: no handler runs."""
        self.processes[name].kill()
        self.processes[name].wait()

    def logs(self) -> str:
        """Return what all nodes have written, for a failure's message."""
        return "\n".join(f"--- {name}\n{(self.folder / f'{name}.log').read_text()[-2500:]}"
                         for name in self.processes)

    def press(self, key: str) -> None:
        """Press a key of the keypad."""
        wait_until(lambda: self.ask(f"key/{key}")["heard"], f"somebody hears the key {key}")

    def fault(self, name: str, **parameters: float) -> None:
        """Begin a fault that lasts, or end all with ``clear``."""
        query = urlencode({} if name == "clear" else {"seconds": 0, **parameters})
        self.ask(f"fault/{name}?{query}")

    def ask(self, path: str) -> Any:
        """Return the cell's answer."""
        with urllib.request.urlopen(f"{self._control}/{path}", timeout=10) as response:
            return json.loads(response.read())

    def speed(self) -> float:
        """Return how fast the fastest joint moves [rad/s]."""
        return float(np.abs(self.ask("truth")["velocities"]).max())

    def away(self) -> float:
        """Return how far from home the joint is that is furthest [rad]."""
        return float(np.abs(np.array(self.ask("truth")["joints"]) - self.home).max())

    def at_home(self) -> bool:
        """Return whether the arm is home."""
        return self.away() < 0.06

    def stands_within(self, seconds: float) -> bool:
        """Return whether the arm comes to rest in so much time, and stays at rest for 0.3 s."""
        end, still_since = time.monotonic() + seconds, None
        while time.monotonic() < end + 0.35:
            now = time.monotonic()
            if self.speed() > 0.05:
                still_since = None
                if now > end:
                    return False
            elif still_since is None:
                still_since = now
            elif now - still_since > 0.3:
                return True
            time.sleep(0.01)
        return still_since is not None


class Watcher(Onlooker):
    """Waits for phases of the rollout's episodes, and notes when what was done and noticed."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.executed: list[ExecutedAction] = []
        self._halts: list[tuple[int, str]] = []
        """When the arm's node said that it holds or stops [ns], and what it said."""
        self.loop.subscribe(
            ExecutedActionMsg, names.EXECUTED_ACTION,
            lambda message: self.executed.append(convert.executed_of(message)), names.TICK_QOS)
        self.loop.subscribe(Log, "/rosout", self._on_log, names.TICK_QOS)

    def _on_log(self, message: Log) -> None:
        if message.name == "arm_controller" and HALT.search(message.msg):
            self._halts.append((convert.stamp_of(message.stamp), message.msg))

    def noticed(self, since: int) -> tuple[int, str] | None:
        """Return when and by whom something was noticed first, after ``since`` [ns]; or None.

        The arm's node holds or stops, or the rollout closes the episode.
        """
        seen = [(at, "arm_controller") for at, _ in self._halts if at > since]
        seen += [(at, "rollout") for episode in self.episodes if episode.phase ==
                 EpisodeStatus.ENDED and (at := convert.stamp_of(episode.header.stamp)) > since]
        return min(seen, default=None)

    def motions(self, episode: str) -> list[int]:
        """Return the stamps [ns] of the ticks in which an action of the episode was executed."""
        return [tick.stamp for tick in self.executed if tick.episode_id == episode
                and tick.status in (TickStatus.NOMINAL, TickStatus.LIMITED)]

    def wait(self, graph: RobotGraph, condition: Callable[[], bool], what: str,
             patience: float = PATIENCE) -> None:
        """Wait for a condition; a failure shows what the nodes said."""
        try:
            self.until(condition, what, patience=patience)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{graph.logs()}") from None
