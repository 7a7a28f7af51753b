"""What a graph is: arguments, and the nodes that follow from them."""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from poco_ros.core.config import from_dict, settings_of
from poco_ros.core.errors import ConfigError
from poco_ros.core.files import write_atomic

T = TypeVar("T")
Parameter = str | int | float | bool

AUTO = "auto"
RECORDED = ("joint_states", "features", "action_chunk", "executed_action", "reward", "episode",
            "learner_status", "operator_ready", "compressed", "diagnostics", "clock")
"""Topics of a recording; weights are left out, they are in the checkpoints."""


@dataclass(frozen=True)
class NodeSpec:
    """One node of a graph, and how its process is kept."""

    executable: str
    """Name for ``ros2 run poco_ros`` and ``poco node``."""
    name: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    """Words of its command line before those of ROS."""
    namespace: str = ""
    process: str = ""
    """Process that it shares with the others that name it; empty: it has its own."""
    nice: int = 0
    """Added to the niceness of the process; 10 = only time that others leave."""
    respawn: bool = True
    """Start it again when it died from a signal or an error."""
    ends_graph: bool = False
    """When it exits with 0 its work, and that of the graph, is done."""
    remappings: tuple[tuple[str, str], ...] = ()
    log_level: str = "info"

    def ros_arguments(self) -> list[str]:
        """Return the words that give name, namespace and parameters to the executable."""
        arguments = [*self.arguments, "--ros-args", "--log-level", self.log_level,
                     "-r", f"__node:={self.name}"]
        if self.namespace:
            arguments += ["-r", f"__ns:=/{self.namespace.strip('/')}"]
        for old, new in self.remappings:
            arguments += ["-r", f"{old}:={new}"]
        for name, value in self.parameters.items():
            # JSON quotes text, so that a path or a task never reads as a number.
            arguments += ["-p", f"{name}:={json.dumps(value)}"]
        return arguments


def processes_of(nodes: Sequence[NodeSpec]) -> list[list[NodeSpec]]:
    """Return the nodes of every process of a graph."""
    processes: dict[str, list[NodeSpec]] = {}
    for node in nodes:
        processes.setdefault(node.process or node.name, []).append(node)
    return list(processes.values())


def composed_words(nodes: Sequence[NodeSpec]) -> list[str]:
    """Return the words with which the executable ``compose`` runs nodes in one process."""
    return [word for node in nodes for word in (node.executable, *node.ros_arguments(), "--")]


@dataclass(frozen=True)
class Graph:
    """A graph that can be launched by name."""

    doc: str
    arguments: type
    resolve: Callable[[Any], Any]
    nodes: Callable[[Any], list[NodeSpec]]


def arguments_from_text(cls: type[T], texts: Mapping[str, str], source: str) -> T:
    """Return the settings ``cls`` from ``name -> text``, as launch arguments come.

    Raises:
        ConfigError: unknown name, a text that is not of the setting's type, or out of range.
    """
    known = settings_of(cls)
    values: dict[str, Any] = {}
    for name, text in texts.items():
        expected = known[name][1] if name in known else str
        values[name] = _from_text(text, expected, f"{source}: {name}:={text}")
    return from_dict(cls, values, source)


def _from_text(text: str, expected: Any, where: str) -> Parameter:
    if expected is bool:
        words = {"true": True, "1": True, "false": False, "0": False}
        if text.lower() not in words:
            raise ConfigError(f"{where}: expected true or false")
        return words[text.lower()]
    if expected in (int, float):
        try:
            return expected(text)  # type: ignore[no-any-return]
        except ValueError as error:
            raise ConfigError(f"{where}: expected {expected.__name__}") from error
    return text


def split_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """Return name -> text of ``name:=text`` words.

    Raises:
        ConfigError: a word is no assignment, or a name comes twice.
    """
    texts: dict[str, str] = {}
    for word in assignments:
        name, found, text = word.partition(":=")
        if not found or not name:
            raise ConfigError(f"{word!r}: expected name:=value, such as task:=scene")
        if name in texts:
            raise ConfigError(f"{name}:= is given twice: {texts[name]!r} and {text!r}")
        texts[name] = text
    return texts


def write_for_nodes(path: Path, text: str) -> None:
    """Write a file below the run's folder, which nodes of the graph read.

    Raises:
        ConfigError: it cannot be written there.
    """
    try:
        write_atomic(path, text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}; name another folder with run_dir:=,"
                          " or free some space") from error


def bag_command(run_dir: str) -> list[str] | None:
    """Return the command that records into ``<run_dir>/bag-...``; None without ros2 bag."""
    if not shutil.which("ros2") or importlib.util.find_spec("ros2bag") is None:
        return None
    folder = Path(run_dir) / f"bag-{time.strftime('%Y%m%d-%H%M%S')}"
    return ["ros2", "bag", "record", "--output", str(folder),
            "--regex", f".*/({'|'.join(RECORDED)})"]


NO_BAG = ("record:=true, but there is no `ros2 bag` here: the graph runs without a recording."
          " Remedy: install rosbag2 (apt: ros-<distro>-rosbag2) and source that ROS 2")
