"""What the benchmarks count and compare, held against something independent."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import SKIPPED, device_checks, gpu
from benchmarks.__main__ import BENCHMARKS
from benchmarks.flops import poco_update_flops
from benchmarks.gpu import LEARNED, NEAR
from benchmarks.update import world
from benchmarks.update_algorithms import growth
from benchmarks.update_gpu import Rates
from benchmarks.update_jax import JaxProcess, sizes_of
from poco_ros.learning.agents import Agent, Phase
from poco_ros.learning.agents.qc import QChunking
from poco_ros.learning.captured import DeviceUpdater
from poco_ros.learning.config import OFF_POLICY, PocoConfig, QCConfig, TrainConfig

ROOT = Path(__file__).resolve().parent.parent
SMALL = PocoConfig(hidden_dim=24, num_layers=3, num_candidates=7, batch_size=12, flow_steps=4)


def test_every_command_in_the_docs_can_be_typed() -> None:
    """``python -m benchmarks`` takes names alone; options go to ``python -m benchmarks.NAME``."""
    for page in (ROOT / "docs").rglob("*.md"):
        for command in re.findall(r"python -m benchmarks([^`\n]*)", page.read_text()):
            module, *words = command.split(" ")
            good = (ROOT / f"benchmarks/{module[1:]}.py").is_file() if module \
                else set(words) - {""} <= set(BENCHMARKS)
            assert good, f"{page}: python -m benchmarks{command}"


@pytest.mark.parametrize("change", [{}, {"posterior": "draw"}, {"posterior_batch": 5},
                                    {"candidate_flow_steps": 2, "target_flow_steps": 3,
                                     "num_critics": 3, "num_layers": 2}])
def test_operations_counted_from_the_settings_are_those_that_torch_counts(
        change: dict[str, Any]) -> None:
    config = dataclasses.replace(SMALL, **change)
    agent, replay = world(config, 9, 8)  # chunks of 40: nothing is padded to a multiple of 8
    updater = DeviceUpdater(agent, replay, TrainConfig(), captured=False)
    with FlopCounterMode(display=False) as counter:
        updater.update(Phase.FULL, 1)
    assert counter.get_total_flops() == poco_update_flops(config, 9, 8).total


def test_an_update_at_the_papers_size_is_some_200_gflop() -> None:
    assert poco_update_flops(PocoConfig(), 40, 5).total / 1e9 == pytest.approx(200, rel=0.1)


def test_the_limit_of_bf16_counts_the_critics_at_the_rate_of_tf32() -> None:
    rates = Rates(fp32=1e12, tf32=2e12, bf16=4e12)
    flops = poco_update_flops(PocoConfig(), 40, 5)
    assert rates.least_ms("fp32") == pytest.approx(flops.total / 1e9)
    assert rates.least_ms("tf32") == pytest.approx(flops.total / 2e9)
    assert rates.least_ms("bf16") == pytest.approx(flops.policy / 4e9 + flops.critic / 2e9)


def test_each_variant_changes_one_setting_and_the_papers_own_is_among_them() -> None:
    variants = growth(PocoConfig())
    for config in variants.values():
        changed = [f.name for f in dataclasses.fields(config)
                   if getattr(config, f.name) != getattr(PocoConfig(), f.name)]
        assert len(changed) <= 1
    assert sum(config == PocoConfig() for config in variants.values()) == 4


# -- what `python -m benchmarks gpu` does on the card, here on the CPU --------------------------


@pytest.mark.parametrize("algorithm", OFF_POLICY)
def test_the_checks_of_equality_pass_without_a_gpu(algorithm: str) -> None:
    config = device_checks.small(algorithm)
    for phase in Phase:
        assert device_checks.from_plain(config, phase, "cpu") < NEAR / 10
        assert device_checks.from_uncaptured(config, phase, "cpu", captured=False) == 0.0


def test_the_check_of_equality_sees_an_update_that_is_another(
        monkeypatch: pytest.MonkeyPatch) -> None:
    """With the target critic left behind, which is 0.5% of the critic's way, it is noticed."""
    config = device_checks.small("qc")
    monkeypatch.setattr(torch, "_foreach_lerp_", lambda *_: None)
    moved = device_checks.from_plain(config, Phase.FULL, "cpu")
    monkeypatch.undo()
    assert moved < NEAR / 10, "both sides leave it behind: they are equal"
    real = torch._foreach_lerp_
    calls = iter(range(1000))
    monkeypatch.setattr(torch, "_foreach_lerp_",
                        lambda *a: real(*a) if next(calls) % 2 else None)
    assert device_checks.from_plain(config, Phase.FULL, "cpu") > NEAR


def test_the_check_of_resuming_passes_without_a_gpu() -> None:
    assert device_checks.resumes_exactly("cpu", (20,))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_check_of_learning_passes_without_a_gpu(precision: str) -> None:
    config = dataclasses.replace(device_checks.BANDIT, hidden_dim=32, batch_size=64,
                                 num_candidates=8, flow_steps=5, lr=3e-3)
    assert device_checks.bandit_share(precision, "cpu", 400, config) > LEARNED


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("algorithm", OFF_POLICY)
def test_on_a_gpu_the_captured_update_is_the_plain_one(algorithm: str) -> None:
    config = device_checks.small(algorithm)
    for phase in Phase:
        device_checks.never_waits(config, phase)
        assert device_checks.from_plain(config, phase, "cuda") < NEAR
        assert device_checks.from_uncaptured(config, phase, "cuda") < NEAR


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["gpu", "update_gpu"])
def test_without_a_gpu_it_says_so_and_does_not_fail(name: str) -> None:
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"{name}: skipped: torch") and "no GPU" in done.stdout


