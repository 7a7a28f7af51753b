"""The update that is wholly on the device against the plain one, kernel by kernel on the CPU.

What a captured graph asks for is held here too: no value read by the host, no shape that depends
on values, nothing that lies on the host, and a warm-up that leaves no trace.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from device_support import CASES, MODELS, TRAIN, make, replay, updater_of
from torch.utils._python_dispatch import TorchDispatchMode

from poco_ros.learning import flow
from poco_ros.learning.agents import Phase
from poco_ros.learning.agents.poco import Poco, drawn_from
from poco_ros.learning.captured import WARM_UPS, DeviceUpdater, Saved, make_static
from poco_ros.learning.config import TrainConfig
from poco_ros.learning.experience import ReplayExperience
from poco_ros.learning.networks import ChunkField
from poco_ros.learning.normalizer import Normalizer
from poco_ros.learning.updater import HostUpdater


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def same_draws(updater: DeviceUpdater, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the updater take the rows that the host draws; all other noise is of the agent."""
    rows, generator = updater.replay.replay, np.random.default_rng(5)

    def draw(_: torch.Generator, count: int, share: float = -1.0) -> torch.Tensor:
        return torch.from_numpy(rows.sample_starts(generator, count, share))

    monkeypatch.setattr(updater.replay, "draw", draw)


@pytest.mark.parametrize(("algorithm", "phase"), CASES)
def test_an_update_on_the_device_is_the_plain_update(
        algorithm: str, phase: Phase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal networks, optimisers, random state and metrics after each of several updates."""
    plain, ours = make(algorithm), make(algorithm)
    train = TrainConfig(offline_steps=0, log_every=1)
    host = HostUpdater(plain, ReplayExperience(plain.signature, plain.config, train, []),
                       np.random.default_rng(5))
    host._experience.replay = replay()  # type: ignore[attr-defined]
    updater = updater_of(ours, train)
    same_draws(updater, monkeypatch)
    for number in range(1, 5):
        expected = host.update(phase, number)
        assert updater.update(phase, number) == {}
        found = updater.late_metrics()
        assert set(expected) <= set(found)
        for name, value in found.items():
            assert value == pytest.approx(expected.get(name, 0.0), rel=2e-4, abs=2e-5), name
        assert torch.equal(plain.generator.get_state(), ours.generator.get_state())
        for (name, a), (_, b) in zip(plain.state().items(), ours.state().items(), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-3, atol=2e-5,
                                       msg=lambda m, n=name: f"{n} {m}")


def noise_of_the_chunk(chunks: torch.Tensor, _: torch.Generator) -> flow.FlowNoise:
    """Noise and time that belong to a chunk, however many are asked for beside it."""
    spread = torch.sin(1e3 * chunks.cumsum(dim=1))
    return flow.FlowNoise(spread, spread[:, :1].abs())


@pytest.mark.parametrize("floor", [0.0, 0.3])
@pytest.mark.parametrize("zeta", [0.0, 1.0])
def test_a_masked_sum_over_all_candidates_is_the_sum_over_those_with_weight(
        floor: float, zeta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy weights, so that many are exactly zero; loss, gradient and metrics are equal."""
    plain, ours = (make("poco", eta=0.003, zeta=zeta, weight_floor=floor) for _ in range(2))
    assert isinstance(plain, Poco) and isinstance(ours, Poco)
    ours.static_shapes = True
    observations = torch.randn(12, 3)
    state = plain.generator.get_state()
    weights = plain.weighted_candidates(observations)[1]
    assert 0 < (weights == 0.0).sum() < weights.numel() - 12, "the example must have zeros"
    plain.generator.set_state(state)
    monkeypatch.setattr(flow.FlowNoise, "draw", noise_of_the_chunk)
    (loss, metrics), (whole, found) = (a.posterior_loss(observations) for a in (plain, ours))
    torch.testing.assert_close(whole, loss, rtol=1e-5, atol=1e-6)
    for name, value in metrics.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    for a, b in zip(torch.autograd.grad(loss, list(plain.actor.parameters())),
                    torch.autograd.grad(whole, list(ours.actor.parameters())), strict=True):
        assert (b - a).norm() < 1e-5 * a.norm()


def test_a_drawn_candidate_is_the_one_that_multinomial_draws() -> None:
    weights = torch.softmax(3 * torch.randn(500, 9), dim=1)
    first, second = torch.Generator().manual_seed(2), torch.Generator().manual_seed(2)
    expected = torch.multinomial(weights, 1, generator=first).squeeze(1)
    assert torch.equal(drawn_from(weights, second), expected)
    assert torch.equal(first.get_state(), second.get_state())


def test_random_members_of_the_ensemble_are_each_taken_equally_often() -> None:
    agent = make("rlpd_ac", num_critics=5, target_members=2)
    make_static(agent, "fp32")
    orders = torch.stack([agent.order_of_members() for _ in range(3000)])  # type: ignore
    assert torch.equal(orders.sort(dim=1).values, torch.arange(5).expand(3000, 5))
    counts = torch.stack([torch.bincount(orders[:, i], minlength=5) for i in range(5)])
    assert (counts - 600).abs().max() < 6 * np.sqrt(600)


class Watch(TorchDispatchMode):
    """Refuses what a captured graph cannot have."""

    TAGS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
    FROM_HOST = ("aten::lift_fresh", "aten::lift_fresh_copy")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (),
                           kwargs: Any = None) -> Any:
        name = func.name()
        if name.startswith("aten::index.Tensor"):
            assert all(i is None or i.dtype != torch.bool for i in args[1]), "a boolean index"
        else:
            assert not set(self.TAGS) & set(func.tags), f"{name} depends on values"
        assert "multinomial" not in name, "multinomial reads its weights"
        assert not name.startswith(self.FROM_HOST), f"{name}: a constant from the host"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("algorithm", "phase"), CASES)
