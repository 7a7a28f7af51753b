"""What a node cannot run with is refused at start: exit code 2 and a message with the remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from graph_support import isolate, small_policy, write_preset

from poco_ros.cli.node import NODES

pytestmark = pytest.mark.graph


def started(name: str, **parameters: object) -> subprocess.Popen[str]:
    words = [f for key, value in parameters.items() for f in ("-p", f"{key}:={value}")]
    return subprocess.Popen([sys.executable, "-m", NODES[name], "--ros-args", *words],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_wrong_parameters_and_files_are_refused_with_the_remedy(tmp_path: Path) -> None:
    isolate()
    preset = write_preset(tmp_path / "tiny.yaml", {
        "demonstrations": {"episodes": 1, "path": str(tmp_path / "demonstrations")}})
    typo = tmp_path / "typo.yaml"
    typo.write_text(preset.read_text().replace("online_steps", "online_step"))
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(small_policy().to_bytes()[:-100])
    spool = tmp_path / "run" / "spool"
    spool.mkdir(parents=True)
    (spool / "holiday.safetensors").write_bytes(b"not ours")
    cases = [
        (started("sim_bridge", pase="realtime"), "unknown key 'pase'; did you mean 'pace'?"),
        (started("sim_bridge", rate=1000.0), "rate: 1000 is above the maximum 200"),
        (started("policy_server", preset=typo), "typo.yaml: train: unknown key 'online_step'"),
        (started("rollout", preset=preset), "run_dir is empty; give the folder of the run"),
        (started("rollout", preset=preset, run_dir=tmp_path / "run"),
         "holiday.safetensors: not a file of this spool"),
        (started("learner", preset="no_such_preset"), "no preset 'no_such_preset'"),
        (started("learner", preset=preset, run_dir=tmp_path / "learned", checkpoint=truncated),
         "truncated.safetensors: not a policy file, or truncated"),
    ]
    for process, words in cases:
        output, _ = process.communicate(timeout=90)
        assert words in output, f"expected {words!r}\n{output}"
        assert process.returncode == 2, output
        assert "Traceback" not in output, output
    assert not (tmp_path / "learned" / "checkpoint").exists(), "nothing was begun"
