"""What a rollout may rely on, in simulation and on the robot: one contract, two environment sides.

The robot's side is the real nodes, in the processes that the launcher starts, plugged into the
emulated cell.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import yaml
from graph_support import Graph, Onlooker, ros, write_preset
from poco_msgs.msg import ActionChunk, ExecutedAction, Features, Reward
from poco_msgs.srv import Reset
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from poco_ros.bringup.robot import RealFinetuneArguments, real_finetune, resolve_finetune
from poco_ros.cli.launch import command_of
from poco_ros.core import chunk as core
from poco_ros.core.joining import ExecutedAction as Executed
from poco_ros.core.joining import TickStatus
from poco_ros.core.task import JOINTS_PART
from poco_ros.preset import Preset, load_preset
from poco_ros.processes import kept_environment
from poco_ros.ros import convert, names

pytestmark = pytest.mark.graph
ROBOT = {
    "task": {"domain": "robot", "title": "pick-cube", "features": {"front": 128},
             "max_episode_steps": 60},
    "demonstrations": {"kind": "episodes"},
}
SIDES = {"simulation": "sim_bridge", "robot": "arm_controller"}
"""Environment side -> the node that takes chunks."""


class Driver(Onlooker):
    """Drives an environment side as a rollout would, and notes all that it says."""

    def __init__(self, node: str, preset: Preset) -> None:
        super().__init__("driver")
        self.side, self.task = node, preset.task
        self.features: list[tuple[int, dict[str, np.ndarray]]] = []
        self.joints: list[tuple[int, JointState]] = []
        self.executed: list[Executed] = []
        self.chunk = self.create_publisher(ActionChunk, names.ACTION_CHUNK, names.CHUNK_QOS)
        self.loop.subscribe(Features, names.FEATURES,
                            lambda m: self.features.append(convert.parts_of(m)), names.TICK_QOS)
        self.loop.subscribe(JointState, names.JOINT_STATES, lambda m: self.joints.append(
            (convert.stamp_of(m.header.stamp), m)), names.TICK_QOS)
        self.loop.subscribe(ExecutedAction, names.EXECUTED_ACTION, lambda m: self.executed.append(
            convert.executed_of(m)), names.TICK_QOS)
        # A reset asks for somebody who hears the rewards.
        self.loop.subscribe(Reward, names.REWARD, lambda m: None, names.TICK_QOS)
        self.ready = self.create_publisher(Header, names.OPERATOR_READY, names.OPERATOR_QOS)
        self.reset = self.loop.client(Reset, names.RESET)
        self.stop = self.loop.client(SetBool, names.STOP)
        self._number = 0

    def begin(self) -> str:
        """Begin an episode; return its id when the first tick of it is there."""
        self._number += 1
        name = f"contract-{self._number}"
        answers: list[Reset.Response] = []

        def begun() -> bool:
            if not answers or not answers[-1].success:
                self.ready.publish(Header(stamp=convert.stamp_to_msg(time.time_ns())))
                answers.append(self.ask(self.reset, Reset.Request(episode_id=name, seed=1)))
            return answers[-1].success

        self.until(begun, f"reset of {name}")
        self.begins = convert.stamp_of(answers[-1].begins)
        self.executed.clear()
        self.until(lambda: self.features and self.joints and self.joints[-1][0] >= self.begins,
                   "the first tick")
        return name

    def send(self, episode: str, number: int, actions: np.ndarray, age: float = 0.0,
             task: str = "") -> None:
        """Send a chunk that answers the newest tick, or one so many seconds before it."""
        stamp = self.joints[-1][0] - round(age * 1e9)
        self.chunk.publish(convert.chunk_to_msg(
            core.ActionChunk(actions, number, 7, stamp, task or self.task.name), episode))

    def still(self) -> np.ndarray:
        """Return a chunk (3, A) of actions that move nothing but may move the gripper a little."""
        actions = np.zeros((3, self.task.action_dim), np.float32)
        actions[:, -1] = 0.9
        return actions


@pytest.fixture(scope="module", params=list(SIDES))
def driver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
           ) -> Iterator[Driver]:
    folder = tmp_path_factory.mktemp(request.param)
    with ros(), ExitStack() as stack:
        if request.param == "simulation":
            path = write_preset(folder / "preset.yaml", {
                "graph": {"sim_bridge": {"rate": 15.0, "max_chunk_age": 0.8}}})
            graph = stack.enter_context(Graph(folder))
            graph.start("sim_bridge", preset=path, pace="realtime")
        else:
            path = folder / "preset.yaml"
            path.write_text(yaml.safe_dump(ROBOT))
            stack.enter_context(RobotSide(path, folder))
        made = Driver(SIDES[request.param], load_preset(path))
        yield made
        made.destroy_node()


class RobotSide:
    """The hardware nodes and the cell, as `poco launch real_finetune hardware:=emulated`."""

    def __init__(self, preset: Path, folder: Path) -> None:
        cell = folder / "cell.yaml"
        quick = Path(__file__).resolve().parent.parent / "config/cell/quick.yaml"
        values = yaml.safe_load(quick.read_text())
        values["operator"]["enabled"] = False
        cell.write_text(yaml.safe_dump(values))
        self._folder = folder
        self._arguments = resolve_finetune(RealFinetuneArguments(
            preset=str(preset), hardware="emulated", cell=str(cell), run_dir=str(folder / "run")))

    def __enter__(self) -> None:
        self._processes = []
        for spec in real_finetune(self._arguments):
            if spec.name in ("policy_server", "rollout", "learner"):
                continue
            with open(self._folder / f"{spec.name}.log", "wb") as log:
                self._processes.append(subprocess.Popen(
                    command_of(spec), stdout=log, stderr=log,
                    env={**os.environ, **kept_environment(spec.nice)}))

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait(30)


def test_topics_have_the_types_and_qualities_of_the_contract(driver: Driver) -> None:
    driver.begin()
    expected = {
        names.JOINT_STATES: ("sensor_msgs/msg/JointState", names.TICK_QOS),
        names.FEATURES: ("poco_msgs/msg/Features", names.TICK_QOS),
        names.EXECUTED_ACTION: ("poco_msgs/msg/ExecutedAction", names.TICK_QOS),
        names.REWARD: ("poco_msgs/msg/Reward", names.TICK_QOS),
    }
    for topic, (kind, qos) in expected.items():
        found = driver.get_publishers_info_by_topic(topic)
        assert len(found) == 1 and found[0].topic_type == kind, topic
        assert found[0].qos_profile.reliability == ReliabilityPolicy.RELIABLE == qos.reliability
        assert found[0].qos_profile.durability == DurabilityPolicy.VOLATILE
    heard = driver.get_subscriptions_info_by_topic(names.ACTION_CHUNK)
    assert [info.node_name for info in heard] == [driver.side]


def test_features_and_joints_are_the_parts_of_the_tasks_observation(driver: Driver) -> None:
    driver.begin()
    parts = dict(driver.features[-1][1])
    message = driver.joints[-1][1]
    if not driver.task.simulated:
        parts[JOINTS_PART] = convert.joints_of(message, (*message.name[:6], "gripper"))[1]
    assert driver.task.observation.assemble(parts).shape == (driver.task.observation.size,)
    assert list(parts) == list(driver.task.observation.names)


def test_joints_are_named_in_radians_and_the_gripper_in_metres(driver: Driver) -> None:
    driver.begin()
    message = driver.joints[-1][1]
    assert len(set(message.name)) == len(message.name) == len(message.position) == \
        (7 if not driver.task.simulated else len(message.name))
    assert np.isfinite(message.position).all() and np.abs(message.position).max() < 2 * np.pi
    assert 0.0 <= message.position[-1] <= 0.1


def test_ticks_come_at_the_control_rate_with_rising_stamps(driver: Driver) -> None:
    driver.begin()
    driver.joints.clear()
    driver.until(lambda: len(driver.joints) > 20, "20 ticks")
    stamps = np.array([stamp for stamp, _ in driver.joints])
    assert (np.diff(stamps) > 0).all()
    assert np.median(np.diff(stamps)) / 1e9 == pytest.approx(1 / 15, rel=0.1)


def test_observations_are_taken_by_the_time_of_their_tick(driver: Driver) -> None:
    driver.begin()
    tick = driver.joints[-1][0]
    taken = max(stamp for stamp, _ in driver.features if stamp <= tick)
    assert (tick - taken) / 1e9 < 0.25


def test_a_chunk_is_executed_one_action_a_tick_at_the_stamps_of_the_joints(driver: Driver) -> None:
    name = driver.begin()
    actions = driver.still()
    actions[:, 0] = (0.2, -0.2, 0.1)
    driver.send(name, 1, actions)
    driver.until(lambda: any(e.chunk_id == 1 and e.index == 2 for e in driver.executed),
                 "the chunk is executed")
    played = [e for e in driver.executed if e.chunk_id == 1]
    assert [e.index for e in played] == [0, 1, 2]
    assert {e.policy_version for e in played} == {7} and {e.episode_id for e in played} == {name}
    assert {e.status for e in played} <= {TickStatus.NOMINAL, TickStatus.LIMITED}
    steps = [e.step for e in played]
    assert steps == list(range(steps[0], steps[0] + 3))
    np.testing.assert_allclose([e.requested for e in played], actions, atol=1e-6)
    assert all(np.abs(e.executed).max() <= 1.0 for e in played)
    driver.until(lambda: driver.joints[-1][0] > played[-1].stamp, "the tick after it")
    assert {e.stamp for e in played} <= {stamp for stamp, _ in driver.joints}


def test_when_no_action_is_due_the_tick_is_held_and_told(driver: Driver) -> None:
    name = driver.begin()
    driver.send(name, 1, driver.still())
    driver.until(lambda: any(e.chunk_id == 1 for e in driver.executed)
                 and driver.executed[-1].status == TickStatus.HELD, "a held tick")
    held = driver.executed[-1]
    assert held.episode_id == name and held.chunk_id == 0 and held.reason


@pytest.mark.parametrize(("fault", "words"), [
    ("task", "another-task"), ("episode", "some other episode"), ("stale", "old"),
    ("size", "values an action"), ("repeated", "not newer"), ("nan", "not finite")])
def test_a_chunk_that_must_not_be_executed_is_refused_and_told(driver: Driver, fault: str,
                                                               words: str) -> None:
    name = driver.begin()
    good = driver.still()
    driver.send(name, 1, good)
    driver.until(lambda: any(e.chunk_id == 1 for e in driver.executed), "a good one")
    since = driver.reports(driver.side)
    if fault == "task":
        driver.send(name, 2, good, task="another-task")
    elif fault == "episode":
        driver.send("some other episode", 2, good)
    elif fault == "stale":
        driver.send(name, 2, good, age=5.0)
    elif fault == "size":
        driver.send(name, 2, good[:, :-1])
    elif fault == "repeated":
        driver.send(name, 1, good)
    else:
        message = convert.chunk_to_msg(core.ActionChunk(
            good, 2, 7, driver.joints[-1][0], driver.task.name), name)
        message.actions[0] = float("nan")
        driver.chunk.publish(message)
    driver.until(lambda: driver.says(driver.side, words, since), f"{fault} is told")
    assert not any(e.chunk_id == 2 for e in driver.executed)


def test_the_stop_is_latched_until_it_is_released(driver: Driver) -> None:
    name = driver.begin()
    driver.send(name, 1, driver.still())
    driver.until(lambda: bool(driver.executed), "a tick")
    assert driver.ask(driver.stop, SetBool.Request(data=True)).success
    driver.until(lambda: driver.executed[-1].status == TickStatus.STOPPED, "the stop is told")
    assert driver.executed[-1].reason
    refused = driver.ask(driver.reset, Reset.Request(episode_id="while stopped", seed=1))
    assert not refused.success and "stop" in refused.message
    assert driver.ask(driver.stop, SetBool.Request(data=False)).success
    name = driver.begin()
    driver.send(name, 1, driver.still())
    driver.until(lambda: any(e.chunk_id == 1 for e in driver.executed), "it works again")