@pytest.mark.parametrize(("code", "said", "exit_code"), [
    (0, "all parts passed\n", 0), (1, "failed: update_jax\n", 1),
    (SKIPPED, "all parts passed; not measured, as said above: update_jax\n", 0)])
def test_the_check_of_a_gpu_says_what_it_did_not_measure(
        code: int, said: str, exit_code: int, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """JAX for the CPU beside a GPU: all parts passed, it said, and no ratio was printed."""
    monkeypatch.setattr(gpu, "PARTS", {"update_jax": 60})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    monkeypatch.setattr(subprocess, "run", lambda command, timeout: subprocess.CompletedProcess(
        command, code))
    assert gpu.main() == exit_code
    assert capsys.readouterr().out.endswith(f"minutes; {said}")


# -- the JAX side ------------------------------------------------------------------------------

QC = QCConfig(hidden_dim=32, num_layers=3, num_candidates=6, flow_steps=4, batch_size=24,
              activation="gelu")


def as_jax(agent: Agent) -> dict[str, Any]:
    """Return our weights of a QC agent in the JAX side's layout."""
    assert isinstance(agent, QChunking)
    critic = agent.critic
    layers = [{"w": w.detach().numpy(), "b": b.detach().numpy()[:, 0]}
              for w, b in zip(critic.weights, critic.biases, strict=True)]
    norms = [{"scale": s.detach().numpy()[:, 0], "shift": t.detach().numpy()[:, 0]}
             for s, t in zip(critic.scales, critic.shifts, strict=True)]
    actor = [{"w": layer.weight.detach().numpy().T, "b": layer.bias.detach().numpy()}
             for layer in agent.actor.layers]
    return {"actor": actor, "critic": {"layers": layers, "norms": norms}}


def test_jax_does_the_same_work_for_the_same_weights() -> None:
    """Its Q-values, carried chunks and chosen candidates are ours."""
    pytest.importorskip("jax", reason="JAX is an extra: pip install -e '.[bench]'")
    import jax
    import jax.numpy as jnp

    from benchmarks import jax_qc

    agent, _ = world(QC, 9, 2)
    assert isinstance(agent, QChunking)
    with torch.no_grad():
        for scale in agent.critic.scales:
            scale.uniform_(0.5, 1.5)
    sizes = jax_qc.Sizes(observation=9, chunk=10, width=32, layers=3, candidates=6, flow_steps=4,
                         batch=24)
    params = jax.tree.map(jnp.asarray, as_jax(agent))
    generator = np.random.default_rng(0)
    observations = generator.standard_normal((24, 9)).astype(np.float32)
    noise = generator.standard_normal((24, 10)).astype(np.float32)
    carried = jax_qc.carry(params["actor"], observations, noise, 4)
    ours = agent.actor.carry(torch.from_numpy(observations),
                             torch.from_numpy(noise).unsqueeze(1)).squeeze(1)
    np.testing.assert_allclose(np.asarray(carried), ours.numpy(), atol=2e-5)
    q = jax_qc.q_of_all(params["critic"], observations, np.asarray(carried))
    with torch.no_grad():
        expected = agent.critic(torch.from_numpy(observations), ours)
    np.testing.assert_allclose(np.asarray(q), expected.numpy(), atol=2e-5)

    key = jax.random.PRNGKey(3)
    best = np.asarray(jax_qc.best_of_n(params, jnp.asarray(observations), key, sizes))
    candidates = np.asarray(jax_qc.carry(
        params["actor"], jnp.repeat(observations, 6, axis=0),
        jax.random.normal(key, (24 * 6, 10)), 4)).reshape(24, 6, 10).copy()
    q = agent.critic.mean_of_candidates(torch.from_numpy(observations),
                                        torch.from_numpy(candidates))
    np.testing.assert_array_equal(best, candidates[np.arange(24), q.argmax(dim=1).numpy()])


def test_jaxs_updates_learn_what_they_are_given() -> None:
    """On batches that repeat, the loss falls, and the target critics follow the critics."""
    pytest.importorskip("jax", reason="JAX is an extra: pip install -e '.[bench]'")
    import jax
    import jax.numpy as jnp

    from benchmarks import jax_qc

    sizes = jax_qc.Sizes(**sizes_of(dataclasses.replace(SMALL, batch_size=32), 9, 2))
    state = jax_qc.init(0, sizes)
    begin = jax.tree.map(jnp.copy, state.target_critic)
    batches = jax.tree.map(lambda x: jnp.repeat(x[:1], 300, axis=0),
                           jax_qc.random_batches(sizes, 1))
    state, losses = jax_qc.updates(sizes, state, batches)
    assert float(losses[-30:].mean()) < 0.8 * float(losses[:30].mean())
    assert int(state.count) == 300
    apart = jax.tree.map(lambda t, p: float(jnp.abs(t - p).max()), begin, state.target_critic)
    assert max(jax.tree.leaves(apart)) > 0.0


def test_the_jax_process_answers_with_times() -> None:
    pytest.importorskip("jax", reason="JAX is an extra: pip install -e '.[bench]'")
    with JaxProcess(2, sizes_of(SMALL, 9, 2)) as jax:
        assert jax.words["platform"] in ("cpu", "gpu")
        assert all(0.0 < jax.time(4) < 1e4 for _ in range(2))
