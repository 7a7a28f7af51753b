"""An on-policy run over real DDS is, to the bit, the run in one process: rounds fit the graph."""

from __future__ import annotations

from pathlib import Path

import pytest
from graph_support import Graph, Onlooker, ros, run_headless, write_preset

from poco_ros.core.episode_store import EpisodeStore
from poco_ros.preset import load_preset
from poco_ros.run_folder import CLONED, FINETUNED, RunFolder

pytestmark = pytest.mark.graph
SEED = 4


def test_the_graph_learns_from_rounds_what_the_headless_loop_learns(tmp_path: Path) -> None:
    preset = write_preset(tmp_path / "tiny.yaml", {
        "demonstrations": {"episodes": 2, "path": str(tmp_path / "demonstrations")},
        "agent": {"algorithm": "dppo", "round_episodes": 2, "epochs": 2,
                  "minibatch_size": 4, "warmup_rounds": 0, "actor_lr": 1e-3},
        "train": {"sync_lag": 0, "online_steps": 190}})
    run_dir = tmp_path / "run"
    with ros(), Graph(tmp_path) as graph:
        onlooker = Onlooker()
        graph.start("sim_bridge", preset=preset)
        graph.start("policy_server", preset=preset)
        graph.start("rollout", preset=preset, run_dir=run_dir, seed=SEED)
        learner = graph.start("learner", preset=preset, run_dir=run_dir, seed=SEED)
        onlooker.until(lambda: learner.process.poll() is not None, "the run finishes", graph)
        assert learner.process.returncode == 0, learner.output()
        onlooker.destroy_node()
    stored, folder = list(EpisodeStore(run_dir / "episodes")), RunFolder(run_dir)
    versions = [set(episode.policy_versions.tolist()) for episode in stored]
    assert len(stored) == 5 and all(len(one) == 1 for one in versions), "one version an episode"
    assert versions[0] == versions[1] != versions[2] == versions[3] != versions[4]
    twin = run_headless(load_preset(preset), tmp_path / "twin", SEED)
    assert [one.to_bytes() for one in twin.store] == [one.to_bytes() for one in stored]
    for name in (CLONED, FINETUNED):
        assert folder.load_policy(name).to_bytes() == twin.folder.load_policy(name).to_bytes()
