"""Cameras to features over DDS: true stamps, faults that show, pictures for people and to keep.

The cameras are those of a running cell; its faults strike all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from cell_support import ask, quick_config, running, wait_until
from graph_support import Graph, NodeProcess, Onlooker, ros
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from poco_msgs.msg import EpisodeStatus, Features
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from poco_ros.cell.cell import Cell
from poco_ros.robot.picture_log import BETWEEN, read_states
from poco_ros.robot.picture_set import load_pictures
from poco_ros.ros import convert, names
from poco_ros.ros.diagnostics import PATIENCE
from poco_ros.ros.node import REFUSED

pytestmark = pytest.mark.graph
NODE = "camera_encoder"
SIZE = 32
"""Features of a picture: 8 channels in a grid of 2 x 2."""
EDGE = 64
"""Edge of the cell's pictures [px]."""
RATE = 25.0
"""Pictures a second of each camera."""
JOINTS = [*(f"joint{number}" for number in range(1, 7)), "gripper"]


class Viewer(Onlooker):
    """Hears features and looks at pictures."""

    def __init__(self) -> None:
        super().__init__("viewer")
        self.heard: list[tuple[float, Features]] = []
        self.pictures: list[CompressedImage] = []
        self.raw: list[Image] = []
        self.loop.subscribe(Features, names.FEATURES, self._on_features, names.TICK_QOS)
        self.episode = self.create_publisher(EpisodeStatus, names.EPISODE, names.STATUS_QOS)
        self.joints = self.create_publisher(JointState, names.JOINT_STATES, names.TICK_QOS)
        self.encoders: list[str] = []
        self.loop.subscribe(String, names.ENCODER, lambda told: self.encoders.append(told.data),
                            names.STATUS_QOS)
        self.change = self.loop.client(ChangeState, f"{NODE}/change_state")

    def _on_features(self, message: Features) -> None:
        self.heard.append((time.time_ns() * 1e-9, message))

    def look(self, camera: str) -> None:
        """Begin to look at the pictures of a camera."""
        self.loop.subscribe(CompressedImage, f"camera/{camera}/image/compressed",
                            self.pictures.append, names.SENSOR_QOS)

    def more(self, count: int, what: str = "features") -> list[tuple[float, Features]]:
        """Wait for so many new features and return them."""
        known = len(self.heard)
        self.until(lambda: len(self.heard) >= known + count, what)
        return self.heard[known:]

    def go(self, transition: int) -> bool:
        """Ask the node for a transition of its life cycle."""
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.ask(self.change, request).success)

    def run_episode(self, name: str, phase: int = EpisodeStatus.RUNNING) -> None:
        self.episode.publish(convert.episode_status_to_msg(time.time_ns(), convert.EpisodeStatus(
            name, phase=phase)))


def stamp(message: Features) -> float:
    return convert.stamp_of(message.header.stamp) * 1e-9


def vision(cell: Cell, **camera: object) -> dict[str, Any]:
    """Return the settings of a node at the cell's cameras."""
    given = {"rate": RATE, "silent_after": 0.3, "frozen_after": 0.3, "read_timeout": 4.0,
             "reconnect_period": 0.1, **camera}
    return {"cameras": [{"name": name, "source": url, **given}
                        for name, url in cell.description()["cameras"].items()],
            "encoder": {"image_size": EDGE,
                        "head": {"kind": "grid", "block": 0, "channels": 8, "grid": 2}}}


