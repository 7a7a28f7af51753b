"""The whole robot's graph on the emulated cell: episodes by a person's word, and what may fail."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from graph_support import ros
from poco_msgs.msg import EpisodeStatus
from robot_graph_support import LIMIT, RobotGraph, Watcher, write_robot_preset

from poco_ros.cli.main import main
from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.spool import Spool

pytestmark = pytest.mark.graph
TWO_TICKS = 2 / 15
STILL = 2.5 / 15 + 0.2
"""Two ticks, and the time that a moving arm takes to come to rest [s]."""
DOCS = Path(__file__).resolve().parent.parent / "docs/robot.md"


def detection_times() -> dict[str, tuple[str, float]]:
    """Return of each emulated fault who notices it and within what time [s], as the docs say."""
    told = {}
    for row in DOCS.read_text().splitlines():
        cells = [cell.strip() for cell in row.split("|")]
        within = re.fullmatch(r"`?(\w+)`?, ([\d.]+) s\b.*", cells[3]) if len(cells) == 6 else None
        if within:
            told |= dict.fromkeys(re.findall(r"`(\w+)`", cells[2]), (within[1], float(within[2])))
    return told


DETECTED = detection_times()
WORDS = {
    "silent_bus": ("arm_controller", "bus_silent"),
    "unplugged_can": ("arm_controller", "bus"),
    "slow_replies": ("arm_controller", "bus_silent"),
    "silent_joint": ("arm_controller", "joint3"),
    "broken_motor": ("arm_controller", "joint3"),
    "frozen_camera": ("camera_encoder", "camera front is frozen"),
    "silent_camera": ("camera_encoder", "camera front is silent"),
    "dropped_frames": ("camera_encoder", "camera front is dropping"),
    "unplugged_keypad": ("keypad_reward", "no key can be read"),
}
"""Who says on /diagnostics what is wrong, and some words of it."""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RobotGraph]:
    folder = tmp_path_factory.mktemp("robot")
    with ros(), RobotGraph(folder, write_robot_preset(folder)).up() as up:
        yield up


@pytest.fixture(scope="module")
def watcher(graph: RobotGraph) -> Iterator[Watcher]:
    made = Watcher("watcher")
    yield made
    made.destroy_node()


def asks_for_ready(watcher: Watcher) -> bool:
    """Return whether the rollout waits for the operator alone."""
    return bool(watcher.episodes) and "press ready" in watcher.episodes[-1].detail


def begin(graph: RobotGraph, watcher: Watcher) -> str:
    """Be ready, and return the id of the episode when the arm moves."""
    watcher.wait(graph, lambda: asks_for_ready(watcher), "the rollout waits for the operator")
    press_at = 0.0

    def running() -> bool:
        nonlocal press_at
        if asks_for_ready(watcher) and time.monotonic() > press_at:
            press_at = time.monotonic() + 2.0  # a rollout that has just begun may not hear it
            graph.press("ready")
        return watcher.episodes[-1].phase == EpisodeStatus.RUNNING

    watcher.wait(graph, running, "an episode runs")
    name = watcher.episodes[-1].episode_id
    watcher.wait(graph, lambda: len(watcher.motions(name)) > 3 and graph.speed() > 0.1,
                 "the arm moves")
    return name


def release() -> None:
    """Lift the stop, as a person does."""
    assert main(["arm", "release"]) == 0


def stored(graph: RobotGraph, watcher: Watcher, name: str) -> Episode:
    """Return an episode when the learner has it."""
    watcher.wait(graph, lambda: any(e.episode_id == name and e.phase == EpisodeStatus.STORED
                                    for e in watcher.episodes), f"{name} is stored")
    return next(e for e in EpisodeStore(graph.folder / "run/episodes") if e.id == name)


def test_a_usual_start_reports_no_error(graph: RobotGraph, watcher: Watcher) -> None:
    """What is not there yet is waited for: all nodes and the hardware start at once.

    An emulated arm that gets no processor for 0.12 s meanwhile is silent, which a real one is not.
    """
    watcher.wait(graph, lambda: asks_for_ready(watcher), "the rollout waits for the operator")
    for name in graph.processes:
        said = (graph.folder / f"{name}.log").read_text()
        errors = [line for line in said.splitlines()
                  if "[ERROR]" in line and "bus_silent" not in line]
        assert not errors, f"{name}\n{said}"


@pytest.mark.parametrize(("key", "outcome"), [("success", Outcome.SUCCESS),
                                              ("failure", Outcome.FAILURE)])
def test_a_key_ends_the_episode_and_the_arm_goes_home(graph: RobotGraph, watcher: Watcher,
                                                      key: str, outcome: Outcome) -> None:
    name = begin(graph, watcher)
    graph.press(key)
    episode = stored(graph, watcher, name)
    assert episode.outcome == outcome and episode.terminated and episode.trainable
    assert episode.rewards[-1] == (outcome == Outcome.SUCCESS) and not episode.rewards[:-1].any()
    assert "keypad" in episode.notes[-1] and episode.began > 0
    assert episode.observations.shape == (len(episode) + 1, 135)
    assert (episode.policy_versions[:1] > 0).all()
    watcher.wait(graph, graph.at_home, "the arm is home")


def test_without_a_label_the_episode_ends_at_its_limit_as_a_failure(
        graph: RobotGraph, watcher: Watcher) -> None:
    name = begin(graph, watcher)
    watcher.wait(graph, lambda: any(e.episode_id == name and e.phase == EpisodeStatus.ENDED
                                    for e in watcher.episodes), "the limit")
    ended, learner = len(watcher.episodes), watcher.learner
    episode = stored(graph, watcher, name)
    assert len(episode) == LIMIT and episode.truncated and episode.outcome == Outcome.FAILURE
    assert episode.trainable
    periods = np.diff(episode.stamps) / 1e9
    assert np.median(periods) == pytest.approx(1 / 15, rel=0.05)
    assert learner is not None
    watcher.wait(graph, lambda: watcher.learner is not None
                 and watcher.learner.updates >= learner.updates + 0.1 * LIMIT, "it learns from it")
    assert {e.phase for e in watcher.episodes[ended:]} <= {
        EpisodeStatus.STORED, EpisodeStatus.ENDED, EpisodeStatus.WAITING}, \
        "learning goes on while the scene is being reset"


def test_the_docs_tell_of_every_fault_of_the_cell_when_it_is_noticed(graph: RobotGraph) -> None:
    assert set(graph.ask("fault/")) == set(DETECTED) == set(WORDS)


@pytest.mark.parametrize("fault", WORDS)
def test_a_fault_of_the_hardware_is_noticed_in_time_and_holds_the_arm_within_two_ticks(
        graph: RobotGraph, watcher: Watcher, fault: str) -> None:
    who, within = DETECTED[fault]
    name = begin(graph, watcher)
    reports = {node: watcher.reports(node) for node, _ in WORDS.values()}
    onset = time.time_ns()
    graph.fault(fault, **({"share": 0.9} if fault == "dropped_frames" else {}))
    assert graph.stands_within(within + STILL), f"the arm moves on at {graph.speed():.2f} rad/s"
    watcher.wait(graph, lambda: watcher.noticed(onset) is not None, "somebody notices")
    noticed, by = watcher.noticed(onset) or (0, "")
    assert by == who and (noticed - onset) / 1e9 < within
    episode = stored(graph, watcher, name)
    assert (watcher.motions(name)[-1] - noticed) / 1e9 < TWO_TICKS
    assert not episode.trainable or episode.outcome == Outcome.NONE
    assert not episode.terminated and not episode.truncated and episode.notes
    node, words = WORDS[fault]
    watcher.wait(graph, lambda: watcher.says(node, words, reports[node]), "diagnostics say why")
    graph.fault("clear")
    if fault == "unplugged_keypad":
        watcher.wait(graph, lambda: watcher.says("arm_controller", "no heartbeat",
                                                 reports["arm_controller"]), "the arm says why")
        release()
    assert graph.speed() < 0.05, "nothing moves before the operator is ready"


def test_after_all_these_faults_an_episode_is_as_before(graph: RobotGraph,
                                                        watcher: Watcher) -> None:
    name = begin(graph, watcher)
    graph.press("failure")
    assert stored(graph, watcher, name).trainable


def test_the_operators_words_can_be_typed(graph: RobotGraph, watcher: Watcher,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    watcher.wait(graph, lambda: asks_for_ready(watcher), "it waits")
    assert main(["operator", "success"]) == 1
    assert "REFUSED" in capsys.readouterr().err, "there is nothing to label"
    graph.fault("silent_camera")
    watcher.wait(graph, lambda: not asks_for_ready(watcher), "a hole")
    assert main(["operator", "ready"]) == 1
    assert "too early, and not kept" in capsys.readouterr().err
    graph.fault("clear")
    watcher.wait(graph, lambda: asks_for_ready(watcher), "it waits again")
    name = ""
    for _ in range(4):  # an episode can be over before a word is typed on a busy machine
        assert main(["operator", "ready"]) == 0
        assert "begins: the arm goes home" in capsys.readouterr().out
        if main(["operator", "ready"]) == 1:
            assert "has not ended; label it first" in capsys.readouterr().err
            watcher.wait(graph, lambda: watcher.episodes[-1].phase == EpisodeStatus.RUNNING,
                         "it runs")
            name = watcher.episodes[-1].episode_id
            if main(["operator", "discard"]) == 0:
                break
        watcher.wait(graph, lambda: asks_for_ready(watcher), "too late; it waits again")
    assert f"{name}: discard" in capsys.readouterr().out
    episode = stored(graph, watcher, name)
    assert episode.outcome == Outcome.DISCARD and not episode.trainable


def test_the_stop_key_holds_the_arm_latched(graph: RobotGraph, watcher: Watcher) -> None:
    name = begin(graph, watcher)
    graph.press("stop")
    assert graph.stands_within(STILL)
    assert "stopped" in stored(graph, watcher, name).notes[0]
    graph.press("ready")
    watcher.wait(graph, lambda: watcher.says("rollout", "stop is latched"), "ready is refused")
    assert graph.speed() < 0.05
    release()
    assert graph.speed() < 0.05
    name = begin(graph, watcher)
    graph.press("success")
    assert stored(graph, watcher, name).success


@pytest.mark.parametrize("node", ["policy_server", "rollout", "arm_controller", "camera_encoder",
                                  "learner", "keypad_reward"])
def test_when_a_node_is_killed_the_arm_holds_and_work_goes_on_with_the_next(
        graph: RobotGraph, watcher: Watcher, node: str) -> None:
    name = begin(graph, watcher)
    time.sleep(3 / 15)  # an episode without a complete step is not stored but begun anew
    graph.kill(node)
    if node != "learner":
        patience = {"camera_encoder": 0.5, "keypad_reward": DETECTED["unplugged_keypad"][1]}.get(
            node, 5 / 15)  # the rest of a chunk
        assert graph.stands_within(STILL + patience)
    graph.start(node)
    if node == "rollout":  # the episode that was open died with it
        watcher.wait(graph, lambda: asks_for_ready(watcher), "a new rollout")
    elif node == "learner":
        graph.press("failure")  # it ends without a learner, who gets it afterwards
        stored(graph, watcher, name)
    else:
        stored(graph, watcher, name)
    if node == "keypad_reward":  # without an operator the arm has stopped
        release()
    following = begin(graph, watcher)
    assert following != name or node == "rollout"
    graph.press("success")
    assert stored(graph, watcher, following).success
    assert not Spool(graph.folder / "run/spool").ids
    ids = EpisodeStore(graph.folder / "run/episodes").ids
    assert len(set(ids)) == len(ids)


def test_the_operator_is_not_asked_while_no_policy_answers(graph: RobotGraph,
                                                           watcher: Watcher) -> None:
    """Also not while the service is there and has no weights yet."""
    watcher.wait(graph, lambda: asks_for_ready(watcher), "it waits for him")
    graph.kill("policy_server")
    watcher.wait(graph, lambda: "infer_chunk" in watcher.episodes[-1].detail, "no chunk comes")
    graph.press("ready")
    watcher.wait(graph, lambda: watcher.says(
        "rollout", "ready too early: waiting for infer_chunk"), "too early")
    graph.start("policy_server")
    name = begin(graph, watcher)
    graph.press("success")
    assert stored(graph, watcher, name).outcome == Outcome.SUCCESS


def test_an_arm_controller_that_is_killed_on_the_way_home_moves_nothing_before_ready(
        graph: RobotGraph, watcher: Watcher) -> None:
    for _ in range(4):  # what it has learned may lead it less far before the limit
        begin(graph, watcher)
        watcher.wait(graph, lambda: graph.away() > 0.25
                     or asks_for_ready(watcher), "it is far from home")
        if not asks_for_ready(watcher):
            break
    else:
        pytest.fail("it never went far")
    graph.press("stop")
    watcher.wait(graph, lambda: asks_for_ready(watcher), "the end")
    release()
    graph.press("ready")
    watcher.wait(graph, lambda: watcher.episodes[-1].phase == EpisodeStatus.RESETTING
                 and graph.speed() > 0.1, "it goes home")
    graph.kill("arm_controller")
    assert graph.stands_within(STILL)
    left = graph.away()
    assert left > 0.1, "it was on its way"
    watcher.figures.clear()
    time.sleep(1.2)  # the rollout notices after a second; one that is back sooner costs its minute
    graph.start("arm_controller")
    watcher.wait(graph, lambda: asks_for_ready(watcher)
                 and watcher.figures.get("arm_controller", {}).get("state") == "active",
                 "a new arm_controller", patience=20.0)
    end = time.monotonic() + 2.0
    watcher.wait(graph, lambda: time.monotonic() > end, "time passes")
    assert graph.speed() < 0.05 and graph.away() == pytest.approx(left, abs=0.02)
    name = begin(graph, watcher)
    graph.press("failure")
    assert stored(graph, watcher, name).trainable
