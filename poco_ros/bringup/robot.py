"""The robot's graphs: it learns while it works, or a person teaches it.

With ``hardware:=emulated`` the emulated cell is one more process of the graph, and the hardware
nodes are given the names of its plugs. They cannot tell the difference, and neither can this
module's other half.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from poco_ros.bringup.graph import Graph, NodeSpec, Parameter, write_for_nodes
from poco_ros.core.config import from_dict, merge, read_yaml, setting, to_yaml
from poco_ros.core.errors import ConfigError
from poco_ros.preset import find_preset, find_settings, load_preset
from poco_ros.processes import LEARNER_NICENESS
from poco_ros.robot.vision_config import VisionConfig

LEADER, HAND = "leader", "hand"
CELL_INTERFACE = "poco_cell"
"""python-can interface of the emulated cell; the cell is tested to have these names."""
ENDLESS = 1_000_000
PATHS = ("encoder", "pictures", "checkpoint", "demonstrations", "folder")
"""Arguments that are paths, and may be left empty."""
T = TypeVar("T", bound="RobotArguments")


@dataclass(frozen=True)
class RobotArguments:
    """What every graph of the robot is told."""

    preset: str = setting("cpu_pick_cube", "name of a preset in config/, or the path of one")
    hardware: str = setting(
        "real", "real: the devices that the settings name; emulated: the emulated cell, started"
        " here", choices=("real", "emulated"))
    robot: str = setting("robot/piper.yaml", "settings of the arm: a path, or a name in config/")
    cameras: str = setting("", "settings of cameras and encoder; empty: robot/cameras.yaml, or"
                           " rehearsal/cameras.yaml with emulated hardware")
    keypad: str = setting("robot/keypad.yaml", "settings of the operator's keypad")
    encoder: str = setting("", "weights of the encoder; empty: as in the settings of the cameras")
    pictures: str = setting("", "folder to keep pictures in, for poco encoder fit; empty: none")
    pictures_rate: float = setting(5.0, "pictures a second of each camera that are kept",
                                   minimum=0.1, maximum=60.0)
    cell: str = setting("cell/pick_cube.yaml", "settings of the emulated cell")
    namespace: str = setting("", "namespace of all nodes; empty: none")
    run_dir: str = setting("", "folder of the run; empty: runs/<task>-<date>-<time>")
    record: bool = setting(False, "record the graph's topics but raw pictures and weights into"
                           " <run_dir>/bag-<date>-<time> with ros2 bag")
    log_level: str = setting("info", "least severe log message that nodes print",
                             choices=("debug", "info", "warn", "error", "fatal"))


@dataclass(frozen=True)
class RealFinetuneArguments(RobotArguments):
    """Arguments of the graph in which the robot learns while it works."""

    seed: int = setting(0, "seed of the run: noise, learning", minimum=0)
    demonstrations: str = setting(
        "", "folder of the demonstrations; empty: the preset's, runs/data/<task>-taught")
    checkpoint: str = setting(
        "", "policy file or run folder to start from; empty: clone the demonstrations first")
    evaluate: int = setting(
        0, "only try the policy of checkpoint in so many episodes, and learn nothing; 0: learn",
        minimum=0)


@dataclass(frozen=True)
class TeachArguments(RobotArguments):
    """Arguments of the graph in which a person teaches the robot."""

    folder: str = setting("", "folder of the demonstrations; empty: runs/data/<task>-taught")
    episodes: int = setting(0, "end when the folder has so many of this source that can be learned"
                            " from, those that were there before included; 0 = when stopped",
                            minimum=0)
    by: str = setting(LEADER, "leader: with a leader arm on the same bus; hand: the arm is led by"
                      " hand, in its drag-teaching mode", choices=(LEADER, HAND))
    source: str = setting("demonstration", "demonstration, or recovery: it begins where the policy"
                          " tends to fail", choices=("demonstration", "recovery"))


def _resolve(arguments: T, changes: Mapping[str, Any]) -> T:
    """Return ``arguments`` with absolute paths, and the files that the nodes read written.

    ``changes`` are laid over the preset. With emulated hardware the settings of the arm, the
    cameras and the keypad name the plugs of a cell that is about to be started.

    Raises:
        ConfigError: a file is missing or wrong, the preset is for a simulated task, or nothing can
            be written into the run's folder.
    """
    path = find_preset(arguments.preset).resolve()
    preset = load_preset(path, changes)
    if preset.task.simulated:
        raise ConfigError(f"preset {arguments.preset}: {preset.task.name} is a simulated task; use"
                          " the graph sim_scene, or a preset with domain robot")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    run_dir = Path(arguments.run_dir or f"runs/{preset.task.name}-{stamp}").expanduser().resolve()
    folder = run_dir / "launch"
    emulated = arguments.hardware == "emulated"
    cameras = arguments.cameras or ("rehearsal" if emulated else "robot") + "/cameras.yaml"
    names = {"robot": arguments.robot, "cameras": cameras, "keypad": arguments.keypad,
             "cell": arguments.cell}
    files = {kind: read_yaml(find_settings(name)) for kind, name in names.items()}
    if emulated:
        cameras_there = from_dict(VisionConfig, files["cameras"],
                                  str(find_settings(cameras))).cameras
        files = _plugged_into_cell(files, [camera.name for camera in cameras_there],
                                   list(preset.task.features))
    if isinstance(arguments, TeachArguments):
        files["robot"] = merge(files["robot"], {"arm": {
            "other_controllers": LEADER if arguments.by == LEADER else "refuse"}})
        files["cell"] = merge(files["cell"], {"leader": {"demonstrations": ENDLESS}})
    written: dict[str, Any] = {}
    for name, values in files.items():
        written[name] = str(folder / f"{name}.yaml")
        write_for_nodes(Path(written[name]), yaml.safe_dump(values, sort_keys=False))
    write_for_nodes(folder / "preset.yaml", to_yaml(preset))
    here: dict[str, Any] = {
        field.name: _absolute(getattr(arguments, field.name))
        for field in fields(arguments) if field.name in PATHS}
    return replace(arguments, preset=str(folder / "preset.yaml"), run_dir=str(run_dir),
                   **written, **here)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve()) if path else ""


def _plugged_into_cell(files: Mapping[str, dict[str, Any]], known: list[str],
                       wanted: list[str]) -> dict[str, dict[str, Any]]:
    """Return the settings with the names of the plugs of a cell of our own.

    ``known`` are the names of the cameras in the settings, ``wanted`` those of the task.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Not below the run's folder: the name of a socket has at most 107 characters.
    folder = Path(tempfile.gettempdir()) / f"poco_cell_{os.getuid()}_{port}"
    said = dict(zip(known, files["cameras"].get("cameras", [{}]), strict=True))
    plugged = [{**said.get(name, {}), "name": name,
                "source": f"http://127.0.0.1:{port}/camera/{name}.mjpg"} for name in wanted]
    return {
        "cell": merge(files["cell"], {"folder": str(folder), "port": port}),
        "robot": merge(files["robot"], {
            "arm": {"interface": CELL_INTERFACE, "channel": str(folder / "can0")}}),
        "cameras": {**files["cameras"], "cameras": plugged},
        "keypad": merge(files["keypad"], {"source": "serial", "device": str(folder / "keypad")}),
    }


