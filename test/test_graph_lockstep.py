"""The whole graph in lock-step: a run over real DDS is, to the bit, the run in one process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from graph_support import TASK, Graph, Onlooker, ros, run_headless, write_preset
from poco_msgs.msg import EpisodeStatus
from sensor_msgs.msg import Image

from poco_ros.core.episode import Episode
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.rollout import run_episode
from poco_ros.core.seeding import episode_id, episode_seed
from poco_ros.learning.policies import Policy
from poco_ros.preset import Preset, load_preset
from poco_ros.processes import STOP_SIGNALS
from poco_ros.ros import names
from poco_ros.ros.weights import policy_of
from poco_ros.run_folder import CLONED, FINETUNED, RunFolder
from sim_bridge.factory import make_environment

pytestmark = pytest.mark.graph
SEED = 4
NODES = ("sim_bridge", "policy_server", "rollout", "learner")


@dataclass
class Ran:
    """A finished run and what was heard of it."""

    preset: Preset
    folder: RunFolder
    stored: list[Episode]
    policies: dict[int, Policy]
    statuses: list[EpisodeStatus]
    exit_codes: dict[str, int]
    maps: dict[str, str]
    told: set[str]
    logs: dict[str, str]
    pictures: list[Image]
    figures: dict[str, dict[str, str]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """Run the tiny preset to its end in the graph, once for all tests here."""
    folder = tmp_path_factory.mktemp("lockstep")
    preset = write_preset(folder / "tiny.yaml", {
        "demonstrations": {"episodes": 2, "path": str(folder / "demonstrations")},
        "graph": {"sim_bridge": {"camera_rate": 1.0, "camera_width": 32, "camera_height": 24}}})
    run_dir = folder / "run"
    with ros(), Graph(folder) as graph:
        onlooker = Onlooker()
        pictures: list[Image] = []
        onlooker.loop.subscribe(Image, names.CAMERA, pictures.append, names.SENSOR_QOS)
        graph.start("sim_bridge", preset=preset)
        graph.start("policy_server", preset=preset)
        graph.start("rollout", preset=preset, run_dir=run_dir, seed=SEED)
        learner = graph.start("learner", preset=preset, run_dir=run_dir, seed=SEED)
        onlooker.until(lambda: len(onlooker.diagnostics.keys() & set(NODES)) == 4,
                       "every node reports on /diagnostics", graph)
        maps = {name: node.maps() for name, node in graph.nodes.items()}
        onlooker.until(lambda: learner.process.poll() is not None, "the run finishes", graph)
        exit_codes = {"learner": learner.process.returncode}
        others = [name for name in NODES if name != "learner"]
        exit_codes |= {name: graph.nodes[name].interrupt(number)
                       for name, number in zip(others, STOP_SIGNALS, strict=True)}
        store = EpisodeStore(run_dir / "episodes")
        yield Ran(load_preset(preset), RunFolder(run_dir), list(store),
                  {v: policy_of(message) for v, message in onlooker.weights.items()},
                  onlooker.episodes, exit_codes, maps, set(onlooker.diagnostics),
                  {name: node.output() for name, node in graph.nodes.items()},
                  pictures, onlooker.figures)
        onlooker.destroy_node()


def test_every_node_ends_with_0_and_without_a_word_of_error(ran: Ran) -> None:
    assert ran.exit_codes == dict.fromkeys(NODES, 0)
    for name, text in ran.logs.items():
        assert "Traceback" not in text and "ERROR" not in text, f"{name}:\n{text}"


def test_nothing_is_left_in_shared_memory(ran: Ran) -> None:
    for name, maps in ran.maps.items():
        assert "/dev/shm/fastdds" not in maps and "/dev/shm/fastrtps" not in maps, name


def test_stored_episodes_are_those_of_the_environment_to_the_bit(ran: Ran) -> None:
    environment = make_environment(ran.preset.task)
    for number, stored in enumerate(ran.stored):
        policy = ran.policies[int(stored.policy_versions[0])]
        same = run_episode(environment, policy, episode_seed(SEED, number),
                           episode_id(SEED, number))
        assert stored.to_bytes() == same.to_bytes(), f"episode {number}"
    environment.close()


def test_an_episode_acts_with_the_weights_of_the_episodes_before_the_lag(ran: Ran) -> None:
    due = 0
    versions = []
    train = ran.preset.train
    for _ in ran.stored:
        versions.append(train.offline_steps + due + 1)
        due = int(train.utd * sum(map(len, ran.stored[:len(versions)])))
    acted = [episode.policy_versions for episode in ran.stored]
    assert all((one == one[0]).all() for one in acted), "one version an episode"
    assert [int(one[0]) for one in acted] == [versions[max(0, number - 1)]
                                              for number in range(len(acted))]


def test_the_graph_learns_what_the_headless_loop_learns(ran: Ran, tmp_path: Path) -> None:
    twin = run_headless(ran.preset, tmp_path / "twin", SEED)
    assert [e.id for e in twin.store] == [e.id for e in ran.stored]
    for name in (CLONED, FINETUNED):
        ours, theirs = ran.folder.load_policy(name), twin.folder.load_policy(name)
        assert ours.to_bytes() == theirs.to_bytes(), name
    assert not np.array_equal(ran.folder.load_policy(CLONED).tensors["actor.layers.0.weight"],
                              ran.folder.load_policy(FINETUNED).tensors["actor.layers.0.weight"])


def test_the_episode_status_tells_the_way_of_every_episode(ran: Ran) -> None:
    for number in range(len(ran.stored) - 1):
        phases = [s.phase for s in ran.statuses if s.number == number
                  and s.episode_id == episode_id(SEED, number)]
        assert [p for p in (1, 2, 3, 4) if p in phases] == [1, 2, 3, 4], f"episode {number}"
    last = next(s for s in reversed(ran.statuses) if s.phase == EpisodeStatus.ENDED)
    assert last.window == len(ran.stored)
    assert last.success_rate == pytest.approx(
        sum(e.success for e in ran.stored) / len(ran.stored))


def test_every_node_reports_its_figures(ran: Ran) -> None:
    assert set(NODES) <= ran.told
    assert ran.figures["sim_bridge"]["task"] == TASK
    assert ran.figures["learner"].keys() >= {"stage", "updates", "episodes_stored"}


def test_pictures_come_at_their_rate_of_simulated_time(ran: Ran) -> None:
    assert ran.pictures
    for picture in ran.pictures:
        assert (picture.width, picture.height, picture.encoding) == (32, 24, "rgb8")
        assert len(picture.data) == 32 * 24 * 3 and max(picture.data) > 0
    steps = sum(map(len, ran.stored))
    assert len(ran.pictures) <= steps // 20 + 2 * len(ran.stored)


def test_the_spool_is_empty_when_the_learner_has_everything(ran: Ran) -> None:
    assert not list((ran.folder.path / "spool").iterdir())
