"""Keys over DDS: labels for the right episode, ready, a stop that is asked for until it is heard.

The keypad is the cell's serial line; the test plays rollout and arm.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cell_support import ask, quick_config, running, wait_until
from graph_support import Graph, NodeProcess, Onlooker, ros
from poco_msgs.msg import EpisodeStatus, Reward
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from poco_ros.cell.cell import Cell
from poco_ros.core.episode import Outcome
from poco_ros.core.joining import RewardSample
from poco_ros.ros import convert, names
from poco_ros.ros.fast_loop import Reply
from poco_ros.ros.node import REFUSED

pytestmark = pytest.mark.graph
NODE = "keypad_reward"
LATE, CORRECTION = 1.5, 0.5
OK, WARN, ERROR = 0, 1, 2


class Floor(Onlooker):
    """Plays the rollout that tells of episodes, and the arm that is stopped."""

    def __init__(self, cell: Cell) -> None:
        super().__init__("floor")
        self.cell = cell
        self.labels: list[RewardSample] = []
        self.ready: list[Header] = []
        self.beats: list[float] = []
        self.stops = 0
        self.refuses = 0
        """So many requests to stop are answered with a refusal first."""
        self.topic = self.create_publisher(EpisodeStatus, names.EPISODE, names.STATUS_QOS)
        self.loop.subscribe(Reward, names.REWARD, lambda message: self.labels.append(
            convert.reward_of(message)), names.TICK_QOS)
        self.loop.subscribe(Header, names.OPERATOR_READY, self.ready.append, names.OPERATOR_QOS)
        self.loop.subscribe(Header, names.OPERATOR_HEARTBEAT, lambda _: self.beats.append(
            time.monotonic()), names.OPERATOR_QOS)

    def serve_stop(self) -> None:
        """Be an arm from now on."""
        self.loop.serve(SetBool, names.STOP, self._on_stop)

    def _on_stop(self, request: SetBool.Request, reply: Reply) -> None:
        self.stops += request.data
        stopped = self.stops > self.refuses
        reply(SetBool.Response(success=stopped, message="it sinks" if stopped else "not now"))

    def tell(self, name: str, phase: int) -> None:
        """Tell where an episode stands, and wait until the node must have heard it."""
        self.topic.publish(convert.episode_status_to_msg(
            time.time_ns(), convert.EpisodeStatus(name, phase=phase)))
        if phase in (EpisodeStatus.RUNNING, EpisodeStatus.ENDED):
            running = name if phase == EpisodeStatus.RUNNING else ""
            self.until(lambda: self.figures.get(NODE, {}).get("open_episode") == running,
                       f"{name!r} is known")

    def press(self, name: str) -> float:
        """Press a key that must be heard; return when, wall clock [s]."""
        at = time.time()
        wait_until(lambda: ask(self.cell, f"/key/{name}")["heard"], "the keypad is open")
        return at

    def next_label(self) -> RewardSample:
        known = len(self.labels)
        self.until(lambda: len(self.labels) > known, "a label")
        return self.labels[-1]

    def refused(self, words: str, press: str) -> None:
        """Press a key that must be refused with these words on /diagnostics."""
        known, since = len(self.labels), self.reports(NODE)
        self.press(press)
        self.until(lambda: self.says(NODE, words, since), words)
        assert len(self.labels) == known

    def rest(self, seconds: float) -> None:
        """Let time pass, hearing messages."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end, "time passes")


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    with running(quick_config(tmp_path_factory.mktemp("cell"), cameras=[])) as cell:
        yield cell


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    with ros(), Graph(tmp_path_factory.mktemp("graph")) as graph:
        yield graph


@pytest.fixture(scope="module")
def floor(cell: Cell, graph: Graph) -> Iterator[Floor]:
    path = graph.folder / "keypad.yaml"
    path.write_text(yaml.safe_dump({
        "device": "/dev/nothing", "debounce": 0.01, "reconnect_period": 0.1,
        "labels": {"late": LATE, "correction": CORRECTION}}))
    graph.start(NODE, config=path, device=cell.keypad.link)
    floor = Floor(cell)
    floor.until(lambda: len(floor.beats) > 1, "heartbeats", graph)
    yield floor
    floor.destroy_node()


def test_without_an_episode_there_is_nothing_to_label(floor: Floor) -> None:
    floor.refused("refused label: success (key 1): no episode is open", "success")


def test_every_press_is_a_line_also_without_an_episode(floor: Floor, graph: Graph) -> None:
    for press, line in (("failure", "key 0: failure"), ("discard", "key .: discard")):
        floor.press(press)
        floor.until(lambda line=line: line in graph.nodes[NODE].output(), line, graph)


@pytest.mark.parametrize("key, outcome, value", [
    ("success", Outcome.SUCCESS, 1.0), ("failure", Outcome.FAILURE, 0.0),
    ("discard", Outcome.DISCARD, 0.0)])
def test_a_key_labels_the_open_episode_at_the_time_of_the_press(
        floor: Floor, key: str, outcome: Outcome, value: float) -> None:
    floor.tell(f"of-{key}", EpisodeStatus.RUNNING)
    at = floor.press(key)
    label = floor.next_label()
    assert (label.episode_id, label.outcome, label.value) == (f"of-{key}", outcome, value)
    assert label.source == "keypad" and not label.of_environment
    assert 0.0 <= label.stamp * 1e-9 - at < 0.1


