"""DPPO and ReinFlow: their parts against closed forms, and a task that they must learn."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from learning_support import Reach, reached, set_normalizer, signature
from on_policy_support import batch_of, both, make, settings_for, work
from torch.distributions import Normal

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import ConfigError
from poco_ros.core.rollout import run_episode
from poco_ros.core.seeding import chunk_generator, evaluation_seed
from poco_ros.learning.agents import Agent, Phase
from poco_ros.learning.config import TrainConfig
from poco_ros.learning.policies import EVALUATE, EXPLORE
from poco_ros.learning.trainer import Trainer


@both
def test_log_probs_of_the_steps_equal_torch_distributions(algorithm: str) -> None:
    agent, rows = make(algorithm, action_dim=2), 6
    batch = batch_of(agent)
    found, log_std = agent.log_probs(batch.observations, batch.chains)
    for row in range(rows):
        for k in range(3):
            seen, before = batch.observations[row:row + 1], batch.chains[row:row + 1, k]
            times = torch.full((1, 1), k / 3)  # the flow time at which it acts
            mean = before + agent.actor(seen, before, times) / 3
            std = agent.log_std(seen, times).exp().expand_as(mean)
            kernel = Normal(mean, std)
            expected = kernel.log_prob(batch.chains[row:row + 1, k + 1]).clamp(-5, 2).mean()
            torch.testing.assert_close(found[row, k], expected)
            torch.testing.assert_close(log_std[row, k], std[0].log())


@both
def test_an_entry_far_from_the_mean_is_clamped_and_has_no_gradient(algorithm: str) -> None:
    agent = make(algorithm)
    batch = batch_of(agent)
    far = batch.chains.clone()
    far[:, 1:] += 50.0 * torch.arange(1, 4)[:, None]
    found, _ = agent.log_probs(batch.observations, far)
    assert torch.equal(found, torch.full_like(found, -5.0))
    gradient = torch.autograd.grad(found.sum(), list(agent.actor.parameters()))
    assert all(torch.count_nonzero(g) == 0 for g in gradient)


@both
def test_acting_goes_the_way_whose_likelihood_is_taken(algorithm: str) -> None:
    """numpy's chain is torch's kernel, step by step, with the noise of the chunk's seed."""
    agent = make(algorithm, action_dim=2)
    numbers = np.random.default_rng(5)
    set_normalizer(agent, numbers.standard_normal(2), numbers.uniform(0.5, 2.0, 2))
    policy, observation = agent.policy(1, EXPLORE), np.array([0.3, -1.0], np.float32)
    noise = chunk_generator(11).standard_normal((4, 8), dtype=np.float32)
    noise[1:] = noise[1:].clip(-3.0, 3.0)
    seen = agent.normalizer(torch.from_numpy(observation))[None]
    chunk = torch.from_numpy(noise[:1])
    with torch.no_grad():
        for k in range(3):
            times = torch.full((1, 1), k / 3)
            std = agent.log_std(seen, times).exp()
            chunk = chunk + agent.actor(seen, chunk, times) / 3 + std * noise[k + 1]
    np.testing.assert_allclose(policy.act(observation, 11).reshape(-1),
                               chunk[0].clamp(-1, 1).numpy(), atol=2e-6)


@both
def test_it_is_judged_without_the_noise(algorithm: str) -> None:
    agent, observation = make(algorithm), np.array([0.3, -1.0], np.float32)
    noise = chunk_generator(11).standard_normal(4, dtype=np.float32)
    expected = agent.actor.carry(torch.from_numpy(observation)[None],
                                 torch.from_numpy(noise)[None, None])
    judged = agent.policy(1, EVALUATE).act(observation, 11)
    np.testing.assert_allclose(judged.reshape(-1), expected[0, 0].numpy(), atol=2e-6)
    assert not np.allclose(judged, agent.policy(1, EXPLORE).act(observation, 11), atol=1e-3)


