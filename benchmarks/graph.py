"""Real nodes in processes of their own, for the benchmarks that need a graph."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from poco_ros.cli.node import NODES


def isolate() -> None:
    """Keep this process and its children to a DDS domain of their own on this host."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.SystemRandom().randrange(1, 101)))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")


@contextlib.contextmanager
def nodes(parameters: Mapping[str, Mapping[str, object]], log: Path,
          nice: Sequence[str] = (), composed: bool = False,
          namespace: str = "") -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run nodes, name -> parameters; stop them at the end, and fail if one ended by itself.

    A process each, or ``composed``: all in one.
    """
    words = {name: _ros_arguments(values, namespace) for name, values in parameters.items()}
    if composed:
        words = {"compose": [word for name in words for word in (name, *words[name], "--")]}
    running = {}
    with open(log, "wb") as stream:
        try:
            for name, arguments in words.items():
                prefix = ["nice", "-n", "10"] if name in nice else []
                running[name] = subprocess.Popen(
                    [*prefix, sys.executable, "-m", NODES[name], *arguments],
                    stdout=stream, stderr=stream)
            yield running
            ended = [name for name, process in running.items() if process.poll() is not None]
            if ended:
                raise RuntimeError(f"{', '.join(ended)} ended early; see {log}")
        finally:
            for process in running.values():
                process.send_signal(signal.SIGINT)
            for process in running.values():
                process.wait(60)


def _ros_arguments(parameters: Mapping[str, object], namespace: str) -> list[str]:
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    return ["--ros-args", *words, *(["-r", f"__ns:=/{namespace}"] if namespace else [])]
