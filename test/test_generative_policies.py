"""Diffusion and consistency policies: what they sample, and that numpy and torch agree on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from learning_support import (
    agent_for,
    check_two_modes,
    random_episode,
    set_normalizer,
    signature,
    two_modes,
)

from poco_ros.core.config import from_dict
from poco_ros.core.errors import CheckpointError, ConfigError
from poco_ros.learning import consistency, diffusion, flow
from poco_ros.learning.agents import AGENTS, Agent, Batch, Phase
from poco_ros.learning.agents.parts import WithFlow, WithGenerative
from poco_ros.learning.config import (
    ALGORITHMS,
    AgentConfig,
    BCConfig,
    GenerativeConfig,
    TrainConfig,
)
from poco_ros.learning.policies import policy_from_bytes
from poco_ros.learning.policies.diffusion import alpha_bars, denoising_steps
from poco_ros.learning.replay import Replay
from poco_ros.learning.trainer import Trainer

MODELS: dict[str, dict[str, Any]] = {
    "flow": {"policy": "flow", "flow_steps": 5},
    "ddim": {"policy": "diffusion", "flow_steps": 5, "diffusion_steps": 20},
    "ddpm": {"policy": "diffusion", "flow_steps": 5, "diffusion_steps": 20,
             "diffusion_sampler": "ddpm"},
    "one jump": {"policy": "consistency", "flow_steps": 5, "consistency_steps": 1},
    "three jumps": {"policy": "consistency", "flow_steps": 5, "consistency_steps": 3},
}
every_model = pytest.mark.parametrize("model", list(MODELS))


def cloner(model: str, observation: int = 7, action_dim: int = 3, **settings: Any) -> Agent:
    values = {"hidden_dim": 32, "num_layers": 2, "chunk_horizon": 4, **MODELS[model], **settings}
    return agent_for(BCConfig(**values), observation, action_dim, seed=3)


@pytest.mark.parametrize("model", ["ddim", "ddpm", "three jumps"])
def test_it_recovers_a_two_mode_distribution(model: str) -> None:
    """70% around +0.6, 30% around -0.5, deviation 0.05: shares, means and widths come back."""
    agent = cloner(model, 1, 1, chunk_horizon=1, hidden_dim=64, num_layers=3, lr=1e-3,
                   flow_steps=20, **({} if "jump" in model else {"diffusion_steps": 100}))
    generator = np.random.default_rng(0)
    for number in range(3000):
        if number == 2000:  # the last steps of a constant rate are a random walk
            for group in agent.actor_optimizer.param_groups:
                group["lr"] = 1e-4
        agent.update(two_modes(generator), Phase.CLONE)
    check_two_modes(agent, 0.04)


@every_model
@pytest.mark.parametrize("activation", ["silu", "gelu", "relu"])
def test_acting_policy_equals_the_torch_sampler(model: str, activation: str,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """The same noises in the same order lead numpy and torch to the same chunk."""
    agent = cloner(model, activation=activation)
    numbers = np.random.default_rng(5)
    set_normalizer(agent, numbers.standard_normal(7), numbers.uniform(0.5, 2.0, 7))
    policy = agent.policy(version=4)
    for seed in range(5):
        stream = np.random.Generator(np.random.Philox(seed))

        def normal(shape: tuple[int, ...], generator: torch.Generator, device: torch.device,
                   stream: np.random.Generator = stream) -> torch.Tensor:
            return torch.from_numpy(stream.standard_normal(tuple(shape), dtype=np.float32))

        for module in (consistency, diffusion, flow):
            monkeypatch.setattr(module, "normal", normal)
        observation = numbers.standard_normal(7).astype(np.float32)
        scaled = agent.normalizer(torch.from_numpy(observation))
        expected = agent.actor.sample(scaled[None], 1, agent.generator)
        np.testing.assert_allclose(policy.act(observation, seed).reshape(-1),
                                   expected.numpy().reshape(-1), atol=3e-6)


@every_model
def test_the_best_of_n_is_drawn_from_any_model(model: str) -> None:
    values = {"algorithm": "qc", "hidden_dim": 32, "num_layers": 2, "chunk_horizon": 4,
              "num_candidates": 6, "num_critics": 3, **MODELS[model]}
    agent = agent_for(from_dict(AgentConfig, values, "test"), 7, 3)
    agent.choice.trained.fill_(1.0)
    observation = np.linspace(-1.0, 1.0, 7, dtype=np.float32)
    policy = policy_from_bytes(agent.policy(1).to_bytes(), "message")
    plain = cloner(model)
    plain.actor.load_state_dict(agent.actor.state_dict())
    sampler = plain.policy(1).sampler
    drawn = sampler.sample(observation, np.random.Generator(np.random.Philox(8)), 6)
    with torch.no_grad():
        q = agent.critic(torch.from_numpy(observation).expand(6, -1), torch.from_numpy(drawn))
    np.testing.assert_allclose(policy.act(observation, 8).reshape(-1),
                               drawn[int(q.mean(dim=0).argmax())], atol=1e-6)


@every_model
def test_the_loss_is_one_a_sample_and_a_mean_over_what_is_valid(model: str) -> None:
    agent = cloner(model)
    observations, chunks = torch.randn(5, 7), torch.rand(5, 12) * 2 - 1
    valid = torch.ones(5, 12)
    valid[2, 6:] = 0.0

    def losses(mask: torch.Tensor | None) -> torch.Tensor:
        agent.generator.manual_seed(1)
        with torch.no_grad():
            return agent.actor.losses(observations, chunks, agent.generator, mask)

    plain, masked = losses(None), losses(valid)
    assert plain.shape == (5,)
    torch.testing.assert_close(plain, losses(torch.ones(5, 12)))
    assert [row for row in range(5) if not torch.isclose(plain[row], masked[row])] == [2]


# -- diffusion -------------------------------------------------------------------------------


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("training_steps, count", [(100, 10), (100, 100), (7, 3), (1, 5)])
def test_a_denoising_step_keeps_the_schedules_marginal(training_steps: int, count: int,
                                                       stochastic: bool) -> None:
    """If a_t ~ N(sqrt(abar_t) a, 1 - abar_t), then a_u ~ N(sqrt(abar_u) a, 1 - abar_u)."""
    abar = alpha_bars(training_steps)
    assert abar[0] == 1.0 and (np.diff(abar) < 0).all()
    steps = denoising_steps(training_steps, count, stochastic)
    assert len(steps) == min(count, training_steps)
    visited = [round(step.time * training_steps) for step in steps] + [0]
    for step, t, u in zip(steps, visited[:-1], visited[1:], strict=True):
        assert t > u
        assert step.keep * np.sqrt(abar[t]) + step.clean == pytest.approx(np.sqrt(abar[u]))
        assert step.keep ** 2 * (1 - abar[t]) + step.sigma ** 2 == pytest.approx(1 - abar[u])
        assert step.signal * np.sqrt(abar[t]) == pytest.approx(1.0)
        assert (step.sigma > 0.0) == (stochastic and u > 0)


def test_the_schedule_is_the_cosine_one() -> None:
    angles = (np.arange(101) / 100 + 0.008) / 1.008 * np.pi / 2
    expected = np.cos(angles) ** 2 / np.cos(angles[0]) ** 2
    np.testing.assert_allclose(alpha_bars(100)[:100], expected[:100], rtol=1e-9)


@pytest.mark.parametrize("model", ["ddim", "ddpm"])
def test_whoever_knows_the_noise_finds_the_data(model: str, monkeypatch: pytest.MonkeyPatch
                                                ) -> None:
    """All data at one point: the best guess of the noise leads every sample there."""
    agent, point = cloner(model), torch.linspace(-0.9, 0.9, 12)
    left = torch.from_numpy(alpha_bars(20)).float()

    def walk(observations: torch.Tensor, chunks: torch.Tensor, times: list[float],
             step: Any) -> torch.Tensor:
        block = chunks.reshape(-1, 12).clone()
        for index, time in enumerate(times):
            share = left[round(20 * time)]
            step(index, block, (block - share.sqrt() * point) / (1 - share).sqrt())
        return block.view(chunks.shape)

    monkeypatch.setattr(agent.actor, "walk", walk)
    drawn = agent.actor.sample(torch.zeros(3, 7), 4, agent.generator)
    torch.testing.assert_close(drawn, point.expand(3, 4, 12), atol=1e-5, rtol=0.0)


# -- consistency -----------------------------------------------------------------------------


class ToThePoint(torch.nn.Module):
    """The exact flow of data at one point, which is also the exact jump's network F."""

    steps = 5

    def forward(self, observations: torch.Tensor, chunks: torch.Tensor,
                times: torch.Tensor) -> torch.Tensor:
        return (0.3 - chunks) / (1.0 - times).clamp(min=1e-6)


