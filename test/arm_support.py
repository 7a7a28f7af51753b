"""The arm_controller on a running cell's bus, and somebody who drives it as a rollout does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import can
import numpy as np
import yaml
from graph_support import Graph, NodeProcess, Onlooker
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from poco_msgs.msg import ActionChunk, EpisodeStatus, ExecutedAction
from poco_msgs.srv import Reset
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from poco_ros.cell.cell import Cell
from poco_ros.cell.frames import Frame
from poco_ros.core import chunk as core
from poco_ros.core.config import merge
from poco_ros.core.joining import ExecutedAction as Executed
from poco_ros.core.joining import TickStatus
from poco_ros.core.task import ROBOT_JOINTS
from poco_ros.ros import convert, names

NODE = "arm_controller"
HOME = np.array([0.0, 1.2, -1.0, 0.0, 0.9, 0.0])
PERIOD = 1.0 / 15.0
HOLDS = (TickStatus.HELD, TickStatus.FAULT, TickStatus.BLOCKED)
QUICK: dict[str, Any] = {"homing": {"velocity": 2.0}, "safety": {"soft_start": 0.1},
                         "control": {"heartbeat_timeout": 0.0}}
"""Settings that do not keep tests waiting, nor want an operator."""


def write_robot(folder: Path, cell: Cell, changes: Mapping[str, Any] | None = None) -> Path:
    """Write the settings of an arm on the cell's bus."""
    path = folder / "robot.yaml"
    values = merge(QUICK, {"arm": {"interface": "poco_cell", "channel": str(cell.hub.path),
                                   "lock_folder": str(folder / "locks")}})
    path.write_text(yaml.safe_dump(merge(values, changes or {})))
    return path


