"""Looking on: what the learner and the rollout of a graph say of themselves."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from types import TracebackType

import rclpy
from poco_msgs.msg import EpisodeStatus, LearnerStatus
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from poco_ros.ros.names import EPISODE, LEARNER_STATUS, STATUS_QOS


@dataclass
class Seen:
    """The newest state of a graph; empty where nothing has been heard yet."""

    stage: str = ""
    detail: str = ""
    updates: int = 0
    environment_steps: int = 0
    updates_per_second: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    episodes: int = 0
    success_rate: float = math.nan


class GraphWatch:
    """Listens in a thread of its own, with a ROS context of its own; a context manager."""

    def __init__(self, namespace: str = "") -> None:
        self.seen = Seen()
        self._context = Context()
        rclpy.init(context=self._context)
        node = rclpy.create_node("graph_watch", context=self._context, namespace=namespace or None,
                                 start_parameter_services=False)
        node.create_subscription(LearnerStatus, LEARNER_STATUS, self._on_learner, STATUS_QOS)
        node.create_subscription(EpisodeStatus, EPISODE, self._on_episode, STATUS_QOS)
        self._node = node
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, daemon=True, name="graph_watch")

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def _on_learner(self, message: LearnerStatus) -> None:
        seen = self.seen
        seen.stage, seen.detail = message.stage, message.detail
        seen.updates, seen.environment_steps = message.updates, message.environment_steps
        seen.updates_per_second = message.updates_per_second
        seen.metrics = dict(zip(message.metric_names, message.metric_values, strict=False))

    def _on_episode(self, message: EpisodeStatus) -> None:
        self.seen.episodes = message.number
        if message.window:
            self.seen.success_rate = message.success_rate

    def __enter__(self) -> GraphWatch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._executor.shutdown()
        self._context.try_shutdown()
        self._thread.join(timeout=5.0)
        self._node.destroy_node()