@pytest.mark.parametrize("settings", [{}, {"offline_share": 0.5}], ids=["uniform", "halves"])
def test_an_update_reads_no_value_and_has_no_shape_that_depends_on_one(
        algorithm: str, phase: Phase, settings: dict[str, float]) -> None:
    updater = updater_of(make(algorithm, **settings))
    updater.replay.bring()
    updater._step(phase)  # what is made once is made now, as in the warm-up
    with Watch():
        updater._step(phase)


@pytest.mark.parametrize(("algorithm", "phase"), CASES)
def test_an_update_mixes_nothing_of_the_host_in(algorithm: str, phase: Phase,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """On the device ``meta``, which has no values: any tensor of the host would be refused."""
    agent = make(algorithm, offline_share=0.5)
    updater = updater_of(agent)
    updater.replay.bring()
    updater._step(phase)
    for module in agent.modules().values():
        module.to("meta")
    agent.device, agent.generator = torch.device("meta"), None  # type: ignore[assignment]
    agent.normalizer = Normalizer(agent.signature.observation, device=agent.device)
    replay, sums = updater.replay, updater._sums
    replay.device = agent.device
    for owner, name in ((replay, "_start_rows"), (replay, "_counts"), (sums, "_zero")):
        monkeypatch.setattr(owner, name, getattr(owner, name).to("meta"))
    for held in (replay._rows, replay._powers):
        held.update({key: value.to("meta") for key, value in held.items()})  # type: ignore
    sums.tensors = tuple(tensor.to("meta") for tensor in sums.tensors)  # type: ignore[assignment]
    # The optimisers hold what was there before: their step is torch's own.
    monkeypatch.setattr(agent, "descend", lambda _, loss, onto=False: loss.backward())
    updater._step(phase)
    with pytest.raises(RuntimeError):
        agent.normalizer.mean + torch.ones(3)


@pytest.mark.parametrize("settings", [{"posterior": "draw"}, {"weight_floor": 0.1},
                                      {"posterior_batch": 4, "num_candidates": 1},
                                      {"observation_components": 2}])
def test_the_savers_too_can_be_captured(settings: dict[str, Any]) -> None:
    updater = updater_of(make("poco", **settings))
    updater.replay.bring()
    updater._step(Phase.FULL)
    with Watch():
        updater._step(Phase.FULL)


def test_the_plain_update_would_not_pass_the_watch() -> None:
    """The watch sees what it is for."""
    agent = make("poco")
    assert isinstance(agent, Poco)
    with Watch(), pytest.raises(AssertionError, match="nonzero depends on values"):
        agent.posterior_loss(torch.randn(4, 3))
    with Watch(), pytest.raises(AssertionError, match="a constant from the host"):
        torch.where(torch.ones(2) > 0, torch.ones(2), torch.tensor(0.0))
    with Watch(), pytest.raises(AssertionError, match="depends on values"):
        torch.ones(1).item()


@pytest.mark.parametrize(("algorithm", "phase"), CASES)
def test_the_warm_up_before_a_capture_leaves_no_trace(algorithm: str, phase: Phase) -> None:
    """Updates, saved and put back, then updates: as if the first had not been, bit for bit."""
    ours, other = make(algorithm), make(algorithm)
    warmed, straight = updater_of(ours), updater_of(other)
    for updater in (warmed, straight):
        updater.update(phase, 1)  # some optimisers have a state by now, others may not
    for later in (phase, Phase.FULL):
        saved = Saved(ours, warmed._sums)
        for _ in range(WARM_UPS):
            warmed._step(later)
        saved.restore()
        for updater in (warmed, straight):
            updater.update(later, 2)
    left, right = ours.state(), other.state()
    assert {k: v for k, v in left.items() if k in right}.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name
    assert warmed.late_metrics() == straight.late_metrics()


@pytest.mark.parametrize("algorithm", ["poco", "bc", "qc", "qc_fql", "rlpd_ac", "dsrl", *MODELS])
def test_what_is_compiled_has_no_break_in_its_graph(algorithm: str,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced whole (fullgraph), forwards and backwards, and equal to what is not compiled."""
    def compiled(function: Any, fullgraph: bool, dynamic: bool) -> Any:
        assert fullgraph and not dynamic
        return torch._dynamo.optimize("eager", nopython=True, dynamic=False)(function)

    monkeypatch.setattr(torch, "compile", compiled)
    plain, ours = make(algorithm), make(algorithm)
    updaters = [updater_of(plain), updater_of(ours, replace(TRAIN, device="cuda", compiled=True))]
    for number in range(1, 3):
        for updater in updaters:
            updater.update(Phase.FULL, number)
    for (name, left), right in zip(updaters[0].late_metrics().items(),
                                   updaters[1].late_metrics().values(), strict=True):
        assert right == pytest.approx(left, rel=1e-4, abs=1e-6), name
    for (name, a), (_, b) in zip(plain.state().items(), ours.state().items(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n} {m}")
    torch._dynamo.reset()


@pytest.mark.parametrize("model", MODELS)
def test_every_part_of_a_model_is_led_whole_and_in_bf16_where_asked(model: str) -> None:
    """Also the networks that a model is made of: a consistency model has two."""
    agent, half = make(model), make(model)
    make_static(agent, "fp32")
    make_static(half, "bf16")
    fields = [part for part in half.actor.modules() if isinstance(part, ChunkField)]
    assert len(fields) == (2 if "jumps" in model else 1)
    assert all(part.whole and part.product_dtype == torch.bfloat16 for part in fields)
    plain, observations = make(model), torch.randn(40, 3)
    blocked, whole, rough = (a.actor.sample(observations, 8, a.generator)
                             for a in (plain, agent, half))
    torch.testing.assert_close(whole, blocked, rtol=1e-4, atol=1e-4)
    assert rough.dtype == torch.float32 and not torch.equal(rough, whole)
    assert float((rough - whole).abs().mean()) < 0.03


def test_bf16_is_for_the_policy_alone_and_stays_near() -> None:
    agent, half = make("poco"), make("poco")
    make_static(agent, "fp32")
    make_static(half, "bf16")
    observations, noise = torch.randn(40, 3), torch.randn(40, 8, 6)
    full, rough = agent.actor.carry(observations, noise), half.actor.carry(observations, noise)
    assert rough.dtype == torch.float32 and not torch.equal(full, rough)
    torch.testing.assert_close(rough, full, rtol=0.0, atol=0.03)
    q = [a.critic.mean_of_candidates(observations, full) for a in (agent, half)]
    assert torch.equal(q[0], q[1])
    for module in half.modules().values():
        assert all(p.dtype == torch.float32 for p in module.parameters())
    before = half.actor.layers[0].weight.detach().clone()
    DeviceUpdater(half, replay(), TrainConfig(precision="bf16", device="cuda"),
                  captured=False).update(Phase.FULL, 1)
    assert not torch.equal(before, half.actor.layers[0].weight)
    assert all(torch.isfinite(v).all() for v in half.state().values() if v.is_floating_point())
