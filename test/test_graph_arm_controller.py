"""The arm's node over DDS, on the bus of a running cell: ticks, episodes, faults, who may command.

The cell tells what the arm really did.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from arm_support import HOME, NODE, ArmDriver, actions, refused, tell, write_robot
from cell_support import ask, quick_config, running, wait_until
from graph_support import Graph, ros
from lifecycle_msgs.msg import Transition
from poco_msgs.msg import EpisodeStatus
from poco_msgs.srv import Reset
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from poco_ros.cell import piper_protocol as protocol
from poco_ros.cell.cell import Cell
from poco_ros.cell.frames import Frame
from poco_ros.cli.arm import in_words
from poco_ros.cli.main import main
from poco_ros.core.errors import ConfigError
from poco_ros.core.joining import TickStatus
from poco_ros.nodes.arm_controller.settings import (
    ArmControllerSettings,
    robot_config,
    task_of,
)
from poco_ros.ros import convert
from poco_ros.ros.arm_remote import ArmRemote
from poco_ros.ros.node import REFUSED
from poco_ros.ros.remote import RefusedError

pytestmark = pytest.mark.graph
TASK = "pick-cube"
STEP = 0.06
"""Change of a joint that action 1 asks for [rad]."""


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    with running(quick_config(tmp_path_factory.mktemp("cell"))) as cell:
        yield cell


@pytest.fixture(scope="module")
def graph(cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    folder = tmp_path_factory.mktemp("graph")
    preset = folder / "preset.yaml"
    preset.write_text(yaml.safe_dump({"task": {
        "domain": "robot", "title": TASK, "features": {"front": 32}, "max_episode_steps": 100}}))
    with ros(), Graph(folder) as graph:
        graph.start(NODE, config=write_robot(folder, cell), preset=preset)
        yield graph


@pytest.fixture(scope="module")
def driver(graph: Graph) -> Iterator[ArmDriver]:
    driver = ArmDriver(graph)
    yield driver
    driver.destroy_node()


def truth(cell: Cell) -> np.ndarray:
    return cell.scene.joint_positions


def send(driver: ArmDriver, episode: str, number: int, chunk: np.ndarray) -> None:
    driver.send(episode, number, chunk, TASK)


def run(driver: ArmDriver, episode: str, number: int, chunk: np.ndarray, ticks: int = 2) -> None:
    """Send a chunk and wait until so many of its actions were executed."""
    send(driver, episode, number, chunk)
    driver.wait(lambda: len(driver.played(number)) >= ticks, f"{ticks} ticks of chunk {number}")


# -- beginning ---------------------------------------------------------------------------------


def test_it_brings_itself_up_powers_the_arm_and_moves_nothing(
        cell: Cell, driver: ArmDriver) -> None:
    folded = np.asarray(cell.config.scene.folded)
    driver.wait(lambda: driver.figure("mode") == "active", "the node is active")
    driver.ticks(5)
    assert all(cell.arm.enabled)
    np.testing.assert_allclose(truth(cell), folded, atol=0.02)
    np.testing.assert_allclose(driver.joints[-1][1][:6], truth(cell), atol=1e-3)
    assert driver.velocities.shape == (7,)
    stamps = np.array([stamp for stamp, _ in driver.joints[-5:]])
    assert (np.diff(stamps) > 0).all() and abs(stamps[-1] - time.time_ns()) < 1e9


def test_a_reset_is_answered_when_the_arm_is_home_and_only_the_newest_is(
        cell: Cell, driver: ArmDriver) -> None:
    answers: list[tuple[str, Reset.Response]] = []
    driver.ready()
    for name in ("first", "first", "second"):
        driver.resets.call(Reset.Request(episode_id=name),
                           lambda answer, name=name: answers.append((name, answer)))
        driver.ticks(2)
        assert not answers, "it is on its way"
    driver.wait(lambda: bool(answers), "the answer")
    np.testing.assert_allclose(truth(cell), HOME, atol=0.06)
    assert [name for name, _ in answers] == ["second"] and answers[0][1].success
    assert abs(convert.stamp_of(answers[0][1].begins) - time.time_ns()) < 1e9
    driver.wait(lambda: driver.figure("episode_id") == "second", "the report names it")
    began = time.monotonic()
    assert driver.reset("third").success
    assert time.monotonic() - began < 0.3, "it is there already"


# -- acting ------------------------------------------------------------------------------------


def test_a_chunk_moves_the_arm_an_action_a_tick_at_the_stamps_of_the_joints(
        cell: Cell, driver: ArmDriver) -> None:
    name = driver.begin()
    driver.until_still()
    start = truth(cell)
    chunk = actions(0, 0.5)
    run(driver, name, 1, chunk, 5)
    ticks = driver.played(1)
    assert [tick.index for tick in ticks] == list(range(5))
    assert [tick.step for tick in ticks] == list(range(5))
    assert {tick.policy_version for tick in ticks} == {7}
    np.testing.assert_allclose([tick.requested for tick in ticks], chunk, atol=1e-4)
    for tick in ticks:  # one that comes soon after a late one may move less
        if tick.status != TickStatus.NOMINAL:
            assert (tick.status, tick.reason) == (TickStatus.LIMITED, "velocity limit")
            continue
        np.testing.assert_allclose(tick.executed, tick.requested, atol=1e-4)
    driver.ticks(1)
    assert {tick.stamp for tick in ticks} <= {stamp for stamp, _ in driver.joints}
    moved = driver.until_still()[0] - start[0]
    # What it was behind its command when the chunk ended, it does not make up for: it holds.
    commanded = STEP * sum(tick.executed[0] for tick in ticks)
    assert 0.6 * commanded < moved < commanded + 5e-3


def test_without_a_chunk_the_measured_pose_is_held_from_the_next_tick_on(
        driver: ArmDriver) -> None:
    name = driver.begin()
    run(driver, name, 1, actions(0, 0.3, 3), 3)
    driver.wait(lambda: driver.held("no chunk"), "a held tick")
    last, held = driver.played(1)[-1], driver.executed[-1]
    first = next(tick for tick in driver.executed if tick.status == TickStatus.HELD)
    assert first.step == last.step + 1 and held.chunk_id == 0
    since = driver.reports(NODE)
    driver.wait(lambda: driver.says(NODE, "late chunk", since), "it is told")
    run(driver, name, 2, actions(0, -0.3, 3), 3)


@pytest.mark.parametrize("phase, other", [
    (EpisodeStatus.ENDED, ""), (EpisodeStatus.RESETTING, "the next"),
    (EpisodeStatus.WAITING, "nothing yet")])
def test_when_the_episode_is_over_its_chunk_is_dropped_at_once(
        driver: ArmDriver, phase: int, other: str) -> None:
    name = driver.begin()
    driver.tell(name, EpisodeStatus.RUNNING)
    run(driver, name, 1, actions(0, 0.2, 100))
    driver.tell("a past one", EpisodeStatus.STORED)
    driver.ticks(2)
    count = len(driver.played(1))
    assert count >= 3, "what becomes of a past episode ends none"
    driver.tell(other or name, phase)
    driver.wait(lambda: driver.figure("episode_id") == "", "it is over")
    assert len(driver.played(1)) <= count + 3, driver.executed[-1]
    send(driver, name, 2, actions())
    since = driver.reports(NODE)
    driver.wait(lambda: driver.says(NODE, "open is 'none'", since), "late chunks are refused")


@pytest.mark.parametrize("kind, words", [
    ("size", "values an action"), ("nan", "not finite"), ("large", "outside [-1, 1]"),
    ("task", "'open-door'"), ("episode", "'some other'"), ("stamp", "too old"),
    ("repeated", "not newer"), ("torn", "expected 5 x 7")])
def test_a_chunk_that_does_not_belong_is_refused_counted_told_and_moves_nothing(
        cell: Cell, driver: ArmDriver, kind: str, words: str) -> None:
    name = driver.begin()
    run(driver, name, 5, actions(0, 0.0, 2), 2)
    resting, since = driver.until_still(), driver.reports(NODE)
    bad = convert.chunk_to_msg(
        convert.ActionChunk(actions(1, 1.0), 6, 7, driver.joints[-1][0], TASK), name)
    if kind == "size":
        bad = convert.chunk_to_msg(convert.ActionChunk(
            actions(1, 1.0)[:, :6], 6, 7, driver.joints[-1][0], TASK), name)
    elif kind in ("nan", "large"):
        bad.actions[8] = float("nan") if kind == "nan" else 1.5
    elif kind == "task":
        bad.task = "open-door"
    elif kind == "episode":
        bad.episode_id = "some other"
    elif kind == "stamp":
        bad.header.stamp = convert.stamp_to_msg(driver.joints[-1][0] - 10**10)
    elif kind == "repeated":
        bad.chunk_id = 5
    else:
        bad.actions = bad.actions[:-1]
    driver.chunks.publish(bad)
    driver.wait(lambda: driver.says(NODE, words, since), "it is told")
    assert not driver.played(6) and len(driver.played(5)) == 2
    np.testing.assert_allclose(truth(cell)[1], resting[1], atol=2e-3)
    driver.wait(lambda: any(key.startswith("refused chunks") for key in driver.figures[NODE]),
                "it is counted")


# -- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault, words", [
    ("silent_bus", "bus_silent"), ("broken_motor", "joint"), ("unplugged_can", "bus")])
def test_a_fault_holds_the_arm_and_the_next_reset_goes_on(
        cell: Cell, driver: ArmDriver, fault: str, words: str) -> None:
    name = driver.begin()
    run(driver, name, 1, actions(0, 0.5, 100), 4)
    since = driver.reports(NODE)
    ask(cell, f"/fault/{fault}?seconds=0")
    struck = truth(cell)
    driver.wait(lambda: driver.held(), "it holds")
    held = driver.executed[-1]
    assert held.status == TickStatus.FAULT and words in held.reason, held.reason
    driver.wait(lambda: driver.says(NODE, "holding:", since), "why is told")
    assert driver.says(NODE, words, since) and driver.figure("mode") == "holding"
    # Two ticks at half of a full action, and what the arm was behind its command.
    assert abs(truth(cell)[0] - struck[0]) < 5 * 0.5 * STEP + 0.02
    ask(cell, "/fault/clear")
    resting, played = truth(cell)[0], len(driver.played(1))
    driver.ticks(6)
    assert len(driver.played(1)) == played, "nothing goes on by itself"
    assert truth(cell)[0] == pytest.approx(resting, abs=0.01), "not even back to where it was held"
    again = driver.begin()
    np.testing.assert_allclose(truth(cell), HOME, atol=0.06)
    run(driver, again, 1, actions(0, 0.1), 3)
    driver.wait(lambda: driver.figure("mode") == "active", "all is well")
    assert "holding" not in driver.diagnostics[NODE][-1][1]


def test_a_fault_that_is_still_there_refuses_the_reset(cell: Cell, driver: ArmDriver) -> None:
    driver.begin()
    ask(cell, "/fault/silent_joint?seconds=0&joint=2")
    driver.wait(lambda: driver.held("joint2"), "it holds, before the first chunk")
    assert driver.executed[-1].status == TickStatus.FAULT
    answer = driver.reset("too early")
    assert not answer.success and "joint2" in answer.message
    ask(cell, "/fault/clear")
    resting = truth(cell)
    answer = driver.reset("by itself", ready=False)
    assert not answer.success and "press ready" in answer.message
    driver.readies.publish(Header(stamp=convert.stamp_to_msg(time.time_ns() - 3 * 10**9)))
    answer = driver.reset("after an old word", ready=False)
    assert not answer.success and "press ready" in answer.message
    driver.wait(lambda: driver.says(NODE, "ready refused: its stamp is 3"), "it is told of")
    np.testing.assert_allclose(truth(cell), resting, atol=0.01)
    driver.begin()


def test_a_fault_on_the_way_home_is_the_answer(cell: Cell, driver: ArmDriver) -> None:
    name = driver.begin()
    run(driver, name, 1, actions(0, 1.0, 12), 12)
    answers: list[Reset.Response] = []
    driver.ready()
    driver.resets.call(Reset.Request(episode_id="blocked"), answers.append)
    driver.ticks(2)
    ask(cell, "/fault/silent_joint?seconds=0&joint=2")
    driver.wait(lambda: bool(answers), "the answer")
    assert not answers[0].success and "joint2" in answers[0].message
    ask(cell, "/fault/clear")
    driver.begin()


# -- stop, home, life cycle --------------------------------------------------------------------


def test_a_stop_is_latched_until_released_and_the_next_reset_goes_on(
        cell: Cell, driver: ArmDriver) -> None:
    name = driver.begin()
    run(driver, name, 1, actions(0, 0.5, 100), 3)
    began = time.monotonic()
    assert driver.stop(True).success
    assert time.monotonic() - began < 1.0
    driver.wait(lambda: driver.executed[-1].status == TickStatus.STOPPED, "it is told")
    assert "service stop" in driver.executed[-1].reason
    stopped = driver.until_still()
    answer = driver.reset("while stopped")
    assert not answer.success and "stop is latched" in answer.message
    assert not driver.ask(driver.homes, Trigger.Request()).success
    since = driver.reports(NODE)
    driver.wait(lambda: driver.says(NODE, "release it with service stop", since), "the remedy")
    assert driver.stop(False).success
    driver.ticks(3)
    np.testing.assert_allclose(driver.joints[-1][1], stopped, atol=2e-3)
    again = driver.begin()
    run(driver, again, 1, actions(0, 0.1), 3)


def test_home_is_answered_at_once_and_ends_the_episode(cell: Cell, driver: ArmDriver) -> None:
    name = driver.begin()
    run(driver, name, 1, actions(0, 1.0, 8), 8)
    answer = driver.ask(driver.homes, Trigger.Request())
    assert answer.success and "going home" in answer.message
    assert abs(truth(cell)[0]) > 0.1, "it is on its way"
    driver.begin()
    np.testing.assert_allclose(truth(cell), HOME, atol=0.06)


def test_deactivated_it_measures_and_holds_and_takes_no_orders(
        cell: Cell, driver: ArmDriver) -> None:
    name = driver.begin()
    run(driver, name, 1, actions(0, 0.5, 100), 3)
    assert driver.go(Transition.TRANSITION_DEACTIVATE)
    resting = driver.until_still()
    assert all(cell.arm.enabled), "the motors keep their power"
    answer = driver.reset("inactive")
    assert not answer.success and "inactive" in answer.message
    assert driver.go(Transition.TRANSITION_CLEANUP)
    assert driver.go(Transition.TRANSITION_CONFIGURE)
    assert driver.go(Transition.TRANSITION_ACTIVATE)
    driver.ticks(3)
    np.testing.assert_allclose(driver.joints[-1][1], resting, atol=5e-3)
    driver.begin()


def test_a_person_looks_stops_releases_and_takes_control_again(
        cell: Cell, driver: ArmDriver, capsys: pytest.CaptureFixture[str]) -> None:
    name = driver.begin()
    run(driver, name, 1, actions(0, 1.0, 8), 8)
    driver.until_still()
    with ArmRemote() as arm:
        told = in_words(arm.view())
        assert "arm_controller is active, mode active" in told
        joint = re.search(r"joint1 +(\S+) deg +(\S+) rad", told)
        assert joint and np.deg2rad(float(joint[1])) == pytest.approx(float(joint[2]), abs=1e-3)
        assert float(joint[2]) == pytest.approx(truth(cell)[0], abs=0.01) and " mm" in told
        assert re.search(r"rate +1[45]\.\d\d /s", told)
        assert "going home" in arm.home()
        assert main(["arm", "stop"]) == 0
        stopped = driver.until_still()
        told = in_words(arm.view())
        assert "mode stopped (service stop)" in told and "faults   stopped" in told
        with pytest.raises(RefusedError, match="poco arm release"):
            arm.activate()
        arm.release()
        assert main(["arm", "home"]) == 1
        assert "inactive: stop released; poco arm activate first" in capsys.readouterr().err
        assert "nothing moves" in arm.activate()
        np.testing.assert_allclose(driver.until_still(), stopped, atol=0.01)
        assert "active already" in arm.activate()
        arm.home()
        driver.wait(lambda: bool(np.abs(truth(cell) - HOME).max() < 0.06), "it is home")
        assert "keep their power" in arm.deactivate() and "stays so" in arm.deactivate()
        assert driver.go(Transition.TRANSITION_CLEANUP)
        told = in_words(arm.view())
        assert "is unconfigured" in told and "poco arm configure opens the bus" in told
        assert "it measures" in arm.configure() and "measures already" in arm.configure()
        arm.activate()


def test_the_power_is_not_cut_under_a_node_that_controls_the_arm(
        graph: Graph, driver: ArmDriver, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["arm", "reset", "--robot", str(graph.folder / "robot.yaml")]) == 2
    assert "controlled by another process" in capsys.readouterr().err


# -- who commands ------------------------------------------------------------------------------


def test_a_second_controller_on_the_bus_is_refused_and_says_why(
        cell: Cell, graph: Graph, driver: ArmDriver) -> None:
    name = driver.begin()
    send(driver, name, 1, actions(0, 0.05, 100))
    with open(graph.folder / "second.log", "wb") as log:
        second = subprocess.Popen(
            [sys.executable, "-m", "poco_ros.nodes.arm_controller", "--ros-args", "-r",
             "__ns:=/second", "-p", f"config:={graph.folder / 'robot.yaml'}"],
            stdout=log, stderr=log)
    try:
        driver.wait(lambda: driver.says(f"second/{NODE}", "controlled by another process"),
                    "the second one says why")
        count = len(driver.played(1))
        driver.wait(lambda: len(driver.played(1)) > count + 2, "the first one goes on")
    finally:
        second.terminate()
        assert second.wait(20) == 0


def test_commands_of_somebody_else_hold_the_arm(cell: Cell, driver: ArmDriver) -> None:
    name = driver.begin()
    run(driver, name, 1, actions(0, 0.1, 100), 2)
    tell(cell, *protocol.joint_commands(HOME + 0.3))
    driver.wait(lambda: driver.held("somebody else commands"), "it holds")
    driver.begin()


def test_killed_while_it_moves_the_arm_holds_and_restarted_it_moves_nothing(
        cell: Cell, graph: Graph, driver: ArmDriver) -> None:
    name = driver.begin()
    run(driver, name, 1, actions(0, 0.5, 100), 4)
    graph.nodes[NODE].kill()
    last = driver.executed[-1].step
    wait_until(lambda: np.abs(cell.scene.joint_velocities).max() < 1e-2, "it rests")
    resting = truth(cell)
    assert abs(resting[0]) < (last + 3) * 0.5 * STEP + 0.05, "no further than it was asked"
    assert all(cell.arm.enabled)
    count = len(driver.joints)
    graph.nodes[NODE].start()
    driver.wait(lambda: len(driver.joints) > count + 5, "it measures again")
    since = driver.reports(NODE)
    driver.wait(lambda: driver.reports(NODE) > since and driver.figure("mode") == "active",
                "it is active again")
    np.testing.assert_allclose(truth(cell), resting, atol=0.01)
    driver.executed.clear()
    send(driver, name, 2, actions(0, 0.5, 100))
    driver.ticks(4)
    assert not driver.executed, "the episode is over"
    answer = driver.reset("of a rollout that knows nothing of it", ready=False)
    assert not answer.success and "press ready" in answer.message
    np.testing.assert_allclose(truth(cell), resting, atol=0.01)
    run(driver, driver.begin(), 1, actions(0, 0.1), 3)


def test_killed_while_it_is_stopped_it_is_stopped_when_restarted(
        graph: Graph, driver: ArmDriver) -> None:
    driver.begin()
    assert driver.stop(True).success
    graph.nodes[NODE].kill()
    since, count = driver.reports(NODE), len(driver.joints)
    graph.nodes[NODE].start()
    driver.wait(lambda: len(driver.joints) > count and driver.says(
        NODE, "release it with service stop", since), "it measures, and says so")
    assert driver.figure("mode") == "stopped"
    assert not driver.reset("while stopped").success
    assert driver.stop(False).success
    driver.begin()


# -- clocks and settings -----------------------------------------------------------------------

JUMP = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static int jumped(void) { return !access(getenv("JUMPED"), F_OK); }
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(clock, now);
    if (clock == CLOCK_REALTIME && jumped()) now->tv_sec -= 3600;
    return answer;
}
typedef int (*Wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *until) {
    static Wait real;
    if (!real) real = (Wait) dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real) real = (Wait) dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec kernels = *until;
    if (kernels.tv_sec > 1000000000 && jumped()) kernels.tv_sec += 3600;
    return real(cond, mutex, &kernels);
}
typedef int (*Clockwait)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *until) {
    static Clockwait real;
    if (!real) real = (Clockwait) dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    struct timespec kernels = *until;
    if (clock == CLOCK_REALTIME && jumped()) kernels.tv_sec += 3600;
    return real(cond, mutex, clock, &kernels);
}
"""
"""The wall clock of a process goes back by an hour when the file JUMPED is there. The kernel's
does not: it is told a time to wait until as it knows it, or every wait would end at once."""


