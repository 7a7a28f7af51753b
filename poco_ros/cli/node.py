"""``poco node``, and the executables of ``ros2 run``: start one node of the graph."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

from poco_ros.core.threads import one_thread
from poco_ros.processes import settle

NODES = {
    "sim_bridge": "sim_bridge.node",
    "rollout": "poco_ros.nodes.rollout",
    "policy_server": "poco_ros.nodes.policy_server",
    "learner": "poco_ros.nodes.learner",
    "recorder": "poco_ros.nodes.recorder",
    "arm_controller": "poco_ros.nodes.arm_controller",
    "camera_encoder": "poco_ros.nodes.camera_encoder",
    "keypad_reward": "poco_ros.nodes.keypad_reward",
    "cell": "poco_ros.cli.cell",
    "compose": "poco_ros.cli.compose",
}
"""Name -> module with a ``main()`` that returns the exit code. ``setup.py`` lists the names."""
SETTINGS = {
    "sim_bridge": "sim_bridge.node:SimBridgeSettings",
    "rollout": "poco_ros.nodes.rollout.node:RolloutSettings",
    "policy_server": "poco_ros.nodes.policy_server:PolicyServerSettings",
    "learner": "poco_ros.nodes.learner:LearnerSettings",
    "recorder": "poco_ros.nodes.recorder:RecorderSettings",
    "arm_controller": "poco_ros.nodes.arm_controller.settings:ArmControllerSettings",
    "camera_encoder": "poco_ros.nodes.camera_encoder:CameraEncoderSettings",
    "keypad_reward": "poco_ros.nodes.keypad_reward:KeypadRewardSettings",
}
"""Name -> the settings that are its parameters; the others parse their words themselves."""
INTERRUPTED = 130


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare ``poco node``."""
    parser = subparsers.add_parser(
        "node", help="start one node of the graph",
        description="Start one node, as `ros2 run poco_ros NAME` does.",
        epilog="poco node NAME --help lists its parameters. Example: poco node policy_server"
        " preset:=cpu_cube_single --ros-args -r __ns:=/arm")
    parser.add_argument("name", choices=sorted(NODES), help="which node")
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="name:=value ... [--ros-args ...]",
        help="parameters, then ROS arguments as every ROS node takes them")


def run(args: argparse.Namespace) -> int:
    """Run the node in this process until it ends; return its exit code."""
    sys.argv = [args.name, *ros_words(args.words)]
    return start(args.name)


def main() -> int:
    """Run the node that the executable is named after."""
    return start(Path(sys.argv[0]).name)


def start(name: str) -> int:
    """Run a node with the arguments in ``sys.argv``; return its exit code."""
    words = sys.argv[1:]
    ours = words[:words.index("--ros-args")] if "--ros-args" in words else words
    if name in SETTINGS and {"-h", "--help"} & set(ours):
        from poco_ros.cli.flags import assignments_help  # numpy, which comes after one_thread

        print(assignments_help(pkgutil.resolve_name(SETTINGS[name]), f"parameters of {name}"))
        print("\nA preset's section graph has other defaults for some of them.")
        return 0
    settle()
    one_thread()
    try:
        return int(importlib.import_module(NODES[name]).main())
    except KeyboardInterrupt:  # while it was still importing
        return INTERRUPTED


def ros_words(words: list[str]) -> list[str]:
    """Return ROS arguments in which leading ``name:=value`` words have become parameters."""
    start = words.index("--ros-args") if "--ros-args" in words else len(words)
    parameters = [part for word in words[:start] if ":=" in word for part in ("-p", word)]
    plain = [word for word in words[:start] if ":=" not in word]
    given = ["--ros-args", *parameters, "--"] if parameters else []
    return [*plain, *given, *words[start:]]