def test_the_exact_jump_has_no_distillation_loss_and_another_has() -> None:
    agent = cloner("one jump")
    agent.actor.teacher, agent.actor.student = ToThePoint(), ToThePoint()
    chunks = torch.full((64, 12), 0.3)
    exact = agent.actor.losses(torch.zeros(64, 7), chunks, agent.generator)
    assert float(exact.max()) < 1e-6
    agent.actor.student = cloner("one jump").actor.student.requires_grad_(False)
    worse = agent.actor.losses(torch.zeros(64, 7), chunks, agent.generator)
    assert float(worse.min()) > 1e-3


def test_the_student_never_moves_its_teacher() -> None:
    """The teacher's gradient is that of its own flow loss."""
    agent = cloner("three jumps")
    observations, chunks = torch.randn(6, 7), torch.rand(6, 12) * 2 - 1
    agent.generator.manual_seed(2)
    agent.actor.losses(observations, chunks, agent.generator).mean().backward()
    found = [p.grad.clone() for p in agent.actor.teacher.parameters()]
    agent.generator.manual_seed(2)
    agent.actor.teacher.zero_grad()
    agent.actor.teacher.losses(observations, chunks, agent.generator).mean().backward()
    for gradient, parameter in zip(found, agent.actor.teacher.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


# -- in the agents ---------------------------------------------------------------------------


def test_who_works_on_the_flows_map_refuses_other_models_and_says_what_to_do() -> None:
    for algorithm, cls in ALGORITHMS.items():
        agent = AGENTS[algorithm]
        if not issubclass(cls, GenerativeConfig):
            assert not issubclass(agent, WithGenerative)
            continue
        assert cls.NEEDS_FLOW == issubclass(agent, WithFlow)
        for policy in ("diffusion", "consistency"):
            values = {"algorithm": algorithm, "policy": policy}
            if not cls.NEEDS_FLOW:
                assert from_dict(AgentConfig, values, "x.yaml").policy == policy  # type: ignore
                continue
            with pytest.raises(ConfigError, match=rf"x\.yaml: policy: {algorithm} .* set policy"):
                from_dict(AgentConfig, values, "x.yaml")


@pytest.mark.parametrize("source, target, told", [
    ("flow", "ddim", r"flow \(expected diffusion of 20 diffusion_steps\)"),
    ("ddim", "flow", r"diffusion of 20 diffusion_steps \(expected flow\)"),
    ("flow", "one jump", r"flow \(expected consistency\)")])
def test_weights_of_another_model_are_refused(source: str, target: str, told: str) -> None:
    with pytest.raises(CheckpointError, match=rf"x\.safetensors.*{told}"):
        cloner(target).load_policy(cloner(source).policy(1), "x.safetensors")


def test_weights_of_another_schedule_are_refused_and_another_sampler_is_not() -> None:
    policy = cloner("ddim").policy(1)
    cloner("ddpm").load_policy(policy, "x.safetensors")
    with pytest.raises(CheckpointError, match=r"of 20 diffusion_steps .expected diffusion of 30"):
        cloner("ddim", diffusion_steps=30).load_policy(policy, "x.safetensors")


@every_model
@pytest.mark.parametrize("algorithm", ["poco", "qc"])
def test_a_run_with_it_resumes_to_the_bit(model: str, algorithm: str, tmp_path: object) -> None:
    values = {"algorithm": algorithm, "hidden_dim": 16, "num_layers": 2, "batch_size": 8,
              "num_candidates": 4, **MODELS[model]}
    train = TrainConfig(
        offline_steps=3, critic_warmup=4, utd=0.4, online_steps=30, replay_capacity=200)
    episodes = [random_episode(n, 9, terminated=n % 2 == 0) for n in range(4)]

    def fresh() -> Trainer:
        return Trainer(from_dict(AgentConfig, values, "test"), train, signature(3, 2, "task"), 4,
                       episodes[:2])

    def run(trainer: Trainer, updates: int) -> None:
        for episode in episodes[trainer.episodes_added:]:
            trainer.add_episode(episode)
        while trainer.work_due() and trainer.updates < updates:
            trainer.work()

    whole, part, again = fresh(), fresh(), fresh()
    run(whole, 1000)
    run(part, 9)
    part.save(str(tmp_path))
    again.resume(str(tmp_path), episodes)
    run(again, 1000)
    left, right = whole.agent.state(), again.agent.state()
    assert whole.updates > 12 and left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_policy_learns_from_weighted_candidates_of_any_model() -> None:
    """Every model has a gradient from the posterior loss alone."""
    for model in MODELS:
        values = {"algorithm": "poco", "hidden_dim": 16, "num_layers": 2, "zeta": 0.0,
                  **MODELS[model]}
        agent = agent_for(from_dict(AgentConfig, values, "test"), 3, 2)
        replay = Replay(3, 2, 100, [random_episode(1, 20, terminated=True)])
        drawn = replay.sample(np.random.default_rng(0), 8, 5, 0.99)
        batch = Batch.of(drawn, agent.normalizer)
        loss, _ = agent.posterior_loss(batch.observations)
        gradient = torch.autograd.grad(loss, list(agent.actor.parameters()))
        assert all(float(g.abs().sum()) > 0.0 for g in gradient)
