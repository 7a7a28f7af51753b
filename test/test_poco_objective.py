"""The E-step, the clipped M-step and the TD target against their closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learning_support import agent_for, random_episode

from poco_ros.learning.agents import Batch, Poco
from poco_ros.learning.agents.poco import clip_loss, posterior_weights
from poco_ros.learning.config import PocoConfig
from poco_ros.learning.flow import FlowNoise, flow_losses
from poco_ros.learning.replay import Replay


def poco(observation: int = 3, action_dim: int = 2, **settings: object) -> Poco:
    config = PocoConfig(**{"hidden_dim": 32, "num_layers": 2, "num_candidates": 8,  # type: ignore
                            "batch_size": 16, **settings})
    agent = agent_for(config, observation, action_dim)
    assert isinstance(agent, Poco)
    return agent


def test_posterior_weights_equal_the_closed_form() -> None:
    q = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    eta = 0.7
    expected = np.exp(q.numpy() / eta)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(posterior_weights(q, eta).numpy(), expected, rtol=1e-12)


def test_posterior_weights_ignore_a_constant_and_follow_the_temperature() -> None:
    q = torch.randn(5, 9, dtype=torch.float64)
    torch.testing.assert_close(posterior_weights(q + 3.0, 0.1), posterior_weights(q, 0.1))
    assert posterior_weights(q, 1e-6).max(dim=1).values.min() == 1.0  # greedy
    torch.testing.assert_close(posterior_weights(q, 1e9), torch.full_like(q, 1 / 9))
    # Q of a -1/0 reward is 100 Q of a 0/1 reward minus 100: eta scales along.
    torch.testing.assert_close(posterior_weights(100 * q - 100, 0.1), posterior_weights(q, 0.001))


def test_clipped_gradient_is_zero_beyond_zeta_and_the_plain_one_below() -> None:
    losses = torch.tensor([0.05, 0.14, 0.16, 3.0], requires_grad=True)
    clip_loss(losses, 0.15).sum().backward()
    assert torch.equal(losses.grad, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    losses.grad = None
    clip_loss(losses, 0.0).sum().backward()  # zeta 0: no clip
    assert torch.equal(losses.grad, torch.ones(4))


def test_posterior_loss_and_gradient_equal_a_loop_over_candidates() -> None:
    """The vectorised objective against the sum written out, one candidate after another."""
    agent = poco(eta=0.05, zeta=1.2)
    observations = torch.randn(6, 3)
    state = agent.generator.get_state()
    loss, metrics = agent.posterior_loss(observations)
    gradient = torch.autograd.grad(loss, list(agent.actor.parameters()))

    agent.generator.set_state(state)
    candidates, weights, _ = agent.weighted_candidates(observations)
    noise = FlowNoise.draw(candidates.reshape(-1, candidates.shape[2]), agent.generator)
    total, clipped = torch.zeros(()), 0.0
    for s in range(6):
        for i in range(8):
            row = s * 8 + i
            single = FlowNoise(noise.a_0[row:row + 1], noise.times[row:row + 1])
            value = flow_losses(agent.actor, observations[s:s + 1], candidates[s, i:i + 1], single)
            total = total + weights[s, i] * torch.minimum(value[0], torch.tensor(1.2)) / 6
            clipped += float(weights[s, i] * (value[0] > 1.2)) / 6
    torch.testing.assert_close(loss, total, rtol=1e-5, atol=1e-6)
    assert metrics["poco/clip_fraction"].item() == pytest.approx(clipped, abs=1e-5)
    assert 0.0 < clipped < 1.0, "the example must have candidates on both sides of zeta"
    for found, expected in zip(gradient,
                               torch.autograd.grad(total, list(agent.actor.parameters())),
                               strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_critic_that_makes_the_weights_is_chosen() -> None:
    """Online by the paper, the target in its released code."""
    agents = [poco(eta=0.05, weight_critic=name) for name in ("online", "target")]
    for agent in agents:
        with torch.no_grad():
            agent.critic.biases[-1].add_(3.0)  # a constant changes no weight, and shows in Q
    observations = torch.randn(5, 3)
    found = [agent.weighted_candidates(observations) for agent in agents]
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][2], found[1][2] + 3.0)
    assert torch.equal(found[1][1], posterior_weights(found[1][2], 0.05))


def test_no_gradient_flows_when_every_candidate_is_beyond_zeta() -> None:
    agent = poco(zeta=1e-9)
    loss, metrics = agent.posterior_loss(torch.randn(6, 3))
    assert metrics["poco/clip_fraction"].item() == pytest.approx(1.0)
    gradient = torch.autograd.grad(loss, list(agent.actor.parameters()))
    assert all(torch.count_nonzero(g) == 0 for g in gradient)


def test_one_drawn_candidate_has_the_gradient_of_the_sum_on_average() -> None:
    """posterior=draw is an unbiased estimate: the mean of many draws comes to the sum."""
    full, draw = poco(eta=0.02), poco(eta=0.02, posterior="draw")
    draw.actor.load_state_dict(full.actor.state_dict())
    draw.critic.load_state_dict(full.critic.state_dict())
    observations = torch.randn(400, 3)

    def mean_loss(agent: Poco) -> float:
        with torch.no_grad():
            return float(np.mean([agent.posterior_loss(observations)[0] for _ in range(40)]))

    assert mean_loss(draw) == pytest.approx(mean_loss(full), rel=0.01)


def test_candidates_below_the_weight_floor_are_left_out() -> None:
    agent = poco(eta=1e-6, weight_floor=0.5)
    plain = poco(eta=1e-6)
    observations = torch.randn(5, 3)
    # A greedy posterior has one candidate of weight 1: leaving the rest out changes nothing.
    torch.testing.assert_close(agent.posterior_loss(observations)[0],
                               plain.posterior_loss(observations)[0])


def test_candidate_q_in_blocks_equals_the_critic_forward() -> None:
    agent = poco(observation=40, action_dim=5, hidden_dim=256, num_critics=3)
    observations, candidates = torch.randn(60, 40), torch.randn(60, 32, 25)
    with torch.no_grad():
        rows = observations.repeat_interleave(32, dim=0)
        expected = agent.critic(rows, candidates.reshape(-1, 25)).mean(dim=0).view(60, 32)
    found = agent.critic.mean_of_candidates(observations, candidates)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_td_target_against_a_hand_worked_episode() -> None:
    """Rewards 0, 0, 1 at a terminal end, gamma 0.5, T = 2, target Q replaced by a constant 8.

    start 0: chunk of 2, rewards 0 + 0.5 * 0, bootstrap 0.25 * 8         -> 2.0
    start 1: chunk of 2 that ends in success: 0 + 0.5 * 1, no bootstrap  -> 0.5
    start 2: one real action, then the end: reward 1, no bootstrap       -> 1.0
    """
    agent = poco(gamma=0.5, chunk_horizon=2)
    with torch.no_grad():
        agent.target_critic.weights[-1].zero_()
        agent.target_critic.biases[-1].fill_(8.0)
    episode = random_episode(1, 3, terminated=True)
    object.__setattr__(episode, "rewards", np.array([0, 0, 1], np.float32))
    replay = Replay(3, 2, 10, [episode])
    batch = Batch.of(replay.chunks(np.arange(3), 2, 0.5), agent.normalizer)
    np.testing.assert_allclose(agent.td_targets(batch).numpy(), [2.0, 0.5, 1.0], atol=1e-6)
    assert batch.critic_valid.tolist() == [1.0, 1.0, 1.0]


def test_td_target_bootstraps_through_a_time_limit() -> None:
    """The same episode cut by time: start 1 is followed by a value, start 2 is no whole chunk."""
    agent = poco(gamma=0.5, chunk_horizon=2)
    with torch.no_grad():
        agent.target_critic.weights[-1].zero_()
        agent.target_critic.biases[-1].fill_(8.0)
    episode = random_episode(1, 3, terminated=False)
    object.__setattr__(episode, "rewards", np.array([0, 0, 1], np.float32))
    replay = Replay(3, 2, 10, [episode])
    batch = Batch.of(replay.chunks(np.arange(3), 2, 0.5), agent.normalizer)
    np.testing.assert_allclose(agent.td_targets(batch).numpy()[:2], [2.0, 0.5 + 2.0], atol=1e-6)
    assert batch.critic_valid.tolist() == [1.0, 1.0, 0.0]


def test_a_frozen_actor_does_not_move_in_the_warmup() -> None:
    from poco_ros.learning.agents import Phase

    agent = poco()
    replay = Replay(3, 2, 100, [random_episode(n, 20, terminated=n % 2 == 0) for n in range(4)])
    generator = np.random.default_rng(0)
    before = {k: v.clone() for k, v in agent.actor.state_dict().items()}
    critic_before = agent.critic.weights[0].detach().clone()
    for _ in range(3):
        batch = Batch.of(replay.sample(generator, 16, 5, 0.99), agent.normalizer)
        agent.update(batch, Phase.CRITIC)
    assert all(torch.equal(v, before[k]) for k, v in agent.actor.state_dict().items())
    assert not torch.equal(agent.critic.weights[0], critic_before)
