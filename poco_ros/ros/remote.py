"""What a command that a person types asks of a running graph: hear it, call it, tell the answer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context

from poco_ros.core.errors import PocoError
from poco_ros.ros.diagnostics import PERIOD
from poco_ros.ros.fast_loop import FastLoop
from poco_ros.ros.names import DIAGNOSTICS, DIAGNOSTICS_QOS

DISCOVERY = 5.0
"""How long it may take to find a node that is there [s]."""
ANSWER = 5.0
"""How long a node may take to answer [s]."""
AGAIN = 0.2
"""What does no harm when it is heard twice is asked again after so long [s]: the first answer may
be lost, for a node that hears us may not have found us yet."""
LOOK = 0.05
START = {
    "arm_controller": "poco node arm_controller config:=..., or poco launch real_finetune",
    "rollout": "poco launch real_finetune; in the graph teach it is the recorder",
}
"""How the nodes that people talk to are started."""
T = TypeVar("T", bound="Remote")


class NotThereError(PocoError):
    """A node is not there or does not answer; it, the domain and the remedy are named."""


class RefusedError(PocoError):
    """A node is there and says no; the message is its own."""


@dataclass(frozen=True)
class Report:
    """What a node said of itself on ``/diagnostics``."""

    level: int
    """0: all is well, 1: a warning, 2: an error."""
    message: str
    figures: Mapping[str, str]


class Remote:
    """A node for as long as a command runs, with a ROS context of its own; a context manager.

    Everything happens in the caller's thread, while it waits.
    """

    def __init__(self, namespace: str = "") -> None:
        """``namespace``: that of the graph, empty: none."""
        self._namespace = namespace.strip("/")
        self._context = Context()
        rclpy.init(args=[], context=self._context)
        self.node = rclpy.create_node(
            f"poco_{os.getpid()}", context=self._context, namespace=self._namespace or None,
            start_parameter_services=False, enable_rosout=False)
        self.loop = FastLoop(self.node)
        self._reports: dict[str, Report] = {}
        self.loop.subscribe(DiagnosticArray, DIAGNOSTICS, self._on_diagnostics, DIAGNOSTICS_QOS)

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.node.destroy_node()
        self._context.try_shutdown()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._reports[status.name] = Report(
                int.from_bytes(status.level, "little"), status.message,
                {pair.key: pair.value for pair in status.values})

    def until(self, condition: Callable[[], bool], patience: float) -> bool:
        """Hear what comes until ``condition`` holds; return False after ``patience`` [s]."""
        end = time.monotonic() + patience
        while not condition():
            if time.monotonic() > end:
                return False
            self.loop.wait(LOOK)
        return True

    def report(self, node: str) -> Report:
        """Wait for the next report of a node and return it.

        Raises:
            NotThereError: none came.
        """
        name = f"{self._namespace}/{node}".lstrip("/")
        while self.loop.poll():  # what came before we were asked
            pass
        self._reports.pop(name, None)
        if not self.until(lambda: name in self._reports, DISCOVERY + 2 * PERIOD):
            raise self.not_there(node, "it reports nothing on /diagnostics")
        return self._reports[name]

    def call(self, kind: Any, service: str, node: str, request: Any, *, patience: float = ANSWER,
             again: bool = True) -> Any:
        """Call a service of a node; return the response.

        Args:
            kind: type of the service.
            service: its name.
            node: who serves it, for the message.
            request: what is asked.
            patience: how long the answer may take [s].
            again: it may be asked again when no answer comes; it does no harm when heard twice.

        Raises:
            NotThereError: nobody serves it, or no answer comes.
        """
        client = self.loop.client(kind, service)
        if not self.until(client.is_ready, DISCOVERY):
            raise self.not_there(node, f"nobody serves {service}")
        answers: list[Any] = []
        end = time.monotonic() + patience
        while not answers and time.monotonic() < end:
            client.call(request, answers.append)
            self.until(lambda: bool(answers), min(AGAIN, patience) if again else patience)
        if not answers:
            raise self.not_there(node, f"it has not answered {service} for {patience:g} s")
        return answers[0]

    def not_there(self, node: str, why: str) -> NotThereError:
        """Return the error that a node is not there, or does not answer."""
        domain = os.environ.get("ROS_DOMAIN_ID", "0") or "0"
        where = f"namespace /{self._namespace}" if self._namespace else "no namespace"
        elsewhere = sorted({space.strip("/") for name, space
                            in self.node.get_node_names_and_namespaces() if name == node}
                           - {self._namespace})
        if elsewhere:
            remedy = f"there is one in namespace {elsewhere[0]}: add --namespace {elsewhere[0]}" \
                if elsewhere[0] else "there is one without a namespace: leave --namespace out"
        else:
            remedy = (f"start it ({START[node]}); where it runs in another domain, set"
                      " ROS_DOMAIN_ID as there")
        return NotThereError(f"no {node} in ROS domain {domain}, {where}: {why}. Remedy: {remedy}")
