"""Each node is killed in the middle of a run; the run comes to the same end, to the bit."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from graph_support import Graph, Onlooker, ros, run_headless, write_preset

from poco_ros.core.episode_store import EpisodeStore
from poco_ros.preset import load_preset
from poco_ros.run_folder import FINETUNED, RunFolder

pytestmark = pytest.mark.graph
SEED = 9
PATIENT = {"environment_timeout": 1.5, "infer_timeout": 0.3, "store_timeout": 1.0}


class Run:
    """A graph that is being tormented."""

    def __init__(self, folder: Path, graph: Graph) -> None:
        self.preset = write_preset(folder / "tiny.yaml", {
            "demonstrations": {"episodes": 2, "path": str(folder / "demonstrations")},
            # Checkpoints at nearly every update: a kill is likely to meet one half written.
            "train": {"online_steps": 960, "checkpoint_every": 3, "critic_warmup": 10},
            "graph": {"rollout": PATIENT}})
        self.run_dir = folder / "run"
        self.graph, self.onlooker = graph, Onlooker()
        run = {"preset": self.preset, "run_dir": self.run_dir, "seed": SEED}
        graph.start("sim_bridge", preset=self.preset)
        graph.start("policy_server", preset=self.preset)
        graph.start("rollout", **run)
        graph.start("learner", **run)

    @property
    def stored(self) -> int:
        return 0 if self.onlooker.learner is None else self.onlooker.learner.episodes_stored

    def go_on(self, episodes: int) -> None:
        """Wait until so many more episodes are stored."""
        wanted = self.stored + episodes
        self.onlooker.until(lambda: self.stored >= wanted, f"{wanted} episodes", self.graph)

    def kill(self, name: str, told_by: str, words: str) -> None:
        """Kill a node, wait until another one says so on /diagnostics, and start it again."""
        node = self.graph.nodes[name]
        since = self.onlooker.reports(told_by)
        node.kill()
        self.onlooker.until(lambda: self.onlooker.says(told_by, words, since),
                            f"{told_by} says {words!r} without {name}", self.graph)
        node.start()
        self.go_on(2)


def test_a_run_in_which_every_node_was_killed_comes_to_the_same_end(tmp_path: Path) -> None:
    with ros(), Graph(tmp_path) as graph:
        run = Run(tmp_path, graph)
        run.go_on(2)
        run.kill("policy_server", "rollout", "waiting for infer_chunk (policy_server)")
        run.kill("sim_bridge", "rollout", "waiting for environment side")
        run.kill("rollout", "sim_bridge", "waiting for")
        run.kill("learner", "rollout", "(learner)")
        for _ in range(2):  # at any moment, a checkpoint or an episode half written included
            run.go_on(1)
            time.sleep(0.013)
            graph.nodes["learner"].kill()
            graph.nodes["learner"].start()
        learner = graph.nodes["learner"]
        run.onlooker.until(lambda: learner.process.poll() is not None, "the end", graph)
        assert learner.process.returncode == 0, graph.logs()
        run.onlooker.destroy_node()

    preset = load_preset(run.preset)
    seldom = replace(preset, train=replace(preset.train, checkpoint_every=1000))
    twin = run_headless(seldom, tmp_path / "twin", SEED)
    store = EpisodeStore(run.run_dir / "episodes")
    assert store.ids == twin.store.ids, "no episode lost, none doubled"
    for ours, theirs in zip(store, twin.store, strict=True):
        assert ours.to_bytes() == theirs.to_bytes(), ours.id
    assert RunFolder(run.run_dir).load_policy(FINETUNED).to_bytes() == \
        twin.folder.load_policy(FINETUNED).to_bytes()
