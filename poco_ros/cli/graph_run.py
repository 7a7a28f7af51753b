"""Run a whole graph as one step of a command, and look on."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from poco_ros.core.errors import PocoError
from poco_ros.processes import GRAPH_STOP_PATIENCE, kept_environment, stops_handled
from poco_ros.ros.graph_watch import GraphWatch, Seen

LOOK = 0.25
"""Time between two looks [s]."""


class GraphError(PocoError):
    """The graph ended before its work was done."""


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def resumable(args: argparse.Namespace, run_dir: Path, say: Callable[[str], None]
              ) -> Iterator[None]:
    """Say, when what is done here is interrupted, which command goes on with what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        folder = [] if args.run_dir else ["--run-dir", str(run_dir)]
        say(f"what is done is kept; go on with {shlex.join(['poco', *args.words, *folder])}")
        raise


def run_until_done(graph: str, arguments: Mapping[str, object], log_path: Path,
                   show: Callable[[Seen], None], say: Callable[[str], None],
                   is_done: Callable[[], bool]) -> None:
    """Run ``poco launch <graph>`` in a namespace of its own until it ends by itself.

    Args:
        graph: name of the graph.
        arguments: of the graph.
        log_path: what its nodes print is appended to this file.
        show: called often with what the graph says of itself.
        say: told when the graph is being stopped.
        is_done: whether the work is done, asked when the graph has ended.

    Raises:
        GraphError: the graph ended with an error, or its work is not done; the end of its log is
            shown.
        KeyboardInterrupt: interrupted; the graph has saved and stopped. When this process is
            killed, the graph does so by itself.
    """
    # Nobody else's graph on this network or this machine shall be heard or disturbed.
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    namespace = f"poco_{graph}_{os.getpid()}"
    command = [sys.executable, "-m", "poco_ros.cli.main", "launch", graph, "--manager", "poco",
               *(f"{name}:={value}" for name, value in arguments.items()),
               f"namespace:={namespace}"]
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with open(log_path, "ab") as log, GraphWatch(namespace) as watch, stops_handled(_interrupt):
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT,
                                   env={**os.environ, **kept_environment()},
                                   start_new_session=True)
        try:
            while process.poll() is None:
                show(watch.seen)
                time.sleep(LOOK)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                say("stopping the graph; it saves what it has")
                process.wait(timeout=GRAPH_STOP_PATIENCE)
    if process.returncode != 0 or not is_done():
        tail = log_path.read_text(errors="replace").splitlines()[-15:]
        raise GraphError(f"the graph {graph} ended with exit code {process.returncode} before its"
                         f" work was done; the end of {log_path}:\n" + "\n".join(tail))
