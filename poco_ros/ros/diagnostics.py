"""Health of a node on ``/diagnostics``, once a second: level, message, figures.

A node says what it waits for and since when, what it refused, and what failed. Everything may be
called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from poco_ros.ros.names import DIAGNOSTICS, DIAGNOSTICS_QOS

PERIOD = 1.0
"""Time between two reports [s], of steady time: also when simulated time stands still."""
PATIENCE = 2.0
"""A wait that takes longer than this is a warning [s]."""
RECENT = 10.0
"""An event counts in the level for so long [s]."""
LOG_PERIOD = 5.0
"""An event of the same kind is not logged again for so long [s]."""


class Health:
    """What a node reports about itself."""

    def __init__(self, node: Node, patience: float = PATIENCE) -> None:
        """Report for ``node``; a wait becomes a warning after ``patience`` [s]."""
        self._node, self.patience = node, patience
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[str, float]] = {}
        self._faults: dict[str, str] = {}
        self._warnings: dict[str, str] = {}
        self._events: dict[str, tuple[float, str]] = {}
        self._counts: Counter[str] = Counter()
        self.figures: Callable[[], Mapping[str, object]] = dict
        """Returns the key-values of a report; called in the reporting thread."""
        self._logged: dict[str, float] = {}
        self._publisher = node.create_publisher(DiagnosticArray, DIAGNOSTICS, DIAGNOSTICS_QOS)
        self._timer = node.create_timer(PERIOD, self.report,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))

    def wait_for(self, what: str, why: str = "") -> None:
        """Say that the node waits for ``what``, such as ``infer_chunk (policy_server)``.

        Saying it again keeps the beginning, and the reason unless there is a new one.
        """
        with self._lock:
            before, since = self._waiting.get(what, ("", time.monotonic()))
            self._waiting[what] = (why or before, since)

    def got(self, what: str) -> None:
        """Say that ``what`` has come."""
        with self._lock:
            begun = self._waiting.pop(what, None)
        if begun is None:  # the usual case, on the way of every chunk
            return
        waited = time.monotonic() - begun[1]
        if waited > self.patience:
            self._node.get_logger().info(f"{what} is there after {waited:.1f} s")

    def give_up(self, what: str) -> None:
        """Wait for ``what`` no more."""
        with self._lock:
            self._waiting.pop(what, None)

    def fault(self, key: str, message: str) -> None:
        """Report an error that lasts, under ``key``, until :meth:`healed`."""
        with self._lock:
            known = self._faults.get(key) == message
            self._faults[key] = message
        if not known:
            self._node.get_logger().error(message)

    def warn(self, key: str, message: str) -> None:
        """Report what lasts and does not keep the node from its work, under ``key``, until
        :meth:`healed`."""
        with self._lock:
            known = self._warnings.get(key) == message
            self._warnings[key] = message
        if not known:
            self._node.get_logger().warning(message)

    def healed(self, key: str) -> None:
        """Take an error or a warning back."""
        with self._lock:
            message = self._faults.pop(key, None) or self._warnings.pop(key, None)
        if message is not None:
            self._node.get_logger().info(f"over: {message}")

    def event(self, kind: str, message: str) -> None:
        """Count something out of order, such as a refused chunk, and report the newest of a kind.
        """
        now = time.monotonic()
        with self._lock:
            self._counts[kind] += 1
            self._events[kind] = (now, f"{kind}: {message}")
            log = now - self._logged.get(kind, -LOG_PERIOD) >= LOG_PERIOD
            if log:
                self._logged[kind] = now
        if log:
            self._node.get_logger().warning(f"{kind}: {message}")

    def count(self, kind: str) -> int:
        """Return how often an event of this kind was reported."""
        with self._lock:
            return self._counts[kind]

    def summary(self) -> tuple[int, str]:
        """Return the level (OK, WARN, ERROR of DiagnosticStatus) and the message of now."""
        now = time.monotonic()
        with self._lock:
            faults, warnings = list(self._faults.values()), list(self._warnings.values())
            waits = [(what, why, now - since) for what, (why, since) in self._waiting.items()]
            recent = [text for at, text in self._events.values() if now - at < RECENT]
        late = [f"waiting for {what}{f': {why}' if why else ''} (for {waited:.0f} s)"
                for what, why, waited in waits if waited > self.patience]
        words = faults + warnings + late + recent
        if faults:
            return DiagnosticStatus.ERROR, "; ".join(words)
        if words:
            return DiagnosticStatus.WARN, "; ".join(words)
        soon = "; ".join(f"waiting for {what}" for what, _, _ in waits)
        return DiagnosticStatus.OK, soon or "ok"

    def report(self) -> None:
        """Publish the state of now."""
        level, message = self.summary()
        with self._lock:
            counts = dict(self._counts)
        figures = {**self.figures(), **{f"{kind} (count)": n for kind, n in counts.items()}}
        status = DiagnosticStatus(
            level=level, name=self._node.get_fully_qualified_name().lstrip("/"), message=message,
            hardware_id="poco_ros",
            values=[KeyValue(key=key, value=str(value)) for key, value in figures.items()])
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)
