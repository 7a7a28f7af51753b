"""What POCO does to a policy: it climbs, it keeps modes, and it does not chase false spikes.

It asks a policy only for samples and a loss a sample, so all of it holds for every model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from learning_support import agent_for, bandit_batch, samples
from torch import Tensor

from poco_ros.learning.agents import Phase, Poco
from poco_ros.learning.config import PocoConfig

MODES = (-0.6, 0.0, 0.6)

ZETA = {"flow": 0.05, "diffusion": 0.01, "consistency": 0.05}
"""A tight clip. The loss of a diffusion model is small for any action where the noise is large,
so its scale, and the clip with it, is smaller."""
every_model = pytest.mark.parametrize("policy", [
    pytest.param(name, marks=pytest.mark.xdist_group(f"bandit of {name}")) for name in ZETA])
"""One process for each model: it is cloned once."""


BANDIT = {policy: PocoConfig(
    chunk_horizon=1, hidden_dim=64, num_layers=3, lr=1e-3, num_candidates=16, eta=0.1,
    posterior_batch=64, policy=policy, diffusion_sampler="ddpm") for policy in ZETA}


class KnownCritic(torch.nn.Module):
    """A critic that is a given function of the chunk, so that only the actor's part is tried."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def mean_of_candidates(self, observations: Tensor, candidates: Tensor) -> Tensor:
        return self.function(candidates[..., 0])


def actions(generator: np.random.Generator, count: int) -> np.ndarray:
    """Demonstrations: three modes of equal share, deviation 0.04."""
    return (generator.choice(MODES, count) + 0.04 * generator.standard_normal(count))[:, None]


@functools.cache
def cloned_once(policy: str) -> dict[str, Tensor]:
    """Return the state of a cloned agent; DDPM, for DDIM in few steps blurs so small a model."""
    agent, generator = agent_for(BANDIT[policy]), np.random.default_rng(0)
    for _ in range(1500):
        agent.update(bandit_batch(actions(generator, 128), np.zeros(128)), Phase.CLONE)
    return agent.state()


def cloned(policy: str = "flow", **settings: object) -> tuple[Poco, np.random.Generator]:
    """Return a cloned agent with settings of its own for what follows."""
    agent = agent_for(replace(BANDIT[policy], **settings))  # type: ignore[arg-type]
    assert isinstance(agent, Poco)
    agent.load_state(cloned_once(policy), "cloned")
    return agent, np.random.default_rng(1)


def fine_tune(agent: Poco, generator: np.random.Generator, critic: Callable[[Tensor], Tensor],
              updates: int) -> None:
    agent.critic = KnownCritic(critic)  # type: ignore[assignment]
    for _ in range(updates):
        agent.update_actor(bandit_batch(actions(generator, 128), np.zeros(128)))


def shares(drawn: np.ndarray) -> np.ndarray:
    """Return the share of samples nearest to each mode and within 0.2 of it."""
    distance = np.abs(drawn[:, :1] - np.array(MODES))
    near = distance.argmin(axis=1)
    return np.array([np.mean((near == m) & (distance[:, m] < 0.2)) for m in range(len(MODES))])


@every_model
def test_reward_rises_and_no_good_mode_is_lost(policy: str) -> None:
    """Two of three modes pay: the third shrinks, the two good ones both stay."""
    agent, generator = cloned(policy=policy, zeta=1.0, beta=2.0)

    def reward(a: Tensor) -> Tensor:
        return (a.abs() > 0.3).float()

    before = samples(agent, 4000)
    fine_tune(agent, generator, reward, 300)
    after = samples(agent, 4000)
    gain = np.mean(np.abs(after) > 0.3) - np.mean(np.abs(before) > 0.3)
    assert gain > 0.1, f"the share of rewarded actions rose only by {gain:.2f}"
    low, bad, high = shares(after)
    assert low > 0.25 and high > 0.25, f"a good mode was lost: {low:.2f}, {high:.2f}"
    assert bad < shares(before)[1] - 0.1


def test_whole_loop_learns_the_rewarded_mode_from_its_own_samples() -> None:
    """Critic learned from rewards, policy from the critic, data from the policy."""
    agent, generator = cloned(zeta=1.0, beta=2.0, eta=0.05)
    data, rewards = actions(generator, 1000), np.zeros(1000)
    rewards = (np.abs(data[:, 0] - 0.6) < 0.2).astype(np.float64)
    before = np.mean(np.abs(samples(agent, 2000)[:, 0] - 0.6) < 0.2)
    for round_number in range(9):
        drawn = samples(agent, 200, seed=round_number)
        data = np.concatenate((data, drawn))
        rewards = np.concatenate((rewards, np.abs(drawn[:, 0] - 0.6) < 0.2))
        for _ in range(50):
            rows = generator.integers(0, len(data), 128)
            phase = Phase.CRITIC if round_number < 3 else Phase.FULL
            agent.update(bandit_batch(data[rows], rewards[rows]), phase)
    after = np.mean(np.abs(samples(agent, 2000)[:, 0] - 0.6) < 0.2)
    assert after > before + 0.25, f"{before:.2f} -> {after:.2f}"


@every_model
def test_a_false_spike_far_from_the_data_moves_the_clipped_policy_little(policy: str) -> None:
    """A critic that is wrong beyond 0.8, where no data lie, and silent everywhere else.

    The unclipped policy, shown beside it, runs there; the clipped one stays with the data.
    """

    def spike(a: Tensor) -> Tensor:
        return torch.relu(a - 0.75) * 20.0

    outside = {}
    for name, zeta in (("clipped", ZETA[policy]), ("unclipped", 0.0)):
        agent, generator = cloned(policy=policy, zeta=zeta, beta=10.0, eta=0.01)
        seen = []
        for _ in range(6):  # a policy moves about while it learns: what it mostly is counts
            fine_tune(agent, generator, spike, 40)
            seen.append(np.mean(samples(agent, 4000)[:, 0] > 0.8))
        outside[name] = np.median(seen)
    assert outside["clipped"] < 0.02, outside
    assert outside["unclipped"] > 0.25, outside
