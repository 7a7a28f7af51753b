"""The topics on which an environment side reports its ticks, in simulation as on the arm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from poco_msgs.msg import ExecutedAction as ExecutedActionMsg
from poco_msgs.msg import Features, Reward
from rclpy.node import Node
from sensor_msgs.msg import JointState

from poco_ros.core.joining import ExecutedAction, RewardSample
from poco_ros.core.observation import ObservationLayout
from poco_ros.ros import convert, names, wire


class TickTopics:
    """Publishers of observations, executed actions, rewards and joints."""

    def __init__(self, node: Node, layout: ObservationLayout, joint_names: Sequence[str]) -> None:
        self.layout, self.joint_names = layout, tuple(joint_names)
        self._features = node.create_publisher(Features, names.FEATURES, names.TICK_QOS)
        self._executed = node.create_publisher(ExecutedActionMsg, names.EXECUTED_ACTION,
                                               names.TICK_QOS)
        self._reward = node.create_publisher(Reward, names.REWARD, names.TICK_QOS)
        # Straight to rcl: Publisher.publish takes a third longer, to guard against a publisher
        # that is destroyed meanwhile. Ours live as long as the work of their node.
        self._send_features = self._features.handle.publish_raw
        self._send_executed = self._executed.handle.publish_raw
        self._send_reward = self._reward.handle.publish_raw
        self._joints = node.create_publisher(JointState, names.JOINT_STATES, names.TICK_QOS)

    def unheard(self) -> list[str]:
        """Return the topics of an episode that nobody has subscribed to."""
        return [topic.topic_name for topic in (self._features, self._executed, self._reward)
                if topic.get_subscription_count() == 0]

    def observation(self, stamp: int, observation: np.ndarray) -> None:
        """Publish s_k (O,), taken at ``stamp`` [ns]."""
        self._send_features(wire.features_to_wire(stamp, self.layout, observation))

    def executed(self, action: ExecutedAction) -> None:
        """Publish what was executed."""
        self._send_executed(wire.executed_to_wire(action))

    def reward(self, reward: RewardSample) -> None:
        """Publish the reward of a step."""
        self._send_reward(wire.reward_to_wire(reward))

    def joints_heard(self) -> bool:
        """Return whether anybody listens to the joints."""
        return bool(self._joints.get_subscription_count())

    def joints(self, stamp: int, positions: np.ndarray) -> None:
        """Publish joint positions (J,) [rad, gripper in m]."""
        self._joints.publish(convert.joint_state_to_msg(stamp, self.joint_names, positions))
