"""``poco launch``: start a whole graph, with or without ``launch_ros``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from poco_ros.bringup import (
    GRAPHS,
    NO_BAG,
    Graph,
    NodeSpec,
    arguments_from_text,
    bag_command,
    composed_words,
    processes_of,
    split_assignments,
)
from poco_ros.cli.flags import assignments_help
from poco_ros.core.errors import ConfigError
from poco_ros.processes import GRAPH_STOP_PATIENCE, kept_environment, settle, tether

MANAGERS = ("auto", "launch_ros", "poco")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare ``poco launch``, with one subcommand a graph."""
    parser = subparsers.add_parser(
        "launch", help="start a whole ROS graph, such as sim_scene",
        description="Start all nodes of a graph and keep them running: one that dies is started"
        " again, Ctrl-C lets all of them save and stop.")
    graphs = parser.add_subparsers(metavar="GRAPH", dest="graph", required=True)
    for name, graph in GRAPHS.items():
        one = graphs.add_parser(
            name, help=graph.doc, description=f"{name}: {graph.doc}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=assignments_help(graph.arguments, "arguments of the graph"))
        one.add_argument("assignments", nargs="*", metavar="name:=value",
                         help="arguments of the graph, as `ros2 launch` takes them")
        one.add_argument("--manager", choices=MANAGERS, default="auto",
                         help="what keeps the processes; auto: launch_ros where it and an"
                         " installed poco_ros are found, else poco's own")


def run(args: argparse.Namespace) -> int:
    """Run the graph until it ends or is interrupted; return the exit code.

    Raises:
        ConfigError: an argument is wrong, or ``launch_ros`` is asked for and cannot be used.
    """
    graph = GRAPHS[args.graph]
    texts = split_assignments(args.assignments)
    arguments: object = arguments_from_text(graph.arguments, texts, args.graph)
    share = None if args.manager == "poco" else installed_share()
    if share is not None:
        from poco_ros.ros_launch import run_launch_file

        return run_launch_file(share / "launch" / f"{args.graph}.launch.py", texts)
    if args.manager == "launch_ros":
        raise ConfigError("--manager launch_ros: launch_ros, or an installed poco_ros, is not"
                          " found here; source a ROS 2 and the install/setup.bash of `make"
                          " build`, or leave the flag out")
    return run_processes(graph, arguments)


def installed_share() -> Path | None:
    """Return the folder ``share/poco_ros`` that launch_ros would use; None where it cannot."""
    if importlib.util.find_spec("launch_ros") is None:
        return None
    from ament_index_python.packages import PackageNotFoundError, get_package_share_path

    try:
        return Path(get_package_share_path("poco_ros"))
    except PackageNotFoundError:
        return None


def command_of(*nodes: NodeSpec) -> tuple[str, ...]:
    """Return the command line that runs the nodes of a process with this Python."""
    first = nodes[0]
    words = ["compose", *composed_words(nodes)] if first.process \
        else [first.executable, *first.ros_arguments()]
    return (sys.executable, "-m", "poco_ros.cli.main", "node", *words)


def run_processes(graph: Graph, arguments: object) -> int:
    """Run the graph under poco's own process manager; return the exit code."""
    from poco_ros.cli.keep_alive import ProcessSpec, Supervisor

    settle(GRAPH_STOP_PATIENCE)  # of a command that runs a graph as one of its steps
    resolved = graph.resolve(arguments)
    processes = [
        ProcessSpec(first.process or first.name, command_of(first, *others),
                    kept_environment(first.nice), first.respawn, first.ends_graph)
        for first, *others in processes_of(graph.nodes(resolved))]
    print(f"poco: run folder {resolved.run_dir}; Ctrl-C saves and stops", flush=True)
    if resolved.record:
        command = bag_command(resolved.run_dir)
        if command is None:
            print(f"poco: {NO_BAG}", file=sys.stderr, flush=True)
        else:
            processes.append(ProcessSpec("bag", (*tether(), *command), respawn=False))
    return Supervisor(processes).run()
