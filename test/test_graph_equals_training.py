"""The ROS graph and ``poco train`` are two ways to the same weights, bit for bit."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from poco_ros import video
from poco_ros.cli.main import main
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.run_folder import RunFolder

PRESET = {
    "task": {"domain": "cube-single", "max_episode_steps": 18},  # no multiple of the chunk
    "demonstrations": {"kind": "directed", "episodes": 3},
    "agent": {"hidden_dim": 16, "num_layers": 2, "num_candidates": 4, "flow_steps": 3,
              "batch_size": 16, "normalize_observations": True, "zeta": 1.0},
    "train": {"offline_steps": 30, "offline_objective": "bc", "critic_warmup": 40, "utd": 0.5,
              "online_steps": 90, "eval_every": 40, "eval_episodes": 2, "log_every": 20},
}


@pytest.mark.graph
def test_sim_command_over_ros_gives_the_weights_of_headless_training(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """The newcomer's command, small: real nodes, real DDS, evaluation, curve, video, RESULT."""
    values = {**PRESET, "demonstrations": {**PRESET["demonstrations"],
                                           "path": str(tmp_path / "demonstrations")}}
    preset = tmp_path / "tiny.yaml"
    preset.write_text(yaml.safe_dump(values))
    monkeypatch.setenv("ROS_DOMAIN_ID", str(100 + os.getpid() % 100))
    monkeypatch.setattr(video, "WIDTH", 80)  # a processor draws slowly
    monkeypatch.setattr(video, "HEIGHT", 60)

    def poco(*arguments: str | Path) -> str:
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        log = tmp_path / "graph" / "graph.log"
        assert code == 0, said.out + said.err + (log.read_text() if log.exists() else "")
        return said.out

    output = poco("sim", "--preset", preset, "--seed", "5", "--run-dir", tmp_path / "graph")
    poco("train", "--preset", preset, "--seed", "5", "--run-dir", tmp_path / "train")
    assert re.fullmatch(r"RESULT cloned=\d\.\d\d finetuned=\d\.\d\d episodes=2 minutes=\d+\.\d",
                        output.splitlines()[-1])
    over_ros, headless = RunFolder(tmp_path / "graph"), RunFolder(tmp_path / "train")
    for name in ("cloned", "finetuned"):
        assert over_ros.load_policy(name).to_bytes() == headless.load_policy(name).to_bytes()
    assert [r["success_rate"] for r in over_ros.read_evaluations()] == \
        [r["success_rate"] for r in headless.read_evaluations()]
    first, second = EpisodeStore(over_ros.episodes), EpisodeStore(headless.episodes)
    assert first.ids == second.ids
    for a, b in zip(first, second, strict=True):
        for name in ("observations", "actions", "rewards", "policy_versions"):
            assert getattr(a, name).tobytes() == getattr(b, name).tobytes()
    assert (tmp_path / "graph" / "curve.png").stat().st_size > 10_000
    assert (tmp_path / "graph" / "rollout.mp4").stat().st_size > 1_000
