"""Graphs of :mod:`poco_ros.bringup` as ``launch_ros`` descriptions.

Only this module and the files in ``launch/`` import ``launch`` and ``launch_ros``, which are there
where ROS 2 is installed the usual way.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch import LaunchContext, LaunchDescription, LaunchService
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit, OnShutdown
from launch.events import Shutdown, matches_action
from launch.events.process import ProcessExited, ShutdownProcess, SignalProcess
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from poco_ros.bringup import (
    GRAPHS,
    NO_BAG,
    Graph,
    NodeSpec,
    arguments_from_text,
    bag_command,
    composed_words,
    processes_of,
)
from poco_ros.core.config import info_of, settings_of
from poco_ros.processes import REFUSED, RESPAWN_DELAY, STOP_PATIENCE, kept_environment, tether


def describe(name: str) -> LaunchDescription:
    """Return the launch description of a graph, all of its arguments declared."""
    graph = GRAPHS[name]
    declared: list[Any] = []
    for argument, (field, _) in settings_of(graph.arguments).items():
        info = info_of(field)
        default = field.default
        text = str(default).lower() if isinstance(default, bool) else str(default)
        choices = [str(choice) for choice in info.choices] or None
        declared.append(DeclareLaunchArgument(
            argument, default_value=text, description=info.describe(), choices=choices))
    return LaunchDescription(
        [*declared, OpaqueFunction(function=_start, args=[name, graph])])


def run_launch_file(path: Path, arguments: Mapping[str, str]) -> int:
    """Run a launch file as ``ros2 launch`` does; return the exit code."""
    service = LaunchService(argv=[f"{key}:={value}" for key, value in arguments.items()])
    service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(path)), launch_arguments=list(arguments.items()))]))
    return int(service.run())


def _start(context: LaunchContext, name: str, graph: Graph) -> list[Any]:
    """Return the actions that start the graph with the arguments of this launch."""
    texts = {argument: LaunchConfiguration(argument).perform(context)
             for argument in settings_of(graph.arguments)}
    arguments = graph.resolve(arguments_from_text(graph.arguments, texts, f"{name}.launch.py"))
    actions: list[Any] = [LogInfo(msg=f"run folder {arguments.run_dir}")]
    for nodes in processes_of(graph.nodes(arguments)):
        actions += _process_actions(nodes)
    if arguments.record:
        command = bag_command(arguments.run_dir)
        if command is None:
            actions.append(LogInfo(msg=NO_BAG))
        else:
            actions += _stopped_once(ExecuteProcess(
                cmd=["setsid", *tether(), *command], name="bag", output="screen",
                sigterm_timeout=str(STOP_PATIENCE)))
    return actions


def _process_actions(nodes: Sequence[NodeSpec]) -> list[Any]:
    spec = nodes[0]
    kept: dict[str, Any] = {
        # No terminal: bars that draw themselves anew would fill the log.
        "output": "screen", "additional_env": kept_environment(spec.nice),
        "respawn": spec.respawn, "respawn_delay": RESPAWN_DELAY,
        "sigterm_timeout": str(STOP_PATIENCE)}
    if spec.process:  # names, namespaces and parameters are among the words of each node
        node = Node(package="poco_ros", executable="compose", arguments=composed_words(nodes),
                    **kept)
    else:
        node = Node(
            package="poco_ros", executable=spec.executable, name=spec.name,
            namespace=spec.namespace or None, parameters=[dict(spec.parameters)],
            arguments=list(spec.arguments) or None, remappings=list(spec.remappings) or None,
            ros_arguments=["--log-level", spec.log_level], **kept)

    def ended(event: ProcessExited, context: LaunchContext) -> Any:
        if event.returncode == REFUSED:
            return EmitEvent(event=Shutdown(
                reason=f"{spec.process or spec.name} refused its settings"))
        if event.returncode == 0 and spec.ends_graph:
            return EmitEvent(event=Shutdown(reason=f"{spec.name} has finished the run"))
        if event.returncode == 0:
            # launch starts again whatever ends; in its pause before that, this lets it go.
            return EmitEvent(event=ShutdownProcess(process_matcher=matches_action(node)))
        return None

    return [*_stopped_once(node),
            RegisterEventHandler(OnProcessExit(target_action=node, on_exit=ended))]


def _stopped_once(process: ExecuteProcess) -> list[Any]:
    """Return ``process`` and the handler that interrupts it when launch is interrupted.

    launch leaves it to the terminal to interrupt processes on Ctrl-C, so they hear nothing when
    launch itself is signalled (by a service manager, a test), and twice when both happen. In a
    session of its own a process hears only this one SIGINT.
    """

    def interrupt(event: Shutdown, context: LaunchContext) -> Any:
        if not event.due_to_sigint or context.noninteractive:
            return None
        details = process.process_details
        if details is None or process.return_code is not None:
            return None
        return EmitEvent(event=SignalProcess(
            signal_number=signal.SIGINT, process_matcher=matches_action(process)))

    return [process, RegisterEventHandler(OnShutdown(on_shutdown=interrupt))]