def test_the_learned_noise_stays_within_its_bounds_and_fills_them() -> None:
    agent = make("reinflow", noise_min=0.08, noise_max=0.14)
    observations, times = 1e3 * torch.randn(500, 2), torch.rand(500, 1)
    std = agent.log_std(observations, times).exp().detach()
    assert 0.08 - 1e-6 <= float(std.min()) < 0.09 and 0.13 < float(std.max()) <= 0.14 + 1e-6
    with pytest.raises(ConfigError, match=r"noise_min 0\.2 is larger than noise_max 0\.1"):
        settings_for("reinflow", noise_min=0.2, noise_max=0.1)


# -- the update ------------------------------------------------------------------------------


def test_dppo_clips_grow_along_the_chain() -> None:
    agent = make("dppo", flow_steps=5, clip=0.01, clip_base=0.001, clip_rate=3.0)
    expected = [0.001 + 0.009 * (math.exp(3 * k / 4) - 1) / (math.exp(3) - 1) for k in range(5)]
    np.testing.assert_allclose(agent.clips.numpy(), expected, rtol=1e-6)
    assert expected[0] == 0.001 and expected[-1] == pytest.approx(0.01)
    np.testing.assert_allclose(agent.discounts.numpy(), 0.99 ** np.array([4, 3, 2, 1, 0]),
                               rtol=1e-6)
    assert make("dppo", flow_steps=1).clips.tolist() == [pytest.approx(0.01)]


@both
def test_the_ratio_is_one_in_the_first_minibatch(algorithm: str) -> None:
    agent = make(algorithm)
    policy = agent.policy(1, EXPLORE)
    found = agent.study([reached(policy, 0, n) for n in range(3)])
    metrics = agent.update(agent.tensors(found.rows(np.arange(5))), Phase.FULL)
    assert float(metrics["ppo/ratio"]) == pytest.approx(1.0, abs=1e-5)
    assert abs(float(metrics["ppo/kl"])) < 1e-8 and float(metrics["ppo/clip_fraction"]) == 0.0
    again = agent.update(agent.tensors(found.rows(np.arange(5))), Phase.FULL)
    assert float(again["ppo/kl"]) > 0.0


@both
def test_the_policy_loss_equals_a_loop_over_chunks_and_steps(algorithm: str) -> None:
    clip = {"dppo": 0.02, "reinflow": 0.004}[algorithm]
    agent = make(algorithm, action_dim=2, clip=clip)
    batch = batch_of(agent)
    with torch.no_grad():  # the policy has moved: some ratios are beyond the clip
        for p in agent.actor.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
        new, _ = agent.log_probs(batch.observations, batch.chains)
    gained = (batch.advantages - batch.advantages.mean()) / (
        batch.advantages.std(correction=0) + 1e-8)
    terms, beyond = [], []
    for row in range(6):
        if algorithm == "dppo":
            ratios = [math.exp(float(new[row, k] - batch.log_probs[row, k])) for k in range(3)]
            clips, discounts = agent.clips.tolist(), agent.discounts.tolist()
        else:
            ratios = [math.exp(float((new[row] - batch.log_probs[row]).mean()))]
            clips, discounts = [clip], [1.0]
        for ratio, far, discount in zip(ratios, clips, discounts, strict=True):
            advantage = float(gained[row]) * discount
            bounded = min(max(ratio, 1 - far), 1 + far)
            terms.append(-min(ratio * advantage, bounded * advantage))
            beyond.append(abs(ratio - 1) > far)
    metrics = agent.update_policy(batch)
    assert float(metrics["ppo/policy_loss"]) == pytest.approx(np.mean(terms), abs=1e-5)
    assert float(metrics["ppo/clip_fraction"]) == pytest.approx(np.mean(beyond), abs=1e-6)
    assert 0.0 < np.mean(beyond) < 1.0, "the example must have ratios on both sides"


def test_reinflows_bonus_is_the_weighted_entropy_of_its_steps() -> None:
    agent = make("reinflow", entropy_weight=0.3)
    batch = batch_of(agent)
    _, log_std = agent.log_probs(batch.observations, batch.chains)
    loss, metrics = agent.extra_loss(log_std)
    entropy = Normal(torch.zeros(6, 3, 4), log_std.exp()).entropy().mean()
    torch.testing.assert_close(loss, -0.3 * entropy)
    torch.testing.assert_close(metrics["reinflow/entropy"], entropy.detach())
    before = agent.noise.layers[0].weight.detach().clone()
    agent.update_policy(batch)
    assert not torch.equal(before, agent.noise.layers[0].weight), "the noise learns"


