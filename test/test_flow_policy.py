"""The flow policy: it samples what it was trained on, and acts alike in numpy and in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learning_support import agent_for, check_two_modes, set_normalizer, two_modes

from poco_ros.core.errors import CheckpointError, DataError
from poco_ros.core.seeding import chunk_noise
from poco_ros.learning.agents import Phase
from poco_ros.learning.config import BCConfig
from poco_ros.learning.policies import make_policy, policy_from_bytes


def test_sampler_recovers_a_two_mode_distribution() -> None:
    """70% around +0.6, 30% around -0.5, deviation 0.05: shares, means and widths come back."""
    config = BCConfig(chunk_horizon=1, hidden_dim=64, num_layers=3,
                         flow_steps=20, lr=1e-3)
    agent = agent_for(config)
    generator = np.random.default_rng(0)
    for _ in range(2500):
        agent.update(two_modes(generator), Phase.CLONE)
    check_two_modes(agent, 0.03)


@pytest.mark.parametrize("activation", ["silu", "gelu", "relu"])
@pytest.mark.parametrize("horizon, action_dim, width", [(5, 5, 128), (1, 3, 32), (4, 7, 64)])
def test_acting_policy_equals_the_torch_sampler(activation: str, horizon: int, action_dim: int,
                                                width: int) -> None:
    config = BCConfig(chunk_horizon=horizon, hidden_dim=width, activation=activation)
    agent = agent_for(config, observation=11, action_dim=action_dim, seed=3)
    generator = np.random.default_rng(5)
    set_normalizer(agent, generator.standard_normal(11), generator.uniform(0.5, 2.0, 11))
    policy = agent.policy(version=4)
    for seed in range(5):
        observation = generator.standard_normal(11).astype(np.float32)
        scaled = agent.normalizer(torch.from_numpy(observation))
        noise = chunk_noise(seed, horizon, action_dim)
        expected = agent.actor.carry(scaled[None], torch.from_numpy(noise).reshape(1, 1, -1))
        np.testing.assert_allclose(policy.act(observation, seed).reshape(-1),
                                   expected.numpy().reshape(-1), atol=2e-6)


def test_blocked_sampler_equals_the_plain_forward_pass() -> None:
    """Cache blocks and the split first layer change no number beyond rounding."""
    config = BCConfig(hidden_dim=512, num_layers=2)
    agent = agent_for(config, observation=40, action_dim=5)
    observations, noise = torch.randn(70, 40), torch.randn(70, 32, 25)
    sampled = agent.actor.carry(observations, noise, 10)
    with torch.no_grad():
        rows = observations.repeat_interleave(32, dim=0)
        chunks = noise.reshape(-1, 25).clone()
        for index in range(10):
            times = torch.full((len(chunks), 1), index / 10)
            chunks = chunks + agent.actor(rows, chunks, times) / 10
    torch.testing.assert_close(sampled.reshape(-1, 25), chunks.clamp(-1, 1), atol=1e-5, rtol=1e-5)


def test_same_seed_same_chunk_and_other_seed_another() -> None:
    policy = agent_for(BCConfig(hidden_dim=32), 3, 2).policy(1)
    observation = np.zeros(3, np.float32)
    assert np.array_equal(policy.act(observation, 7), policy.act(observation, 7))
    assert not np.array_equal(policy.act(observation, 7), policy.act(observation, 8))
    assert np.abs(policy.act(observation, 7)).max() <= 1.0


def test_policy_bytes_round_trip_and_carry_their_specification() -> None:
    policy = agent_for(BCConfig(hidden_dim=32), 3, 2).policy(17)
    again = policy_from_bytes(policy.to_bytes(), "message")
    assert again.version == 17 and again.spec == policy.spec
    observation = np.ones(3, np.float32)
    assert np.array_equal(again.act(observation, 1), policy.act(observation, 1))


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_truncated_policy_is_refused_by_name(cut: int) -> None:
    content = agent_for(BCConfig(hidden_dim=32), 3, 2).policy(1).to_bytes()
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        policy_from_bytes(content[:cut], "weights.safetensors")


def test_policy_with_a_nan_or_another_shape_is_refused() -> None:
    policy = agent_for(BCConfig(hidden_dim=32), 3, 2).policy(1)
    broken = {**policy.tensors, "actor.layers.1.bias": np.full(32, np.nan, np.float32)}
    with pytest.raises(CheckpointError, match=r"layers\.1\.bias.*not finite"):
        make_policy(policy.spec, broken)
    other = agent_for(BCConfig(hidden_dim=64), 3, 2).policy_spec()
    with pytest.raises(CheckpointError, match=r"layers\.0\.weight.*shape"):
        make_policy(other, policy.tensors)
    missing = {name: t for name, t in policy.tensors.items() if name != "actor.layers.0.bias"}
    with pytest.raises(CheckpointError, match=r"layers\.0\.bias.*missing"):
        make_policy(policy.spec, missing)


def test_observation_of_wrong_size_or_nan_is_refused() -> None:
    policy = agent_for(BCConfig(hidden_dim=32), 3, 2).policy(1)
    with pytest.raises(DataError, match=r"\(4,\).*expected \(3,\)"):
        policy.act(np.zeros(4, np.float32), 0)
    with pytest.raises(DataError, match="'state': value 1 is nan"):
        policy.act(np.array([0, np.nan, 0], np.float32), 0)
