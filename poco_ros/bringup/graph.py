"""Which processes make a graph: one list, read by ``launch/*.launch.py`` and by ``poco launch``.

A graph is a function from its arguments to its nodes. The arguments are declared once, as
settings, so ``ros2 launch poco_ros sim_scene.launch.py --show-args`` and ``poco launch sim_scene
--help`` tell the same. To add a graph: a settings class, a function, a line in :data:`GRAPHS`.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from poco_ros.core.config import from_dict, setting, settings_of, to_yaml
from poco_ros.core.errors import ConfigError
from poco_ros.core.files import write_atomic
from poco_ros.core.task import SIMULATED_DOMAINS
from poco_ros.preset import find_preset, load_preset
from poco_ros.processes import LEARNER_NICENESS

T = TypeVar("T")
Parameter = str | int | float | bool

AUTO = "auto"
RECORDED = ("joint_states", "features", "action_chunk", "executed_action", "reward", "episode",
            "learner_status", "diagnostics", "clock")
"""Topics of a recording; weights are left out, they are in the checkpoints."""


@dataclass(frozen=True)
class NodeSpec:
    """One node of a graph, and how its process is kept."""

    executable: str
    """Name for ``ros2 run poco_ros`` and ``poco node``."""
    name: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    namespace: str = ""
    nice: int = 0
    """Added to the niceness of the process; 10 = only time that others leave."""
    respawn: bool = True
    """Start it again when it died from a signal or an error."""
    ends_graph: bool = False
    """When it exits with 0 its work, and that of the graph, is done."""
    remappings: tuple[tuple[str, str], ...] = ()
    log_level: str = "info"

    def ros_arguments(self) -> list[str]:
        """Return the arguments that give name, namespace and parameters to the executable."""
        arguments = ["--ros-args", "--log-level", self.log_level, "-r", f"__node:={self.name}"]
        if self.namespace:
            arguments += ["-r", f"__ns:=/{self.namespace.strip('/')}"]
        for old, new in self.remappings:
            arguments += ["-r", f"{old}:={new}"]
        for name, value in self.parameters.items():
            # JSON quotes text, so that a path or a task never reads as a number.
            arguments += ["-p", f"{name}:={json.dumps(value)}"]
        return arguments


@dataclass(frozen=True)
class SimSceneArguments:
    """Arguments of the simulated graph: a robot in simulation that learns while it works."""

    task: str = setting(
        AUTO, "simulated domain; auto: the preset's, or cube-single when no preset is named",
        choices=(AUTO, *SIMULATED_DOMAINS))
    task_number: int = setting(0, "single-task variant of the domain; 0: the preset's",
                               minimum=0, maximum=5)
    preset: str = setting(
        AUTO, "name of a preset in config/, or the path of one; auto: cpu_<task>")
    seed: int = setting(0, "seed of the run: resets, noise, learning", minimum=0)
    pace: str = setting("lockstep", "lockstep: as fast as it goes, reproducible; realtime: at the"
                        " control rate of the task", choices=("lockstep", "realtime"))
    checkpoint: str = setting(
        "", "folder of a checkpoint to start from; empty: clone the demonstrations first")
    run_dir: str = setting(
        "", "folder of the run, continued when it exists; empty: runs/<task>-<date>-<time>")
    namespace: str = setting("", "namespace of all nodes; empty: none")
    record: bool = setting(False, "record the graph's topics into <run_dir>/bag with ros2 bag")
    use_sim_time: bool = setting(False, "nodes take their time from /clock")
    log_level: str = setting("info", "least severe log message that nodes print",
                             choices=("debug", "info", "warn", "error", "fatal"))


def resolve(arguments: SimSceneArguments) -> SimSceneArguments:
    """Return ``arguments`` with nothing left open: preset and folders as absolute paths.

    A task that is not the preset's own is laid over it, and the outcome written into the run's
    folder, so that every node reads one and the same preset.

    Raises:
        ConfigError: no such preset, a bad one, or no such checkpoint.
    """
    domain = "cube-single" if arguments.task == AUTO else arguments.task
    name = f"cpu_{domain.replace('-', '_')}" if arguments.preset == AUTO else arguments.preset
    path = find_preset(name).resolve()
    task = load_preset(path).task
    overrides: dict[str, Any] = {}
    if arguments.task not in (AUTO, task.domain):
        overrides["domain"] = arguments.task
    if arguments.task_number not in (0, task.number):
        overrides["number"] = arguments.task_number
    preset = load_preset(path, {"task": overrides})

    stamp = time.strftime("%Y%m%d-%H%M%S")
    run_dir = Path(arguments.run_dir or f"runs/{preset.task.name}-{stamp}").expanduser().resolve()
    if overrides:
        path = run_dir / "launch_preset.yaml"
        write_atomic(path, to_yaml(preset))
    checkpoint = Path(arguments.checkpoint).expanduser().resolve()
    if arguments.checkpoint and not checkpoint.exists():
        raise ConfigError(f"checkpoint:={arguments.checkpoint}: there is no such checkpoint")
    return replace(arguments, task=preset.task.domain, task_number=preset.task.number,
                   preset=str(path), run_dir=str(run_dir),
                   checkpoint=str(checkpoint) if arguments.checkpoint else "")


def sim_scene(arguments: SimSceneArguments) -> list[NodeSpec]:
    """Return the nodes of the simulated graph; ``arguments`` must be resolved."""
    a = arguments
    shared: dict[str, Parameter] = {"preset": a.preset, "use_sim_time": a.use_sim_time}

    def node(executable: str, parameters: Mapping[str, Parameter], **kept: Any) -> NodeSpec:
        return NodeSpec(executable, executable, {**shared, **parameters}, a.namespace,
                        log_level=a.log_level, **kept)

    return [
        node("sim_bridge", {"task": a.task, "task_number": a.task_number, "pace": a.pace,
                            "seed": a.seed}),
        node("policy_server", {}),
        node("rollout", {"run_dir": a.run_dir, "seed": a.seed, "pace": a.pace}),
        node("learner", {"run_dir": a.run_dir, "seed": a.seed, "checkpoint": a.checkpoint},
             nice=LEARNER_NICENESS, ends_graph=True),
    ]


@dataclass(frozen=True)
class Graph:
    """A graph that can be launched by name."""

    doc: str
    arguments: type
    resolve: Callable[[Any], Any]
    nodes: Callable[[Any], list[NodeSpec]]


GRAPHS: dict[str, Graph] = {
    "sim_scene": Graph("a simulated robot that learns while it works", SimSceneArguments,
                       resolve, sim_scene),
}


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


def bag_command(run_dir: str) -> list[str] | None:
    """Return the command that records a graph into ``<run_dir>/bag``; None without ros2 bag."""
    if not shutil.which("ros2") or importlib.util.find_spec("ros2bag") is None:
        return None
    folder = Path(run_dir) / f"bag-{time.strftime('%Y%m%d-%H%M%S')}"
    return ["ros2", "bag", "record", "--output", str(folder),
            "--regex", f".*/({'|'.join(RECORDED)})"]


NO_BAG = ("record:=true, but there is no `ros2 bag` here: the graph runs without a recording."
          " Remedy: install rosbag2 (apt: ros-<distro>-rosbag2) and source that ROS 2")
