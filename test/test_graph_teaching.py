"""A person leads the arm, with a leader arm or by hand: what the arm's node makes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from arm_support import HOME, NODE, ArmDriver, tell, write_robot
from cell_support import ask, quick_config, running, wait_until
from graph_support import Graph, ros
from poco_msgs.msg import EpisodeStatus
from std_srvs.srv import Trigger

from poco_ros.cell import piper_protocol as protocol
from poco_ros.cell.cell import Cell
from poco_ros.cell.frames import Frame
from poco_ros.core.joining import EpisodeBuilder, TickStatus
from poco_ros.robot.actions import ActionMapping
from poco_ros.robot.arm import ArmCommand
from poco_ros.robot.config import ActionConfig
from poco_ros.robot.kinematics import JOINT_NAMES

pytestmark = pytest.mark.graph
MAPPING = ActionMapping(ActionConfig(), JOINT_NAMES)
AWAY = HOME + np.array([0.5, -0.2, 0.2, 0.3, -0.2, 0.4])


@pytest.fixture(scope="module", params=["leader", "hand"])
def cell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
         ) -> Iterator[Cell]:
    with running(quick_config(tmp_path_factory.mktemp("cell"))) as cell:
        cell.by = request.param  # type: ignore[attr-defined]
        yield cell


def others(cell: Cell) -> str:
    """Return what the settings say of other controllers."""
    return "leader" if cell.by == "leader" else "refuse"  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def driver(cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArmDriver]:
    folder = tmp_path_factory.mktemp("graph")
    with ros(), Graph(folder) as graph:
        robot = write_robot(folder, cell, {"arm": {"other_controllers": others(cell)}})
        graph.start(NODE, config=robot, mode="teach")
        driver = ArmDriver(graph)
        driver.wait(lambda: driver.figure("state") == "active", "the node is up")
        assert driver.figure("mode") == "teach"
        assert not any(cell.arm.enabled), "nobody but the person powers the arm"
        yield driver
        driver.destroy_node()


def take_hold(cell: Cell, driver: ArmDriver) -> None:
    """Power the arm, as its leader does; for a hand let it give way."""
    tell(cell, protocol.enable_command(7, True))
    wait_until(lambda: all(cell.arm.enabled[:6]), "power")
    if cell.by == "hand":  # type: ignore[attr-defined]
        tell(cell, protocol.teach_command(1))
        wait_until(lambda: cell.arm.led_by_hand, "drag teaching")
    driver.ticks(18)  # what is no button of the arm counts as another controller for a second


def rest(cell: Cell) -> None:
    """Let the leader come to its end."""
    cell.leader.start(0)
    wait_until(lambda: not cell.leader.step() and cell.leader.remaining == 0, "it rests")


def lead(cell: Cell) -> None:
    """Begin to lead the arm home from somewhere else."""
    rest(cell)
    cell.scene.place_arm(AWAY)
    cell.leader.start(1)


def begin(driver: ArmDriver, name: str) -> None:
    """Begin an episode and wait until it has three actions.

    Where a machine is busy a hole in the measurements can end one at once: then another is begun.
    """
    def goes_on() -> bool:
        return len(driver.executed) >= 3 or driver.held()

    for attempt in range(5):
        assert driver.reset(f"{name}-{attempt}").success
        driver.executed.clear()
        driver.wait(goes_on, "an episode")
        if not driver.held():
            break
    assert {tick.status for tick in driver.executed} <= {TickStatus.NOMINAL, TickStatus.LIMITED}


def away(joints: np.ndarray) -> float:
    """Return how far joints (7,) are from home, the farthest of them [rad]."""
    return float(np.abs(joints[:6] - HOME).max())


def test_what_is_led_becomes_an_episode_whose_actions_lead_the_same_way(
        cell: Cell, driver: ArmDriver) -> None:
    take_hold(cell, driver)
    for attempt in range(3):  # where a machine is busy a hole can end an episode
        driver.joints.clear()
        driver.executed.clear()
        name = f"shown-{attempt}"
        assert driver.reset(name).success
        lead(cell)
        driver.wait(lambda: max((away(joints) for _, joints in driver.joints), default=0.0) > 0.4
                    and away(driver.joints[-1][1]) < 0.02, "it went home")
        driver.ticks(3)
        if not driver.held():
            break
    first = int(np.argmax([joints[0] for _, joints in driver.joints])) + 2  # it is led since
    actions = {tick.stamp: tick for tick in driver.executed}
    assert [tick.step for tick in driver.executed] == list(range(len(actions)))
    led = [actions[stamp] for stamp, _ in driver.joints[first:-1] if stamp in actions]
    pose = ArmCommand(driver.joints[first][1][:6], 0.07)
    for tick in led:
        pose = MAPPING.pose(tick.executed, pose)
    np.testing.assert_allclose(pose.positions, HOME, atol=0.15)
    assert any(tick.status == TickStatus.NOMINAL and np.abs(tick.executed[:6]).max() > 0.2
               for tick in led)
    builder = EpisodeBuilder(name, "pick-cube", 0, step_reward=0.0)
    for stamp, joints in driver.joints:
        builder.add_observation(stamp, joints.astype(np.float32))
    for tick in driver.executed:
        builder.add_executed(tick)
    episode = builder.build()
    assert episode.trainable and len(episode) >= len(actions) - 1
    driver.tell(name, EpisodeStatus.RUNNING)
    driver.tell(name, EpisodeStatus.ENDED)
    driver.wait(lambda: driver.figure("episode_id") == "", "the episode is over")


def test_nothing_is_ever_sent_and_nothing_moves_the_arm_but_the_person(
        cell: Cell, driver: ArmDriver) -> None:
    sent: list[int] = []
    cell.hub.tap(lambda frames: sent.extend(frame.identifier for frame in frames))
    rest(cell)
    commands = {protocol.JOINTS_12, protocol.MODE, protocol.ENABLE, protocol.GRIPPER}

    def quiet() -> bool:
        sent.clear()
        time.sleep(0.2)
        return not commands & set(sent)

    wait_until(quiet, "a leader's last commands are over")
    assert driver.reset("alone").success
    assert not driver.ask(driver.homes, Trigger.Request()).success
    driver.ticks(5)
    assert not commands & set(sent)


def test_a_stop_ends_the_episode_and_refuses_the_next_until_released(
        cell: Cell, driver: ArmDriver) -> None:
    begin(driver, "stopped")
    answer = driver.stop(True)
    assert answer.success and "holds" not in answer.message
    assert {"leader": "the leader still leads the arm: let go of it",
            "refuse": "nothing was sent to the arm: teaching"}[others(cell)] in answer.message
    driver.wait(lambda: bool(driver.executed)
                and driver.executed[-1].status == TickStatus.STOPPED, "it is told")
    refused = driver.reset("while stopped")
    assert not refused.success and "stop is latched" in refused.message
    assert driver.stop(False).success
    assert driver.reset("again").success


@pytest.mark.parametrize(("fault", "words"), [("silent_bus?seconds=0.4", "nothing was measured"),
                                              ("broken_motor?seconds=0.4", "joint3")])
def test_a_fault_of_the_arm_ends_the_episode_so_that_it_is_not_trained_on(
        cell: Cell, driver: ArmDriver, fault: str, words: str) -> None:
    begin(driver, fault)
    ask(cell, f"/fault/{fault}")
    driver.wait(lambda: driver.executed[-1].status == TickStatus.FAULT, "the fault is told")
    assert words in driver.executed[-1].reason
    known = len(driver.executed)
    driver.ticks(3)
    assert len(driver.executed) == known, "it was the last tick of the episode"


def test_a_stop_that_shall_be_an_emergency_stop_reaches_an_arm_that_is_led(
        cell: Cell, driver: ArmDriver) -> None:
    heard: list[Frame] = []
    cell.hub.tap(heard.extend)
    ask(cell, "/fault/clear")
    driver.graph.nodes[NODE].interrupt()
    write_robot(driver.graph.folder, cell, {"arm": {
        "other_controllers": others(cell), "stop_mode": "emergency"}})
    count = len(driver.joints)
    driver.graph.nodes[NODE].start()
    driver.wait(lambda: len(driver.joints) > count + 5, "it measures again")
    take_hold(cell, driver)
    lead(cell)
    driver.ticks(5)
    assert protocol.stop_command(1) not in heard
    answer = driver.stop(True)
    assert answer.success and "the arm's own emergency stop was sent" in answer.message
    assert "holds" not in answer.message and "still leads" not in answer.message
    wait_until(lambda: protocol.stop_command(1) in heard, "the frame")
    stopped = driver.until_still()[:6]
    assert np.abs(stopped - HOME).max() > 0.1, "it has stopped on its way"
    cell.leader.start(0)
    tell(cell, protocol.stop_command(2))
    assert driver.stop(False).success
