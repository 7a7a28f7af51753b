"""``poco operator``: what the keypad's keys say, typed; where there is none, or from elsewhere."""

from __future__ import annotations

import argparse

from poco_ros.cli.arm import add_namespace, answered

_DESCRIPTION = """\
Say what the operator's keys say to whoever makes episodes (rollout, recorder), wherever it runs in
this ROS domain. Exit code 0: done, 1: it says no and why, 2: it is not there.

It stands beside the keypad and replaces none: the arm stops without the heartbeat of a keypad
whose stop key would be heard (control.heartbeat_timeout). Keys of a terminal are a keypad:
poco node keypad_reward source:=terminal device:=/dev/tty
"""
WORDS = {
    "ready": "the scene is reset and all is clear: the next episode may begin, the arm moves",
    "success": "the task is done: the episode ends with reward 1",
    "failure": "the episode ends without",
    "discard": "the episode is kept on disk and never trained on",
    "stop": "the arm holds, until poco arm release, unless others lead it",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare ``poco operator`` and its words."""
    parser = subparsers.add_parser(
        "operator", help="the operator's keys, typed: ready, success, failure, discard, stop",
        description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = parser.add_subparsers(metavar="WORD", dest="word", required=True)
    for word, meaning in WORDS.items():
        one = words.add_parser(word, help=meaning, description=f"{word}: {meaning}.")
        add_namespace(one)


def run(args: argparse.Namespace) -> int:
    """Say the word and print what came of it; return the exit code."""
    from poco_ros.core.episode import Outcome
    from poco_ros.ros.arm_remote import ArmRemote
    from poco_ros.ros.operator_remote import OperatorRemote

    what = f"operator {args.word}"
    if args.word == "stop":
        with ArmRemote(args.namespace) as arm:
            return answered(what, arm.stop)
    with OperatorRemote(args.namespace) as operator:
        if args.word == "ready":
            return answered(what, operator.ready)
        outcome = Outcome[args.word.upper()]
        return answered(what, lambda: operator.label(outcome))
