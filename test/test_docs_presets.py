"""What ``docs/presets.md`` shows and lists stays true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from learning_support import agent_for

from poco_ros.core.task import TaskConfig
from poco_ros.learning.agents import AGENTS
from poco_ros.learning.config import PocoConfig
from poco_ros.preset import Preset, load_preset
from poco_ros.run_folder import RunFolder
from sim_bridge.factory import make_environment

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "presets.md").read_text()


def test_every_preset_is_listed() -> None:
    listed = set(re.findall(r"`((?:cpu|paper)_\w+)`", PAGE))
    assert listed == {path.stem for path in (ROOT / "config").glob("*.yaml")}


def test_every_section_and_metric_is_there() -> None:
    table = PAGE.split("| section |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(Preset.__dataclass_fields__)
    metrics = set(re.findall(r"`((?:actor|critic|poco)/\w+)`", PAGE))
    assert metrics == set(AGENTS["poco"].METRICS)


def test_the_example_of_a_graph_section_is_a_preset(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    values = yaml.safe_load((ROOT / "config/cpu_pick_cube.yaml").read_text())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**values, **yaml.safe_load(example)}))
    rollout = load_preset(path).graph.rollout
    assert (rollout.correction_window, rollout.features_max_age) == (5.0, 0.5)


def test_a_policy_acts_in_ones_own_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    environment = make_environment(TaskConfig(domain="cube-single"))
    spec = environment.spec
    environment.close()
    agent = agent_for(PocoConfig(hidden_dim=8, num_layers=1), spec.observation.size,
                      spec.action_dim)
    RunFolder(Path("runs/example")).save_policy(agent.policy(1), "latest")
    exec(compile(example, "docs/presets.md", "exec"), {})
    assert capsys.readouterr().out == "(5, 5) 200 False\n"