class _Maker:
    """Makes the nodes of one graph."""

    def __init__(self, arguments: RobotArguments) -> None:
        self._arguments = arguments

    def node(self, executable: str, parameters: Mapping[str, Parameter], **kept: Any) -> NodeSpec:
        """Return a node that is given the preset."""
        a = self._arguments
        return NodeSpec(executable, executable, {"preset": a.preset, **parameters},
                        namespace=a.namespace, log_level=a.log_level, **kept)

    def hardware(self, mode: str) -> list[NodeSpec]:
        """Return the hardware nodes, and the cell when there is no hardware."""
        a = self._arguments
        nodes = [
            self.node("arm_controller", {"config": a.robot, "mode": mode}),
            self.node("camera_encoder", {"config": a.cameras, "weights": a.encoder,
                                         "record": a.pictures,
                                         "record_rate": a.pictures_rate}),
            NodeSpec("keypad_reward", "keypad_reward", {"config": a.keypad},
                     namespace=a.namespace, log_level=a.log_level),
        ]
        if a.hardware == "emulated":
            nodes.insert(0, NodeSpec("cell", "cell", arguments=("--config", a.cell)))
        return nodes


def resolve_finetune(arguments: RealFinetuneArguments) -> RealFinetuneArguments:
    """Return ``arguments`` with nothing left open; see :func:`_resolve`."""
    changes: dict[str, Any] = {}
    if arguments.demonstrations:
        changes["demonstrations"] = {"kind": "episodes",
                                     "path": _absolute(arguments.demonstrations)}
    if arguments.evaluate:
        if not arguments.checkpoint:
            raise ConfigError(f"evaluate:={arguments.evaluate} needs a policy; name it with"
                              " checkpoint:=")
        changes["train"] = {"utd": 0.0, "critic_warmup": 0, "online_steps": 1_000_000_000}
    if arguments.checkpoint and not Path(arguments.checkpoint).expanduser().exists():
        raise ConfigError(f"checkpoint:={arguments.checkpoint}: there is no such checkpoint")
    return _resolve(arguments, changes)


def real_finetune(arguments: RealFinetuneArguments) -> list[NodeSpec]:
    """Return the nodes with which the robot learns; ``arguments`` must be resolved."""
    a, maker = arguments, _Maker(arguments)
    run: dict[str, Parameter] = {"run_dir": a.run_dir, "seed": a.seed}
    return [
        *maker.hardware("act"),
        maker.node("policy_server", {}),
        maker.node("rollout", {**run, "pace": "realtime", "max_episodes": a.evaluate}),
        maker.node("learner", {**run, "checkpoint": a.checkpoint, "max_episodes": a.evaluate},
                   nice=LEARNER_NICENESS, ends_graph=True),
    ]


def resolve_teach(arguments: TeachArguments) -> TeachArguments:
    """Return ``arguments`` with nothing left open; see :func:`_resolve`."""
    if arguments.by == HAND and arguments.hardware == "emulated":
        raise ConfigError("by:=hand: nobody can press the button of the emulated arm that lets it"
                          " be led by hand; leave by:= out, the emulated cell has a leader arm")
    title = load_preset(find_preset(arguments.preset)).task.name
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return _resolve(replace(
        arguments, folder=arguments.folder or f"runs/data/{title}-taught",
        run_dir=arguments.run_dir or f"runs/{title}-teach-{stamp}"), {})


def teach(arguments: TeachArguments) -> list[NodeSpec]:
    """Return the nodes with which a person teaches the robot; ``arguments`` must be resolved."""
    a, maker = arguments, _Maker(arguments)
    return [
        *maker.hardware("teach"),
        maker.node("recorder", {"folder": a.folder, "episodes": a.episodes, "source": a.source,
                                "home_at_end": False},  # a person leads the arm
                   ends_graph=True),
    ]


REAL_FINETUNE = Graph("the robot learns while it works", RealFinetuneArguments, resolve_finetune,
                      real_finetune)
TEACH = Graph("a person teaches the robot: demonstrations are recorded", TeachArguments,
              resolve_teach, teach)