class ArmDriver(Onlooker):
    """Resets, sends chunks, and notes all that the arm's node says."""

    def __init__(self, graph: Graph) -> None:
        super().__init__("driver")
        self.graph = graph
        self.joints: list[tuple[int, np.ndarray]] = []
        self.executed: list[Executed] = []
        self.velocities = np.zeros(0)
        self.loop.subscribe(JointState, names.JOINT_STATES, self._on_joints, names.TICK_QOS)
        self.loop.subscribe(ExecutedAction, names.EXECUTED_ACTION, lambda m: self.executed.append(
            convert.executed_of(m)), names.TICK_QOS)
        self.chunks = self.create_publisher(ActionChunk, names.ACTION_CHUNK, names.CHUNK_QOS)
        self.episode = self.create_publisher(EpisodeStatus, names.EPISODE, names.STATUS_QOS)
        self.readies = self.create_publisher(Header, names.OPERATOR_READY, names.OPERATOR_QOS)
        self.heartbeat = self.create_publisher(Header, names.OPERATOR_HEARTBEAT,
                                               names.OPERATOR_QOS)
        self.resets = self.loop.client(Reset, names.RESET)
        self.stops = self.loop.client(SetBool, names.STOP)
        self.homes = self.loop.client(Trigger, names.HOME)
        self.changes = self.loop.client(ChangeState, f"{NODE}/change_state")
        self._number = 0

    def _on_joints(self, message: JointState) -> None:
        self.joints.append(convert.joints_of(message, ROBOT_JOINTS))
        self.velocities = np.array(message.velocity)

    def wait(self, condition: Any, what: str) -> None:
        """Wait until ``condition`` holds."""
        self.until(condition, what, self.graph)

    def ticks(self, count: int) -> None:
        """Wait for so many ticks."""
        until = len(self.joints) + count
        self.wait(lambda: len(self.joints) >= until, f"{count} ticks")

    def ready(self) -> None:
        """Be ready, as an operator is before every episode."""
        self.wait(self.readies.get_subscription_count, "somebody hears ready")
        self.readies.publish(Header(stamp=convert.stamp_to_msg(time.time_ns())))

    def reset(self, episode: str, ready: bool = True) -> Reset.Response:
        """Ask for an episode, after the operator was ready; return the answer."""
        if ready:
            self.ready()
        return self.ask(self.resets, Reset.Request(episode_id=episode))

    def begin(self) -> str:
        """Begin an episode and wait for its first tick; return its id."""
        self._number += 1
        name = f"episode-{self._number}"
        answers: list[Reset.Response] = []

        def begun() -> bool:
            answers.append(self.reset(name))
            return bool(answers[-1].success)

        self.wait(begun, f"reset of {name}: {answers[-1:]}")
        begins = convert.stamp_of(answers[-1].begins)
        self.wait(lambda: self.joints[-1][0] >= begins, "the first tick")
        self.executed.clear()
        return name

    def send(self, episode: str, number: int, actions: np.ndarray, task: str = "",
             stamp: int | None = None) -> None:
        """Send a chunk that answers the newest tick."""
        answered = self.joints[-1][0] if stamp is None else stamp
        self.chunks.publish(convert.chunk_to_msg(
            core.ActionChunk(actions, number, 7, answered, task), episode))

    def played(self, number: int) -> list[Executed]:
        """Return the ticks in which an action of a chunk was executed."""
        return [tick for tick in self.executed if tick.chunk_id == number]

    def run(self, episode: str, number: int, actions: np.ndarray, ticks: int = 2) -> None:
        """Send a chunk and wait until so many of its actions were executed."""
        self.send(episode, number, actions)
        self.wait(lambda: len(self.played(number)) >= ticks, f"{ticks} ticks of chunk {number}")

    def held(self, words: str = "") -> bool:
        """Return whether the newest tick was held, with these words."""
        return bool(self.executed) and self.executed[-1].status in HOLDS \
            and words in self.executed[-1].reason

    def tell(self, episode: str, phase: int) -> None:
        """Say where an episode stands, as a rollout does."""
        self.episode.publish(convert.episode_status_to_msg(
            time.time_ns(), convert.EpisodeStatus(episode, phase=phase)))

    def stop(self, data: bool) -> SetBool.Response:
        """Ask for the stop, or for its release."""
        return self.ask(self.stops, SetBool.Request(data=data))

    def go(self, transition: int) -> bool:
        """Ask the node for a transition of its life cycle."""
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.ask(self.changes, request).success)

    def figure(self, name: str) -> str:
        """Return a figure of the node's newest report, empty when it has none."""
        return self.figures.get(NODE, {}).get(name, "")

    def until_still(self) -> np.ndarray:
        """Wait until the measured pose does not change any more, and return it."""
        def still() -> bool:
            recent = np.array([pose for _, pose in self.joints[-5:]])
            return len(recent) == 5 and bool(np.ptp(recent, axis=0).max() < 1e-3)

        self.ticks(5)
        self.wait(still, "the arm rests")
        return self.joints[-1][1]


def actions(joint: int = 0, value: float = 0.0, horizon: int = 5, gripper: float = 1.0
            ) -> np.ndarray:
    """Return a chunk (T, 7) that moves one joint, 0 to 5, and keeps the gripper."""
    chunk = np.zeros((horizon, 7), np.float32)
    chunk[:, joint], chunk[:, -1] = value, gripper
    return chunk


def refused(folder: Path, **parameters: object) -> tuple[int, str]:
    """Start a node that must refuse; return its exit code and what it says."""
    node = NodeProcess(NODE, parameters, folder / "refused.log")
    return node.process.wait(60), node.output()


def tell(cell: Cell, *frames: Frame) -> None:
    """Send frames to the arm as another program on the bus, and wait until they are there."""
    with can.Bus(channel=str(cell.hub.path), interface="poco_cell",
                 receive_own_messages=True) as bus:
        for frame in frames:
            bus.send(can.Message(arbitration_id=frame.identifier, data=frame.data,
                                 is_extended_id=False))
            while (echo := bus.recv(5.0)) and echo.arbitration_id != frame.identifier:
                pass
