"""A disk without room: old files stay whole, the error is told, and learning goes on.

A limit on the size of files stands for the full disk: a write beyond it fails in the middle, with
OSError, and needs neither root nor a file system of its own.
"""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from graph_support import TASK, Graph, Onlooker, ros, write_preset
from poco_msgs.srv import StoreEpisode

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.learning.checkpoint import load_checkpoint
from poco_ros.ros import convert, names
from poco_ros.run_folder import RunFolder

pytestmark = pytest.mark.graph
LIMIT = 24_000
"""Bytes of a file: a short episode fits, a checkpoint and a long episode do not."""


def no_room() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))


def episode(number: int, steps: int) -> Episode:
    generator = np.random.default_rng(number)
    return Episode(
        id=f"ep-0-{number:06d}", observations=generator.standard_normal((steps + 1, 28)),
        actions=generator.uniform(-1, 1, (steps, 5)), rewards=np.zeros(steps), terminated=False,
        truncated=True, outcome=Outcome.FAILURE, task=TASK)


class Sender(Onlooker):
    """Hands episodes to the learner, as the rollout does."""

    def __init__(self) -> None:
        super().__init__("sender")
        self.client = self.loop.client(StoreEpisode, names.STORE_EPISODE)

    def store(self, number: int, steps: int) -> StoreEpisode.Response:
        request = StoreEpisode.Request(episode=convert.episode_to_msg(episode(number, steps)))
        return self.ask(self.client, request)

    @property
    def updates(self) -> int:
        return self.learner.updates if self.learner else 0


def test_a_full_disk_stops_neither_learning_nor_what_was_saved(tmp_path: Path) -> None:
    preset = write_preset(tmp_path / "tiny.yaml", {
        "demonstrations": {"episodes": 1, "path": str(tmp_path / "demonstrations")},
        "train": {"online_steps": 100_000, "critic_warmup": 0, "checkpoint_every": 10}})
    run = {"preset": preset, "run_dir": tmp_path / "run"}
    folder = RunFolder(tmp_path / "run")
    with ros(), Graph(tmp_path) as graph:
        sender = Sender()
        graph.start("learner", **run)
        assert sender.store(0, 40).episodes_stored == 1
        sender.until(lambda: sender.updates >= 50, "the first updates", graph)
        assert graph.nodes["learner"].interrupt() == 0
        before = load_checkpoint(folder.checkpoint)

        sender.learner = None
        full = graph.start("learner", no_room, **run)
        assert sender.store(0, 40).duplicate, "known from before"
        assert sender.store(1, 40).success, "a short episode still fits"
        since = sender.updates
        sender.until(lambda: sender.says("learner", "the run cannot be saved in"), "told", graph)
        sender.until(lambda: sender.updates >= since + 10, "training goes on", graph)
        assert load_checkpoint(folder.checkpoint).words == before.words, "the old one is whole"

        refused = sender.store(2, 400)
        assert not refused.success and "free some space" in refused.message
        assert sender.store(3, 40).success, "the next one is served all the same"
        assert full.interrupt() == 1, "what could not be saved at the end is no success"
        assert "Traceback" not in full.output()

        sender.learner = None
        graph.start("learner", **run)
        assert sender.store(2, 400).episodes_stored == 4, "with room again it is taken"
        sender.until(lambda: sender.updates >= since + 20, "learning goes on from there", graph)
        assert graph.nodes["learner"].interrupt() == 0
        sender.destroy_node()
    assert EpisodeStore(folder.episodes).ids == tuple(f"ep-0-{n:06d}" for n in (0, 1, 3, 2))
    assert load_checkpoint(folder.checkpoint).words["episodes_ingested"] >= 2