def test_the_episode_that_just_ended_is_labelled_and_corrected(floor: Floor) -> None:
    floor.tell("ending", EpisodeStatus.RUNNING)
    floor.press("success")
    floor.next_label()
    floor.topic.publish(convert.episode_status_to_msg(
        time.time_ns(), convert.EpisodeStatus("ending", phase=EpisodeStatus.ENDED)))
    floor.press("failure")
    label = floor.next_label()
    assert (label.episode_id, label.outcome) == ("ending", Outcome.FAILURE)
    floor.rest(CORRECTION)
    floor.refused("ending was labelled FAILURE", "success")


def test_a_label_too_long_after_the_end_counts_for_nothing(floor: Floor) -> None:
    floor.tell("over", EpisodeStatus.RUNNING)
    floor.tell("over", EpisodeStatus.ENDED)
    floor.rest(LATE)
    floor.refused("episode over ended", "failure")


def test_an_earlier_episode_that_is_stored_does_not_close_the_open_one(floor: Floor) -> None:
    floor.tell("open", EpisodeStatus.RUNNING)
    for phase in (EpisodeStatus.ENDED, EpisodeStatus.STORED):  # it was corrected, then stored
        floor.topic.publish(convert.episode_status_to_msg(
            time.time_ns(), convert.EpisodeStatus("over", phase=phase)))
    floor.press("success")
    assert floor.next_label().episode_id == "open"


def test_ready_is_told_with_the_time_of_the_press(floor: Floor) -> None:
    at = floor.press("ready")
    floor.until(lambda: bool(floor.ready), "ready")
    assert 0.0 <= convert.stamp_of(floor.ready[-1].stamp) * 1e-9 - at < 0.1


def test_a_stop_is_asked_for_until_the_arm_says_so(floor: Floor, graph: Graph) -> None:
    since = floor.reports(NODE)
    floor.press("stop")
    floor.until(lambda: floor.says(NODE, "has NOT acknowledged it: no arm_controller answers",
                                   since), "nobody has stopped", graph)
    assert floor.diagnostics[NODE][-1][0] == ERROR
    floor.refuses = 2
    floor.serve_stop()
    floor.until(lambda: floor.stops > 2, "asked again and again")
    since = floor.reports(NODE)
    floor.until(lambda: floor.says(NODE, "ms: it sinks; release it with", since), "what it did")
    asked = floor.stops
    floor.rest(0.5)
    assert floor.stops == asked, "acknowledged, and not asked for again"
    began = time.monotonic()
    floor.press("stop")
    floor.until(lambda: floor.stops > asked, "a stop that is served is asked for at once")
    assert time.monotonic() - began < 0.15


def test_the_heartbeat_ceases_with_the_keypad_and_comes_back(floor: Floor, cell: Cell) -> None:
    known = len(floor.beats)
    floor.until(lambda: len(floor.beats) >= known + 10, "heartbeats")
    beats = floor.beats[known:]
    assert 4.0 < 9.0 / (beats[9] - beats[0]) < 6.0, "5 a second"
    since = floor.reports(NODE)
    ask(cell, "/fault/unplugged_keypad?seconds=0")
    floor.until(lambda: floor.says(NODE, "no key can be read: keypad on", since), "unplugged")
    quiet = len(floor.beats)
    floor.rest(0.5)
    assert len(floor.beats) == quiet
    ask(cell, "/fault/clear")
    floor.until(lambda: len(floor.beats) > quiet + 2, "heartbeats again")
    floor.until(lambda: floor.diagnostics[NODE][-1][0] != ERROR, "no fault any more")
    floor.tell("after", EpisodeStatus.RUNNING)
    floor.press("success")
    assert floor.next_label().episode_id == "after"


def test_a_node_that_was_killed_labels_the_episode_that_runs(floor: Floor, graph: Graph) -> None:
    floor.tell("survivor", EpisodeStatus.RUNNING)
    graph.nodes[NODE].kill()
    floor.figures.clear()
    quiet = len(floor.beats)
    graph.nodes[NODE].start()
    floor.until(lambda: len(floor.beats) > quiet + 1, "it is back")
    floor.press("success")
    assert floor.next_label().episode_id == "survivor"


def test_a_keypad_that_is_not_there_is_named(graph: Graph, floor: Floor) -> None:
    graph.nodes[NODE].interrupt()
    before = len(graph.nodes[NODE].output())
    node = graph.start("keypad_reward", device="/dev/ttyNOWHERE")
    since = floor.reports(NODE)
    floor.until(lambda: floor.says(NODE, "keypad on /dev/ttyNOWHERE", since), "it is named")
    assert node.interrupt() == 0
    assert "keypad is there" not in node.output()[before:], "it never was"


def test_a_key_is_one_of_the_source_that_is_named_in_place_of_the_files(
        floor: Floor, tmp_path: Path) -> None:
    path = tmp_path / "keypad.yaml"
    path.write_text("keys: {stop: [delete]}")  # no serial keypad has it
    node = NodeProcess(NODE, {"config": path, "source": "input", "device": "/dev/nothing"},
                       tmp_path / "log")
    floor.until(lambda: "input keypad on /dev/nothing: " in node.output(), "it starts")
    assert "stop delete" in node.output() and node.interrupt() == 0


def test_settings_that_make_no_sense_are_refused(graph: Graph, tmp_path: Path) -> None:
    path = tmp_path / "keypad.yaml"
    path.write_text("labels: {latest: 3.0}")
    node = NodeProcess(NODE, {"config": path}, tmp_path / "log")
    assert node.process.wait(60) == REFUSED
    assert "unknown key 'latest'; did you mean 'late'" in node.output()
