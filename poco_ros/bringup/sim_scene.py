"""The simulated graph: sim_bridge, policy_server, rollout, learner."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from poco_ros.bringup.graph import AUTO, Graph, NodeSpec, Parameter, write_for_nodes
from poco_ros.core.config import setting, to_yaml
from poco_ros.core.errors import ConfigError
from poco_ros.core.task import SIMULATED_DOMAINS
from poco_ros.preset import domain_preset, domains_with_preset, find_preset, load_preset
from poco_ros.processes import LEARNER_NICENESS


@dataclass(frozen=True)
class SimSceneArguments:
    """Arguments of the simulated graph: a robot in simulation that learns while it works."""

    task: str = setting(
        AUTO, "simulated domain; auto: the preset's, or cube-single when no preset is named",
        choices=(AUTO, *SIMULATED_DOMAINS))
    task_number: int = setting(0, "single-task variant of the domain; 0: the preset's",
                               minimum=0, maximum=5)
    preset: str = setting(
        AUTO, "name of a preset in config/, or the path of one; auto: cpu_<task>, for"
        f" {', '.join(domains_with_preset())}")
    seed: int = setting(0, "seed of the run: resets, noise, learning", minimum=0)
    pace: str = setting("lockstep", "lockstep: as fast as it goes, reproducible; realtime: at the"
                        " control rate of the task", choices=("lockstep", "realtime"))
    composed: bool = setting(
        True, "in lockstep, rollout, policy_server and sim_bridge share one process: faster, and"
        " the other cores are free for the learner; false: a process each, as in real time")
    checkpoint: str = setting(
        "", "policy file or run folder to start from; empty: clone the demonstrations first")
    run_dir: str = setting(
        "", "folder of the run, continued when it exists; empty: runs/<task>-<date>-<time>")
    namespace: str = setting("", "namespace of all nodes; empty: none")
    record: bool = setting(False, "record the graph's topics but raw pictures and weights into"
                           " <run_dir>/bag-<date>-<time> with ros2 bag")
    use_sim_time: bool = setting(False, "nodes take their time from /clock")
    log_level: str = setting("info", "least severe log message that nodes print",
                             choices=("debug", "info", "warn", "error", "fatal"))


def resolve(arguments: SimSceneArguments) -> SimSceneArguments:
    """Return ``arguments`` with nothing left open: preset and folders as absolute paths.

    A task that is not the preset's own is laid over it, and the outcome written into the run's
    folder, so that every node reads one and the same preset.

    Raises:
        ConfigError: no such preset, a bad one, none for the task, or no such checkpoint.
    """
    domain = "cube-single" if arguments.task == AUTO else arguments.task
    name = domain_preset(domain) if arguments.preset == AUTO else arguments.preset
    if arguments.preset == AUTO and domain not in domains_with_preset():
        raise ConfigError(f"task:={domain}: has no preset {name}, only"
                          f" {', '.join(domains_with_preset())} have one; name another with"
                          " preset:=, such as one of config/paper_*.yaml")
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
        write_for_nodes(path, to_yaml(preset))
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
        return NodeSpec(executable, executable, {**shared, **parameters}, namespace=a.namespace,
                        log_level=a.log_level, **kept)

    acting = "lockstep" if a.composed and a.pace == "lockstep" else ""
    return [  # those that act in the order in which a tick passes through them
        node("rollout", {"run_dir": a.run_dir, "seed": a.seed, "pace": a.pace}, process=acting),
        node("policy_server", {}, process=acting),
        node("sim_bridge", {"task": a.task, "task_number": a.task_number, "pace": a.pace,
                            "seed": a.seed}, process=acting),
        node("learner", {"run_dir": a.run_dir, "seed": a.seed, "checkpoint": a.checkpoint},
             nice=LEARNER_NICENESS, ends_graph=True),
    ]


SIM_SCENE = Graph("a simulated robot that learns while it works", SimSceneArguments, resolve,
                  sim_scene)
