"""``compose``: several nodes in one process, their work taking turns in one thread.

    poco node compose rollout --ros-args -p run_dir:=runs/a -- policy_server -- sim_bridge

In lock-step one of the nodes works at a time, so a process each buys nothing, and every message
costs wake-ups of some 100 us each. Composed, what one node sends is in the next one's queue when
``publish`` returns (within a process Fast DDS delivers by itself), and the other cores are free
for the learner. Topics, services and parameters are those of nodes in processes of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

from poco_ros.core.errors import ConfigError
from poco_ros.nodes.policy_server import PolicyServer
from poco_ros.nodes.rollout.node import Rollout
from poco_ros.ros.node import REFUSED, PocoNode
from poco_ros.ros.node import compose as run_composed
from sim_bridge.node import SimBridge

COMPOSABLE: dict[str, Callable[[Sequence[str]], PocoNode]] = {
    "rollout": Rollout, "policy_server": PolicyServer, "sim_bridge": SimBridge}
"""Name -> node that leaves its thread to others."""
BEGIN, END = "--ros-args", "--"
"""Around the ROS arguments of a node, as everywhere in ROS 2."""


def split(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return (name, ROS arguments) of each node; each is ``name [--ros-args ... [--]]``.

    Raises:
        ConfigError: where a name is expected there is none, or one that was there before.
    """
    nodes: dict[str, list[str]] = {}
    mine: list[str] | None = None  # arguments of the node whose --ros-args stand open
    for word in words:
        if mine is not None:
            mine.append(word)
            mine = None if word == END else mine
        elif word == BEGIN and nodes:
            mine = nodes[next(reversed(nodes))]
            mine.append(word)
        elif word in COMPOSABLE and word not in nodes:
            nodes[word] = []
        else:
            raise ConfigError(f"compose: {word!r}; expected each of {', '.join(COMPOSABLE)} at"
                              f" most once, with its ROS arguments between {BEGIN} and {END}")
    if not nodes:
        raise ConfigError(f"compose: no node is named; expected some of {', '.join(COMPOSABLE)}")
    return list(nodes.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the nodes that the command line names; return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    try:
        nodes = split(words)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return REFUSED
    # Logging is the process's own: the first node's arguments say how.
    return run_composed([partial(COMPOSABLE[name], words) for name, words in nodes], nodes[0][1])


if __name__ == "__main__":
    raise SystemExit(main())