@both
def test_the_value_goes_to_the_returns_and_the_warm_up_moves_nothing_else(algorithm: str) -> None:
    agent = make(algorithm, value_lr=1e-2)
    batch = batch_of(agent)
    before = agent.state()
    losses = [float(agent.update(batch, Phase.CRITIC)["value/loss"]) for _ in range(200)]
    with torch.no_grad():
        first = 0.5 * (make(algorithm).value(batch.observations) - batch.returns).square().mean()
    assert losses[0] == pytest.approx(float(first), rel=1e-5) and losses[-1] < 0.05 * losses[0]
    after = agent.state()
    moved = {name.split(".")[0] for name, tensor in after.items()
             if name not in before or not torch.equal(before[name], tensor)}
    assert moved == {"value", "optimizer"}


def test_a_value_far_behind_all_data_stays_bounded() -> None:
    """A plain MLP rises on and on: bootstrapped at time limits it would run away."""
    agent = make("dppo", observation=1, hidden_dim=32, value_lr=1e-2)
    observations = torch.linspace(-1, 1, 64)[:, None]
    batch = dataclasses.replace(batch_of(make("dppo", observation=1), 64),
                                observations=observations, returns=observations[:, 0])
    for _ in range(300):
        agent.update_value(batch)
    with torch.no_grad():
        far = agent.value(torch.tensor([[1.0], [10.0], [1e3], [1e6]]))
    assert float(far[0]) == pytest.approx(1.0, abs=0.1) and float(far.abs().max()) < 5.0


# -- learning --------------------------------------------------------------------------------


def demonstration(number: int) -> Episode:
    """Run to the goal with an even number, away from it with an odd one."""
    generator, world = np.random.default_rng(number), Reach()
    observations, actions, rewards = [world.reset(number)], [], []
    side = 1.0 if number % 2 == 0 else -1.0
    while True:
        wanted = 0.8 * side * np.sign(observations[-1][1]) + 0.15 * generator.standard_normal(1)
        step = world.step(wanted.clip(-1.0, 1.0))
        actions.append(wanted.clip(-1.0, 1.0))
        rewards.append(step.reward)
        observations.append(step.observation)
        if step.terminated or step.truncated:
            return Episode(f"demonstration-{number}", np.stack(observations), np.stack(actions),
                           np.array(rewards), step.terminated, step.truncated,
                           Outcome.SUCCESS if step.success else Outcome.FAILURE)


def success_rate(agent: Agent) -> float:
    policy = agent.policy(1, EVALUATE)
    return float(np.mean([run_episode(Reach(), policy, evaluation_seed(0, n), f"e-{n}").success
                          for n in range(100)]))


@pytest.mark.parametrize("algorithm, settings", [
    ("dppo", {"clip": 0.2, "clip_base": 0.02}), ("reinflow", {"clip": 0.05, "target_kl": 0.05})])
def test_it_learns_to_run_to_the_goal_and_not_away(algorithm: str,
                                                   settings: dict[str, Any]) -> None:
    """Cloned from demonstrations of which half run the wrong way; 40 rounds of 20 episodes."""
    config = settings_for(algorithm, chunk_horizon=4, hidden_dim=48, num_layers=2, lr=1e-3,
                          batch_size=128, flow_steps=5, minibatch_size=40, actor_lr=1e-3,
                          **settings)
    train = TrainConfig(offline_steps=600, offline_objective="bc", sync_lag=0)
    trainer = Trainer(config, train, signature(2, 1, "reach"), 0,
                      [demonstration(n) for n in range(40)])
    work(trainer)
    cloned = success_rate(trainer.agent)
    assert 0.2 < cloned < 0.6
    for number in range(800):
        policy = trainer.acting_policy(number)
        assert policy is not None
        trainer.add_episode(reached(policy, 0, number))
        done = work(trainer)
        assert all(one["ppo/left_out"] == 0.0 for one in done)
    learned = success_rate(trainer.agent)
    assert learned > cloned + 0.4, f"{cloned:.2f} -> {learned:.2f}"
