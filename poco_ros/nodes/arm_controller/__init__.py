"""The node that moves the arm: it owns time, and trusts nobody who sends it chunks.

Threads. The ticker measures and acts 15 times a second and publishes both; nothing else may keep
it waiting, so what takes long (connecting, powering the motors) has a thread of its own, and the
main thread, which hears chunks, stops and resets, never blocks. The stop is heard in every state.
"""

from __future__ import annotations

from collections.abc import Sequence

from poco_ros.nodes.arm_controller.node import ArmControllerNode
from poco_ros.ros.node import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node; return its exit code."""
    return run(ArmControllerNode, arguments)
