"""What ``docs/algorithms.md`` shows and says stays true: its example runs, its names exist."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import test_agents

from poco_ros.learning import config
from poco_ros.learning.agents import AGENTS
from poco_ros.learning.config import ALGORITHMS, GENERATIVE

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "algorithms.md").read_text()
SETTINGS, AGENT, TEST = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def module_of(name: str, code: str, folder: Path) -> ModuleType:
    """Return the page's code as a module of that name."""
    path = folder / f"{name.rpartition('.')[2]}.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def awr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example, put where the page says it belongs; taken out again afterwards."""
    exec(compile(SETTINGS, "docs/algorithms.md", "exec"), config.__dict__)
    name = "poco_ros.learning.agents.awr"
    try:
        monkeypatch.setitem(ALGORITHMS, "awr", config.AWRConfig)  # type: ignore[attr-defined]
        agent = module_of(name, AGENT, tmp_path).AdvantageWeighted
        monkeypatch.setitem(AGENTS, "awr", agent)
        yield tmp_path
    finally:
        sys.modules.pop(name, None)
        del config.__dict__["AWRConfig"]


def test_the_examples_own_test_passes(awr: Path) -> None:
    module = module_of("docs_example_test", TEST, awr)
    tests = [name for name in vars(module) if name.startswith("test_")]
    assert tests
    for name in tests:
        getattr(module, name)()


def test_the_laws_of_every_algorithm_hold_for_the_example(awr: Path, tmp_path: Path) -> None:
    test_agents.test_every_settings_class_has_an_agent_and_the_reverse()
    test_agents.test_metrics_are_those_that_are_declared("awr")
    test_agents.test_the_critic_phase_moves_no_network_that_acts_on_observations("awr")
    test_agents.test_the_same_seed_gives_the_same_updates("awr")
    test_agents.test_state_restores_the_agent_to_the_bit("awr")
    test_agents.test_its_policy_acts_from_bytes_alone("awr", "explore")
    test_agents.test_a_trainer_resumes_it_to_the_bit("awr", tmp_path / "checkpoint")


def test_the_page_names_every_algorithm_and_every_policy() -> None:
    for name in (*ALGORITHMS, *GENERATIVE):
        assert f"`{name}`" in PAGE, name


def test_files_and_settings_that_the_page_names_exist() -> None:
    package = ROOT / "poco_ros"
    for path in re.findall(r"`((?:learning|test|docs)/[\w./]+\.(?:py|md))`", PAGE):
        if path != "learning/agents/awr.py":
            assert (ROOT / path).exists() or (package / path).exists(), path
    known = {name for cls in ALGORITHMS.values() for name in config.settings_of(cls)}
    for name in ("flow_steps", "diffusion_steps", "diffusion_sampler", "consistency_steps",
                 "round_episodes", "epochs", "warmup_rounds", "noise_std", "noise_min", "clip",
                 "clip_base", "denoising_gamma", "entropy_weight", "target_kl", "noise_clip",
                 "target_members", "random_steps", "noise_bound", "distillation_steps", "alpha"):
        assert name in known and re.search(rf"\b{name}\b", PAGE), name