def write(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    with running(quick_config(tmp_path_factory.mktemp("cell"))) as cell:
        yield cell


@pytest.fixture(scope="module")
def graph(cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    with ros(), Graph(tmp_path_factory.mktemp("graph")) as graph:
        yield graph


@pytest.fixture(scope="module")
def viewer(cell: Cell, graph: Graph) -> Iterator[Viewer]:
    """One that looks on while the node works."""
    graph.start(NODE, config=write(graph.folder / "cameras.yaml", vision(cell)))
    viewer = Viewer()
    viewer.until(lambda: len(viewer.heard) > 10, "features", graph)
    yield viewer
    viewer.destroy_node()


def test_names_and_sizes_are_those_of_the_cameras(viewer: Viewer) -> None:
    _, message = viewer.more(1)[0]
    assert list(message.names) == ["front", "wrist"] and list(message.sizes) == [SIZE, SIZE]
    assert len(message.data) == 2 * SIZE and np.isfinite(message.data).all()


def test_who_comes_late_hears_which_encoder_it_is(viewer: Viewer, graph: Graph) -> None:
    viewer.until(lambda: bool(viewer.encoders), "it is told")
    assert f"(encoder {viewer.encoders[0]})" in graph.nodes[NODE].output()


def test_features_come_as_fast_as_the_cameras_and_are_young(viewer: Viewer) -> None:
    heard = viewer.more(30)
    ages = [at - stamp(message) for at, message in heard]
    stamps = [stamp(message) for _, message in heard]
    assert (np.diff(stamps) >= 0.0).all()
    assert min(ages) > 0.0 and np.median(ages) < 0.15, "the age of the oldest picture"
    assert (heard[-1][0] - heard[0][0]) / 29 < 2.0 / RATE, "one message a pair of pictures"


def test_what_is_stamped_after_a_move_shows_it_and_what_is_stamped_a_picture_before_does_not(
        viewer: Viewer, cell: Cell) -> None:
    """The stamp is that of the older of two pictures: the younger one may show it already."""
    before = viewer.more(10)
    still = np.array([message.data for _, message in before])
    moved = time.time_ns() * 1e-9
    cell.scene.place_arm(np.asarray(cell.config.scene.home))
    after = viewer.more(15)
    change = [np.abs(np.asarray(message.data) - still.mean(axis=0)).max() for _, message in after]
    limit = 4.0 * np.abs(still - still.mean(axis=0)).max()
    seen = [stamp(message) for (_, message), far in zip(after, change, strict=True) if far > limit]
    assert seen and moved - 1 / RATE < seen[0] < moved + 0.25, (moved, seen[:1], limit, change)


def test_random_weights_are_a_warning_that_stays(viewer: Viewer) -> None:
    viewer.until(lambda: viewer.says(NODE, "RANDOM"), "the warning")
    assert viewer.diagnostics[NODE][-1][0] == 1
    viewer.until(lambda: viewer.figures[NODE].get("weights") == "random weights", "the figure")
    figures = viewer.figures[NODE]
    assert 10.0 < float(figures["rate_hz"]) <= 26.0
    assert 0.0 < float(figures["encode_ms (median)"]) <= float(figures["encode_ms (p99)"])
    assert float(figures["front: rate_hz"]) > 10.0 and figures["wrist: reconnections"] == "0"


@pytest.mark.parametrize("fault, code", [("frozen_camera", "frozen"), ("silent_camera", "silent")])
def test_a_camera_that_does_not_see_ends_the_features_until_it_is_back(
        viewer: Viewer, cell: Cell, fault: str, code: str) -> None:
    since = viewer.reports(NODE)
    ask(cell, f"/fault/{fault}?seconds=0")
    viewer.until(lambda: viewer.says(NODE, f"camera front is {code}", since), code)
    quiet = len(viewer.heard)
    again = viewer.reports(NODE)
    viewer.until(lambda: viewer.reports(NODE) > again, "another report")
    assert len(viewer.heard) <= quiet + 1, "nothing was published meanwhile"
    assert viewer.diagnostics[NODE][-1][0] == 2
    ask(cell, "/fault/clear")
    viewer.more(5, "features after the fault")
    since = viewer.reports(NODE)
    viewer.until(lambda: any(code not in text for _, text in viewer.diagnostics[NODE][since:]),
                 "the report that all is well")


def test_missing_pictures_are_told_and_features_go_on(viewer: Viewer, cell: Cell) -> None:
    since = viewer.reports(NODE)
    ask(cell, "/fault/dropped_frames?seconds=0&share=0.6")
    viewer.until(lambda: any(  # what is dropped is drawn: by chance it is silent for a while, too
        level == 1 and "front is dropping: " in words
        for level, words in viewer.diagnostics.get(NODE, [])[since:]), "a warning")
    viewer.more(5)
    ask(cell, "/fault/clear")
    assert int(viewer.figures[NODE]["front: dropped"]) > 0


def test_pictures_are_made_for_whoever_looks(viewer: Viewer) -> None:
    viewer.look("front")
    viewer.until(lambda: len(viewer.pictures) >= 4, "pictures")
    picture = cv2.imdecode(np.frombuffer(viewer.pictures[-1].data, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (EDGE, EDGE, 3) and viewer.pictures[-1].format == "jpeg"
    stamps = [convert.stamp_of(message.header.stamp) * 1e-9 for message in viewer.pictures]
    assert 0.15 < np.diff(stamps).mean() < 0.5, "at picture_rate, not at the camera's"
    viewer.loop.subscribe(Image, "camera/wrist/image_raw", viewer.raw.append, names.SENSOR_QOS)
    viewer.until(lambda: bool(viewer.raw), "a raw picture")
    assert (viewer.raw[0].height, viewer.raw[0].width, viewer.raw[0].encoding) == (
        EDGE, EDGE, "rgb8")


def test_a_node_that_is_deactivated_is_quiet_until_it_is_activated(
        viewer: Viewer, graph: Graph) -> None:
    assert viewer.go(Transition.TRANSITION_DEACTIVATE)
    since = viewer.reports(NODE)
    viewer.until(lambda: viewer.figures[NODE]["state"] == "inactive", "the state is told",
                 graph)
    quiet = len(viewer.heard)
    viewer.until(lambda: viewer.reports(NODE) > since + 1, "a report")
    assert len(viewer.heard) == quiet
    assert viewer.go(Transition.TRANSITION_CLEANUP)
    assert viewer.go(Transition.TRANSITION_CONFIGURE)
    assert viewer.go(Transition.TRANSITION_ACTIVATE)
    viewer.more(5, "features of the cameras opened again")


def rows_of(graph: Graph, camera: str, episode: str) -> dict[int, dict[str, float]]:
    return read_states(graph.folder / "pictures" / camera / episode / "states.csv")


def test_what_was_recorded_survives_a_kill_and_can_be_fitted_to(
        viewer: Viewer, graph: Graph) -> None:
    """Joint 1 tells the time at which it was published, so that the nearest can be checked."""
    began = time.time_ns()

    def move() -> bool:
        now = time.time_ns()
        positions = np.linspace(0.0, 1.0, 7)
        positions[0] = (now - began) * 1e-9
        viewer.joints.publish(convert.joint_state_to_msg(now, JOINTS, positions))
        return False

    def until_kept(episode: str, count: int) -> None:
        def enough() -> bool:
            move()
            return all(len(rows_of(graph, name, episode)) >= count for name in ("front", "wrist"))

        viewer.until(enough, f"pictures of {episode}", graph)

    graph.nodes[NODE].interrupt()
    graph.start(NODE, config=graph.folder / "cameras.yaml", record=graph.folder / "pictures",
                record_rate=10.0)
    until_kept(BETWEEN, 2)
    for episode in ("first", "second"):
        viewer.run_episode(episode)
        until_kept(episode, 6)
    graph.nodes[NODE].kill()
    table = graph.folder / "pictures/front/second/states.csv"
    content = table.read_text()
    assert content.endswith("\n")
    table.write_text(content[:-9])  # a system that died while it wrote
    found = load_pictures(graph.folder / "pictures", 32, states=True)
    assert found.camera_names == ("front", "wrist") and found.state_names == tuple(JOINTS)
    assert set(found.cameras) == {0, 1} and len(found) >= 27
    assert found.states is not None and found.states.shape == (len(found), 7)
    rows = rows_of(graph, "front", "first")
    assert all((table.parent.parent / f"first/{stamp}.jpg").is_file() for stamp in rows)
    assert all(abs(row["joint1"] - (stamp - began) * 1e-9) < 0.1 for stamp, row in rows.items())
    assert len(rows) >= 6
    assert len(set(found.groups[found.cameras == 0])) == len(set(found.groups))

    graph.nodes[NODE].start()
    viewer.run_episode("second")
    until_kept("second", len(rows_of(graph, "wrist", "second")) + 2)
    graph.nodes[NODE].interrupt()
    assert len(load_pictures(graph.folder / "pictures", 32, states=True)) >= len(found) + 4
    lines = table.read_text().splitlines()
    assert all(line.count(",") == 7 for line in lines), "the torn line is gone"


def refused(graph: Graph, **parameters: object) -> str:
    """Start a node that must refuse, and return what it says."""
    node = NodeProcess(NODE, parameters, graph.folder / "refused.log")
    assert node.process.wait(60) == REFUSED, node.output()
    return node.output()


def test_cameras_that_are_not_those_of_the_task_are_refused(cell: Cell, graph: Graph) -> None:
    cameras = write(graph.folder / "few.yaml", vision(cell))
    preset = write(graph.folder / "preset.yaml", {"task": {
        "domain": "robot", "title": "pick", "features": {"front": 512, "wrist": SIZE},
        "max_episode_steps": 100}})
    said = refused(graph, config=cameras, preset=preset)
    assert "{'front': 32, 'wrist': 32}" in said and "{'front': 512, 'wrist': 32}" in said
    said = refused(graph, config=cameras, preset="cpu_cube_single")
    assert "simulated task cube-single-task1, which needs no cameras" in said
    said = refused(graph, config=cameras, weights=graph.folder / "none.safetensors")
    assert "none.safetensors: no such file of encoder weights" in said


def test_a_camera_that_never_showed_anything_is_not_there_at_the_end(cell: Cell, graph: Graph
                                                                      ) -> None:
    values = vision(cell)
    values["cameras"][0]["source"] = "/dev/video77"
    path = write(graph.folder / "absent.yaml", values)
    node = NodeProcess(NODE, {"config": path}, graph.folder / "absent.log")
    wait_until(lambda: "camera front is closed" in node.output(), "it is missed")
    time.sleep(PATIENCE + 0.2)  # a wait that is worth a word when it is over
    assert node.interrupt() == 0
    assert "front is there" not in node.output(), node.output()
    assert "VIDEOIO" not in node.output(), "OpenCV says at every try what is said once"