@pytest.mark.skipif(shutil.which("cc") is None, reason="a C compiler makes the clock jump")
def test_when_the_wall_clock_jumps_ages_stay_right(
        cell: Cell, graph: Graph, driver: ArmDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    source, library = graph.folder / "jump.c", graph.folder / "jump.so"
    source.write_text(JUMP)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    graph.nodes[NODE].interrupt()
    jumped = graph.folder / "jumped"
    monkeypatch.setenv("JUMPED", str(jumped))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    count = len(driver.joints)
    graph.nodes[NODE].start()
    monkeypatch.undo()
    driver.wait(lambda: len(driver.joints) > count, "it is back")
    name = driver.begin()
    run(driver, name, 1, actions(0, 0.2, 10), 2)
    before = driver.joints[-1][0]
    jumped.touch()
    driver.wait(lambda: driver.joints[-1][0] < before - 3000 * 10**9, "the clock has jumped")
    driver.ticks(2)
    run(driver, name, 2, actions(0, 0.2, 10), 10)
    assert {tick.status for tick in driver.played(2)} <= {TickStatus.NOMINAL, TickStatus.LIMITED}
    driver.ticks(4)
    since = driver.reports(NODE)
    driver.send(name, 3, actions(), TASK, stamp=before)
    driver.wait(lambda: driver.says(NODE, "s ago, allowed", since), "an old one is seen to be old")
    assert not driver.played(3)
    # Only the process has seen the jump, the kernel has not: its waits do not end as they should.
    graph.nodes[NODE].kill()


def beating(driver: ArmDriver, condition: Callable[[], bool]) -> Callable[[], bool]:
    """Return the condition, with a heartbeat of the operator whenever it is looked at."""
    def beaten() -> bool:
        driver.heartbeat.publish(Header())
        return condition()

    return beaten


def test_what_a_person_deactivates_while_it_starts_stays_so(
        cell: Cell, graph: Graph, driver: ArmDriver) -> None:
    node = graph.nodes[NODE]
    heard: list[Frame] = []

    def reports_until_now() -> int:
        """Hear all that was said while the person's words were awaited; return its number."""
        end = time.monotonic() + 1.0
        driver.wait(lambda: time.monotonic() > end, "time passes")
        return driver.reports(NODE)

    node.interrupt()
    tell(cell, protocol.enable_command(7, False))
    wait_until(lambda: not any(cell.arm.enabled), "the motors are off")
    cell.scene.place_arm(np.asarray(cell.config.scene.folded))
    write_robot(graph.folder, cell, {"control": {"heartbeat_timeout": 0.5}})
    since = driver.reports(NODE)
    node.start()
    driver.wait(lambda: driver.says(NODE, "waiting for operator_heartbeat", since), "it waits")
    with ArmRemote() as person:
        assert "it is inactive, and stays so" in person.deactivate()
        since = reports_until_now()
        driver.wait(beating(driver, lambda: driver.reports(NODE) > since + 2), "a keypad comes")
        assert driver.figure("state") == "inactive" and not any(cell.arm.enabled)
        assert "waiting" not in driver.diagnostics[NODE][-1][1]

        node.interrupt()
        write_robot(graph.folder, cell, {"arm": {"enable_timeout": 20.0}})
        quick, cell.arm.config = cell.arm.config, replace(cell.arm.config, enable_time=6.0)
        cell.hub.tap(heard.extend)
        node.start()
        wait_until(lambda: protocol.enable_command(7, True) in heard, "it powers the motors")
        assert not any(cell.arm.enabled)
        assert "keep their power" in person.deactivate()
        cell.arm.config = quick
        driver.wait(lambda: all(cell.arm.enabled), "the motors come on")
        since = reports_until_now()
        driver.wait(lambda: driver.reports(NODE) > since + 2, "time passes")
        assert driver.figure("state") == "inactive" and all(cell.arm.enabled)


def test_without_the_operators_heartbeat_it_stops(
        cell: Cell, graph: Graph, driver: ArmDriver) -> None:
    write_robot(graph.folder, cell, {"control": {"heartbeat_timeout": 0.5}})
    graph.nodes[NODE].interrupt()
    since = driver.reports(NODE)
    graph.nodes[NODE].start()
    driver.wait(lambda: driver.says(NODE, "waiting for operator_heartbeat (keypad_reward", since),
                "it takes no control")
    assert driver.figure("state") == "inactive"
    assert driver.go(Transition.TRANSITION_CLEANUP)
    driver.wait(lambda: "waiting" not in driver.diagnostics[NODE][-1][1], "nobody waits any more")
    assert driver.go(Transition.TRANSITION_CONFIGURE)
    graph.nodes[NODE].interrupt()
    graph.nodes[NODE].start()
    driver.wait(beating(driver, lambda: driver.figure("state") == "active"), "it takes control")
    answers: list[Reset.Response] = []
    driver.ready()
    driver.resets.call(Reset.Request(episode_id="with an operator"), answers.append)
    driver.wait(beating(driver, lambda: bool(answers)), "the answer")
    assert answers[0].success
    ticks = len(driver.joints) + 15
    driver.wait(beating(driver, lambda: len(driver.joints) > ticks), "a second of ticks")
    assert not driver.executed or driver.executed[-1].status != TickStatus.STOPPED
    driver.wait(lambda: bool(driver.executed) and driver.executed[-1].status == TickStatus.STOPPED,
                "it stops, before the first chunk")


@pytest.mark.parametrize("parameters, words", [
    ({"rate": 30.0}, "rate"), ({"config": "wrong.yaml"}, "joint_stepp")])
def test_wrong_settings_end_the_node_with_their_name(
        tmp_path: Path, graph: Graph, parameters: dict[str, object], words: str) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({"safety": {"joint_stepp": {}}}))
    if "config" in parameters:
        parameters = {"config": wrong}
    code, said = refused(tmp_path, **parameters)
    assert code == REFUSED and words in said, said
    assert "Traceback" not in said


@pytest.mark.parametrize("values, words", [
    ({"arm": {"other_controllers": "leader"}}, "mode:=teach"),
    ({"homing": {"pose": {"joint1": 0.0}}}, "missing joints"),
    ({"safety": {"joint_step": {"joint9": 0.1}}}, "joint9")])
def test_settings_that_do_not_fit_the_arm_are_refused_with_the_file(
        tmp_path: Path, values: dict[str, object], words: str) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=words) as refusal:
        robot_config(ArmControllerSettings(config=str(path)))
    assert str(path) in str(refusal.value)


def test_a_preset_of_a_simulated_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="simulated task cube-single-task1"):
        task_of(ArmControllerSettings(preset="cpu_cube_single"))
