"""rollout, policy_server and sim_bridge in one process are what they are in a process each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from graph_support import Graph, NodeProcess, Onlooker, ros, run_headless, write_preset

from poco_ros.cli.compose import split
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.errors import ConfigError
from poco_ros.preset import load_preset

SEED = 5
NAMES = ("rollout", "policy_server", "sim_bridge")


class Composed(NodeProcess):
    """Several nodes in one process."""

    def __init__(self, nodes: dict[str, dict[str, object]], log: Path) -> None:
        self.name, self.log = "compose", log
        words = [word for name, parameters in nodes.items() for word in (
            name, "--ros-args",
            *(f for key, value in parameters.items() for f in ("-p", f"{key}:={value}")), "--")]
        self._command = [sys.executable, "-m", "poco_ros.cli.main", "node", "compose", *words]
        self._preexec = None
        self.start()


@pytest.mark.graph
def test_a_run_whose_composed_nodes_were_killed_comes_to_the_same_end(tmp_path: Path) -> None:
    preset = write_preset(tmp_path / "tiny.yaml", {
        "demonstrations": {"episodes": 2, "path": str(tmp_path / "demonstrations")},
        "graph": {"rollout": {"store_timeout": 1.0}}})
    run = {"preset": preset, "run_dir": tmp_path / "run", "seed": SEED}
    with ros(), Graph(tmp_path) as graph:
        onlooker = Onlooker()
        learner = graph.start("learner", **run)
        composed = graph.nodes["composed"] = Composed(
            {"rollout": run, "policy_server": {"preset": preset},
             "sim_bridge": {"preset": preset}}, tmp_path / "composed.log")

        def stored() -> int:
            return 0 if onlooker.learner is None else onlooker.learner.episodes_stored

        for number in (2, 4):
            onlooker.until(lambda number=number: stored() >= number, f"{number} episodes", graph)
            composed.kill()
            since = onlooker.reports("learner")
            onlooker.until(lambda since=since: onlooker.reports("learner") > since,
                           "the learner outlives them", graph)
            composed.start()
        onlooker.until(lambda: learner.process.poll() is not None, "the end of the run", graph)
        assert learner.process.returncode == 0, graph.logs()
        assert set(NAMES) <= set(onlooker.diagnostics), "each reports under its own name"
        assert "libtorch" not in composed.maps()
        assert composed.interrupt() == 0 and "Traceback" not in composed.output()
        onlooker.destroy_node()

    twin = run_headless(load_preset(preset), tmp_path / "twin", SEED)
    store = EpisodeStore(tmp_path / "run" / "episodes")
    assert store.ids == twin.store.ids, "no episode lost, none doubled"
    for ours, theirs in zip(store, twin.store, strict=True):
        assert ours.to_bytes() == theirs.to_bytes(), ours.id


def test_each_node_gets_the_arguments_that_follow_its_name() -> None:
    words = "rollout --ros-args -p seed:=3 -r __node:=policy_server -- policy_server sim_bridge" \
            " --ros-args -p rate:=20.0"
    assert split(words.split()) == [
        ("rollout", ["--ros-args", "-p", "seed:=3", "-r", "__node:=policy_server", "--"]),
        ("policy_server", []), ("sim_bridge", ["--ros-args", "-p", "rate:=20.0"])]


@pytest.mark.parametrize("words, named", [
    ("", "no node is named"), ("learner", "'learner'"), ("rollout rollout", "'rollout'"),
    ("-- rollout", "'--'"), ("rollout -p seed:=3", "'-p'"),
])
def test_what_cannot_be_composed_is_named(words: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        split(words.split())


def test_a_node_that_refuses_its_parameters_ends_the_process_with_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "poco_ros.cli.compose", "policy_server", "--ros-args", "-p",
               "unheard_of:=1", "--"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "policy_server" in ended.stderr and "unheard_of" in ended.stderr
