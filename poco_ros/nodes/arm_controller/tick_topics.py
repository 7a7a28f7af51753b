"""What the ticker says, on its own thread: the measurement, and what was executed."""

from __future__ import annotations

import numpy as np
from poco_msgs.msg import ExecutedAction as ExecutedActionMsg
from rclpy.node import Node
from sensor_msgs.msg import JointState

from poco_ros.core.joining import ExecutedAction, TickStatus
from poco_ros.robot.arm import ArmState
from poco_ros.robot.control_status import Executed
from poco_ros.robot.kinematics import GRIPPER_NAME
from poco_ros.ros import convert, names


class ArmTopics:
    """Publishers of ``joint_states`` and ``executed_action``."""

    def __init__(self, node: Node) -> None:
        self._joints = node.create_publisher(JointState, names.JOINT_STATES, names.TICK_QOS)
        self._executed = node.create_publisher(ExecutedActionMsg, names.EXECUTED_ACTION,
                                               names.TICK_QOS)
        self._before: ArmState | None = None

    def joints(self, state: ArmState) -> None:
        """Publish a measurement; its stamp is when it was taken."""
        before, self._before = self._before, state
        velocities = None
        if state.velocities is not None and before is not None:
            elapsed = max(state.monotonic_ns - before.monotonic_ns, 1) * 1e-9
            velocities = np.append(state.velocities, (state.gripper - before.gripper) / elapsed)
        self._joints.publish(convert.joint_state_to_msg(
            state.wall_ns, (*state.joint_names, GRIPPER_NAME),
            np.append(state.positions, state.gripper), velocities))

    def executed(self, action: ExecutedAction) -> None:
        """Publish what was executed."""
        self._executed.publish(convert.executed_to_msg(action))


def executed_action(tick: Executed) -> ExecutedAction:
    """Return what the control loop did in a tick, as the graph knows it."""
    decision, played = tick.decision, tick.played
    status = decision.verdict
    if decision.fault and status is TickStatus.HELD:
        status = TickStatus.BLOCKED if decision.blocked else TickStatus.FAULT
    return ExecutedAction(
        tick.stamp, tick.episode_id, tick.step, decision.executed, decision.requested,
        chunk_id=played.chunk_id if played else 0, index=played.index if played else 0,
        policy_version=played.policy_version if played else 0,
        status=status, reason=decision.reason)
