"""``poco arm`` and ``poco operator`` where nothing answers, and where a person cuts the power."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from arm_support import tell, write_robot
from cell_support import quick_config, running, wait_until
from graph_support import ros
from poco_msgs.msg import EpisodeStatus
from poco_msgs.srv import Reset
from rclpy.node import Node
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from poco_ros.cell import piper_protocol as protocol
from poco_ros.cell.cell import Cell
from poco_ros.cli.main import USER_ERROR, main
from poco_ros.core.config import load
from poco_ros.robot.config import RobotConfig
from poco_ros.robot.piper import Piper
from poco_ros.ros import convert, names, operator_remote, remote
from poco_ros.ros.arm_remote import ArmRemote
from poco_ros.ros.fast_loop import Reply
from poco_ros.ros.node import PocoNode
from poco_ros.ros.operator_remote import OperatorRemote

pytestmark = pytest.mark.graph


@pytest.mark.parametrize("words, node", [
    (("arm", "stop"), "arm_controller"), (("operator", "stop"), "arm_controller"),
    (("arm", "state"), "arm_controller"), (("arm", "activate"), "arm_controller"),
    (("operator", "ready"), "rollout"), (("operator", "success"), "rollout")])
def test_who_is_not_there_is_named_with_domain_and_remedy(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        words: tuple[str, str], node: str) -> None:
    for module in (remote, operator_remote):
        monkeypatch.setattr(module, "DISCOVERY", 0.2)
    monkeypatch.setattr(remote, "PERIOD", 0.1)
    with ros():
        assert main(list(words)) == USER_ERROR
        told = capsys.readouterr().err
        domain = os.environ["ROS_DOMAIN_ID"]
        assert f"no {node} in ROS domain {domain}, no namespace" in told
        assert "Remedy: start it (poco " in told and "ROS_DOMAIN_ID" in told


def test_who_is_in_another_namespace_is_found_there(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(remote, "DISCOVERY", 2.0)
    with ros():
        node = Node("arm_controller", namespace="lab")
        assert main(["arm", "stop"]) == USER_ERROR
        assert "there is one in namespace lab: add --namespace lab" in capsys.readouterr().err
        node.destroy_node()


@pytest.mark.parametrize("word", ["stop", "release"])
def test_a_stop_is_asked_for_until_it_is_answered_and_a_release_once(word: str) -> None:
    """One that is heard late must not lift a stop that somebody has asked for since."""
    asked: list[bool] = []
    ending = threading.Event()
    with ros(), ArmRemote() as person:
        node = PocoNode("arm_controller")

        def serve(request: SetBool.Request, reply: Reply) -> None:
            asked.append(request.data)
            ending.wait(remote.AGAIN * 1.5)  # it is busy
            reply(SetBool.Response(success=True))

        def work() -> None:
            while not ending.is_set():
                node.loop.wait(0.02)

        node.loop.serve(SetBool, names.STOP, serve)
        thread = threading.Thread(target=work)
        thread.start()
        try:
            getattr(person, word)()
            time.sleep(remote.AGAIN)
        finally:
            ending.set()
            thread.join()
            node.destroy_node()
    assert len(asked) > 1 if word == "stop" else asked == [False]


@pytest.mark.parametrize("maker, what", [("rollout", "the arm goes home, then the policy acts"),
                                         ("recorder", "lead the arm")])
def test_ready_is_heard_also_by_who_finds_the_person_late_and_answered_with_what_begins(
        maker: str, what: str) -> None:
    """The arm needs the word as much as who makes episodes, and may find him a little later."""
    heard: dict[str, set[int]] = {maker: set(), "arm": set()}
    ending = threading.Event()
    with ros(), OperatorRemote() as person:
        node = PocoNode(maker)
        phases = node.create_publisher(EpisodeStatus, names.EPISODE, names.STATUS_QOS)
        phases.publish(EpisodeStatus(phase=EpisodeStatus.WAITING))

        def make(word: Header) -> None:
            if not heard[maker]:
                phases.publish(EpisodeStatus(phase=EpisodeStatus.RESETTING, episode_id="ep-0"))
                node.loop.subscribe(Header, names.OPERATOR_READY, lambda word: heard["arm"].add(
                    convert.stamp_of(word.stamp)), names.OPERATOR_QOS)
            heard[maker].add(convert.stamp_of(word.stamp))

        def work() -> None:
            while not ending.is_set():
                node.loop.wait(0.02)

        node.loop.subscribe(Header, names.OPERATOR_READY, make, names.OPERATOR_QOS)
        node.loop.serve(Reset, names.RESET, lambda request, reply: None)
        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert person.ready() == f"ep-0 begins: {what}"
        finally:
            ending.set()
            thread.join()
            node.destroy_node()
    assert heard[maker] == heard["arm"] and len(heard["arm"]) == 1, "one word, one stamp"


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    with running(quick_config(tmp_path_factory.mktemp("cell"), cameras=[])) as cell:
        yield cell


@pytest.fixture
def robot(cell: Cell, tmp_path: Path) -> Path:
    """Settings of an arm whose motors are on, and which nobody controls."""
    path = write_robot(tmp_path, cell)
    arm = Piper(load(RobotConfig, path).arm)
    arm.open()
    arm.enable()
    arm.close()
    assert all(cell.arm.enabled)
    return path


def reported(robot: Path) -> set[str]:
    """Return the codes of the faults that the arm reports, when every motor has reported."""
    arm = Piper(load(RobotConfig, robot).arm)
    arm.open()
    try:
        time.sleep(0.3)
        return {fault.code for fault in arm.read().faults}
    finally:
        arm.close()


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """A person at the terminal that is the standard input; call it with what he types."""
    master, slave = os.openpty()
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        yield lambda text: (os.write(master, f"{text}\n".encode()), None)[1]
    os.close(master)


def test_only_the_typed_word_cuts_the_power(
        cell: Cell, robot: Path, person: Callable[[str], None],
        capsys: pytest.CaptureFixture[str]) -> None:
    person("yes")
    assert main(["arm", "off", "--robot", str(robot)]) == USER_ERROR
    told = capsys.readouterr()
    assert "THE ARM DROPS" in told.out and "nothing was sent" in told.err
    assert all(cell.arm.enabled)
    person("drop")
    assert main(["arm", "off", "--robot", str(robot)]) == 0
    assert "the motors are off" in capsys.readouterr().out and not any(cell.arm.enabled)


def test_a_reset_lifts_the_arms_own_emergency_stop(
        cell: Cell, robot: Path, person: Callable[[str], None]) -> None:
    tell(cell, protocol.stop_command(1))
    wait_until(lambda: reported(robot) == {"arm_status"}, "the emergency stop")
    person("drop")
    assert main(["arm", "reset", "--robot", str(robot)]) == 0
    assert reported(robot) == {"not_enabled"} and not any(cell.arm.enabled)


def test_without_a_person_at_a_terminal_no_power_is_cut(
        cell: Cell, robot: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("drop\n"))
    assert main(["arm", "reset", "--robot", str(robot)]) == USER_ERROR
    assert "wants a person at a terminal" in capsys.readouterr().err and all(cell.arm.enabled)
