"""The command ``poco``: one line of help a subcommand, and the way errors reach the user.

A subcommand is a module of this package with two functions: ``add_parser(subparsers)`` declares
it, ``run(args)`` does it and returns the exit code. A module is imported only when its subcommand
is asked for, so ``poco --help`` is instant and ``poco data`` needs no torch.

What a user can act on is one line, and the exit code 2: an error of poco_ros's own, or a file that
cannot be read or written. Anything else keeps its traceback.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from poco_ros import __version__
from poco_ros.core.errors import PocoError

COMMANDS = {
    "sim": "clone a policy and watch it improve itself in simulation, over ROS 2",
    "rehearse": "the robot's whole work in the emulated cell: teach, learn, compare",
    "data": "make demonstrations, look at episodes, convert them",
    "train": "train a policy headless: offline on demonstrations, then online",
    "eval": "measure the success rate of a policy with fixed seeds",
    "bench": "compare algorithms: run a matrix, write its table, draw its figures",
    "launch": "start a whole ROS graph, such as sim_scene",
    "node": "start one node of the graph",
    "plot": "draw the learning curves of runs",
    "arm": "look at the arm, power it, send it home, stop it, switch it off",
    "operator": "the operator's keys, typed: ready, success, failure, discard, stop",
    "encoder": "fit the picture encoder to one's own pictures, and measure what it sees",
    "cell": "an emulated robot cell: arm, cameras, keypad and operator at their plugs",
}
USER_ERROR = 2
INTERRUPTED = 130


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser, with the flags of ``command`` alone; of all others, the name and help."""
    parser = argparse.ArgumentParser(
        prog="poco", description="A robot improves its own flow-matching policy while it works.",
        epilog="`poco COMMAND --help` tells more of each.")
    parser.add_argument("--version", action="version", version=f"poco_ros {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, summary in COMMANDS.items():
        if name == command:
            importlib.import_module(f"poco_ros.cli.{name}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``poco`` with ``arguments`` (``sys.argv`` when None); return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = next((word for word in words if not word.startswith("-")), None)
    try:
        args = build_parser(command).parse_args(words, argparse.Namespace(words=words))
        return int(importlib.import_module(f"poco_ros.cli.{args.command}").run(args))
    except PocoError as error:
        print(f"poco: {error}", file=sys.stderr)
        return USER_ERROR
    except OSError as error:
        # To whoever keeps a node this exit code says that it need not be started again.
        if error.filename is None or command == "node":
            raise
        print(f"poco: {error.filename}: {error.strerror}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("poco: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
