"""Each off-policy algorithm against closed forms, and on a bandit that it must learn."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from learning_support import agent_for, random_episode
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from poco_ros.core.config import from_dict
from poco_ros.learning.agents import Agent, Batch, Phase
from poco_ros.learning.agents.bc import BehaviourCloning
from poco_ros.learning.agents.dsrl import DSRL
from poco_ros.learning.agents.fql import FlowQLearning
from poco_ros.learning.agents.parts import WithCritic
from poco_ros.learning.agents.qc import QChunking
from poco_ros.learning.agents.rlpd import RLPD
from poco_ros.learning.config import AgentConfig, TrainConfig
from poco_ros.learning.experience import ReplayExperience
from poco_ros.learning.networks import TanhGaussian
from poco_ros.learning.policies import EVALUATE, EXPLORE
from poco_ros.learning.replay import ChunkBatch

A = TypeVar("A", bound=Agent)


def make(cls: type[A], algorithm: str, observation: int = 3, action_dim: int = 2,
         **settings: Any) -> A:
    values = {"algorithm": algorithm, "hidden_dim": 24, "num_layers": 2, "chunk_horizon": 2,
              "batch_size": 6, **settings}
    agent = agent_for(from_dict(AgentConfig, values, "test"), observation, action_dim)
    assert isinstance(agent, cls)
    return agent


def random_batch(count: int = 6, observation: int = 3, chunk: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(8)
    return Batch(torch.randn(count, observation, generator=generator),
                 torch.rand(count, chunk, generator=generator) * 2 - 1, torch.ones(count, chunk),
                 torch.rand(count, generator=generator),
                 torch.randn(count, observation, generator=generator),
                 torch.tensor([0.98, 0.0, 0.98, 0.98, 0.0, 0.98])[:count], torch.ones(count))


def set_apart(agent: WithCritic) -> None:
    """Move the online critics away from their targets."""
    with torch.no_grad():
        for p in agent.critic.parameters():
            p.add_(0.3 * torch.randn_like(p))


def targets_of(agent: WithCritic, batch: Batch) -> torch.Tensor:
    """Return the TD targets; what they draw will be drawn again."""
    state = agent.generator.get_state()
    targets = agent.td_targets(batch)
    agent.generator.set_state(state)
    return targets


# -- the critic of all of them ---------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["poco", "qc", "qc_fql", "rlpd_ac", "dsrl"])
def test_a_step_of_the_critic_is_on_its_rows_and_the_target_follows_by_tau(algorithm: str) -> None:
    """Loss and gradient equal a sum over members and the rows that count, written out."""
    small = {"noise_hidden_dim": 24, "noise_layers": 2} if algorithm == "dsrl" else {}
    agent = make(WithCritic, algorithm, num_critics=3, tau=0.25, lr=0.01, **small)
    batch = dataclasses.replace(random_batch(), critic_valid=torch.tensor([1.0, 1, 0, 1, 0, 1]))
    set_apart(agent)
    targets = targets_of(agent, batch)
    online = list(agent.critic.parameters())
    total = torch.zeros(())
    for row in (0, 1, 3, 5):
        q = agent.critic(batch.observations[row:row + 1], batch.chunks[row:row + 1])
        for member in range(3):
            total = total + (q[member, 0] - targets[row]).square() / (4 * 3)
    expected = torch.autograd.grad(total, online)
    followed = [p.clone() for p in agent.target_critic.parameters()]
    metrics = agent.update_critic(batch)
    assert float(metrics["critic/loss"]) == pytest.approx(float(total.detach()), rel=1e-5)
    for p, wanted in zip(online, expected, strict=True):
        torch.testing.assert_close(p.grad, wanted, rtol=1e-4, atol=1e-6)
    for now, before, p in zip(agent.target_critic.parameters(), followed, online, strict=True):
        torch.testing.assert_close(now, 0.75 * before + 0.25 * p.detach())


def test_a_batch_without_a_row_for_the_critic_leaves_it_as_it_is() -> None:
    agent = make(WithCritic, "qc")
    before = [p.clone() for p in agent.critic.parameters()]
    agent.update_critic(dataclasses.replace(random_batch(), critic_valid=torch.zeros(6)))
    assert all(torch.equal(p, old) for p, old in zip(agent.critic.parameters(), before,
                                                     strict=True))


# -- Q-chunking ------------------------------------------------------------------------------


def test_qc_targets_take_the_candidate_that_the_online_critics_prefer() -> None:
    agent, batch = make(QChunking, "qc", num_candidates=5, flow_steps=3), random_batch()
    set_apart(agent)
    targets = targets_of(agent, batch)
    candidates = agent.actor.sample(batch.next_observations, 5, agent.generator)
    for row in range(6):
        observation = batch.next_observations[row:row + 1]
        with torch.no_grad():
            online = [float(agent.critic(observation, c[None]).mean()) for c in candidates[row]]
            best = candidates[row][int(np.argmax(online))]
            q = float(agent.target_critic(observation, best[None]).mean())
        expected = float(batch.rewards[row]) + float(batch.bootstrap[row]) * q
        assert float(targets[row]) == pytest.approx(expected, abs=1e-5)


def test_qc_acts_with_the_candidate_of_the_highest_q() -> None:
    agent = make(QChunking, "qc", num_candidates=6, flow_steps=4, num_critics=3)
    agent.choice.trained.fill_(1.0)
    policy, observation = agent.policy(1), np.array([0.2, -0.4, 1.0], np.float32)
    noise = np.random.Generator(np.random.Philox(11)).standard_normal((6, 4), dtype=np.float32)
    seen = torch.from_numpy(observation)[None]
    candidates = agent.actor.carry(seen, torch.from_numpy(noise)[None])
    best = int(agent.critic.mean_of_candidates(seen, candidates).argmax())
    np.testing.assert_allclose(policy.act(observation, 11).reshape(-1),
                               candidates[0, best].numpy(), atol=2e-6)


def test_qc_is_the_cloned_flow_until_its_critic_is_warm() -> None:
    """What is measured before it learns online is what cloning made, as for all algorithms."""
    agent, batch = make(QChunking, "qc", num_candidates=6, flow_steps=4), random_batch()
    observation = np.array([0.2, -0.4, 1.0], np.float32)
    noise = np.random.Generator(np.random.Philox(11)).standard_normal(4, dtype=np.float32)
    agent.update(batch, Phase.CLONE)
    agent.update(batch, Phase.CRITIC)
    cloned = agent.actor.carry(torch.from_numpy(observation)[None],
                               torch.from_numpy(noise)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(agent.policy(1).act(observation, 11).reshape(-1), cloned, atol=2e-6)
    agent.update(batch, Phase.FULL)
    chosen = [agent.policy(2).act(observation, seed) for seed in range(20)]
    flow = make(BehaviourCloning, "bc", flow_steps=4)
    flow.actor.load_state_dict(agent.actor.state_dict())
    drawn = [flow.policy(2).act(observation, seed) for seed in range(20)]
    assert any(not np.allclose(a, b, atol=1e-4) for a, b in zip(chosen, drawn, strict=True))


# -- flow Q-learning -------------------------------------------------------------------------


def test_fql_loss_is_the_weighted_distillation_minus_q() -> None:
    agent, batch = make(FlowQLearning, "qc_fql", alpha=7.0, flow_steps=3), random_batch()
    noise = torch.randn(6, 4)
    loss, metrics = agent.one_step_loss(batch.observations, noise, with_q=True)
    with torch.no_grad():
        chunks = agent.one_step(batch.observations, noise)
        carried = agent.actor.carry(batch.observations, noise[:, None]).squeeze(1)
        distillation = ((chunks - carried) ** 2).mean()
        q = agent.critic(batch.observations, chunks.clamp(-1, 1)).mean()
    assert float(loss.detach()) == pytest.approx(float(7.0 * distillation - q), rel=1e-5)
    assert float(metrics["fql/distillation_loss"]) == pytest.approx(float(distillation), rel=1e-5)
    cloning, _ = agent.one_step_loss(batch.observations, noise, with_q=False)
    assert float(cloning.detach()) == pytest.approx(float(7.0 * distillation), rel=1e-5)


def test_fql_targets_are_of_its_own_clipped_action_by_the_target_critics() -> None:
    agent, batch = make(FlowQLearning, "qc_fql", num_critics=3), random_batch()
    set_apart(agent)
    with torch.no_grad():
        agent.one_step.layers[-1].bias.add_(2.0)  # some of what it does is beyond 1
    targets = targets_of(agent, batch)
    noise = torch.randn(6, 4, generator=agent.generator)
    beyond = 0
    for row in range(6):
        observation = batch.next_observations[row:row + 1]
        with torch.no_grad():
            chunk = agent.one_step(observation, noise[row:row + 1])
            beyond += int((chunk.abs() > 1).sum())
            members = agent.target_critic(observation, chunk.clamp(-1, 1))[:, 0].tolist()
        expected = float(batch.rewards[row]) + float(batch.bootstrap[row]) * sum(members) / 3
        assert float(targets[row]) == pytest.approx(expected, abs=1e-5)
    assert beyond, "the example must have something to clip"


def test_fql_never_moves_the_flow_or_the_critic_by_its_one_step_loss() -> None:
    agent, batch = make(FlowQLearning, "qc_fql"), random_batch()
    before = agent.state()
    agent.update_one_step(batch.observations, with_q=True)
    after = agent.state()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved <= {"one_step", "generator"}


def test_fql_acts_in_one_step() -> None:
    agent, observation = make(FlowQLearning, "qc_fql"), np.array([0.2, -0.4, 1.0], np.float32)
    noise = np.random.Generator(np.random.Philox(3)).standard_normal(4, dtype=np.float32)
    with torch.no_grad():
        expected = agent.one_step(torch.from_numpy(observation)[None],
                                  torch.from_numpy(noise)[None])[0].clamp(-1, 1)
    np.testing.assert_allclose(agent.policy(1).act(observation, 3).reshape(-1), expected.numpy(),
                               atol=2e-6)


# -- SAC: RLPD and DSRL ----------------------------------------------------------------------


def test_log_density_of_a_tanh_gaussian_equals_torch_distributions() -> None:
    actor = TanhGaussian(3, 4, 16, 2, "relu").double()
    observations = torch.randn(9, 3, dtype=torch.float64)
    noise = torch.randn(9, 4, dtype=torch.float64)
    chunks, log_density = actor.sample(observations, noise)
    mean, log_std = actor(observations)
    reference = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1),
                                        TanhTransform(cache_size=1))
    before = mean + log_std.exp() * noise
    expected = Independent(Normal(mean, log_std.exp()), 1).log_prob(before) - \
        reference.transforms[0].log_abs_det_jacobian(before, before.tanh()).sum(dim=1)
    torch.testing.assert_close(chunks, before.tanh())
    torch.testing.assert_close(log_density, expected)


@pytest.mark.parametrize("members, backup", [(0, False), (2, False), (0, True)])
def test_rlpd_targets_are_the_mean_or_the_least_of_random_members(members: int,
                                                                  backup: bool) -> None:
    agent = make(RLPD, "rlpd_ac", num_critics=5, target_members=members, entropy_backup=backup,
                 initial_temperature=0.3)
    batch = random_batch()
    found = targets_of(agent, batch)
    with torch.no_grad():
        chunks, log_density = agent.sample(batch.next_observations)
        q = agent.target_critic(batch.next_observations, chunks)
        if members:
            chosen = torch.randperm(5, generator=agent.generator)[:members]
            q_next = torch.minimum(q[chosen[0]], q[chosen[1]])
        else:
            q_next = q.sum(dim=0) / 5
        if backup:
            q_next = q_next - 0.3 * log_density
    torch.testing.assert_close(found, batch.rewards + batch.bootstrap * q_next)


@pytest.mark.parametrize("cls, algorithm", [(RLPD, "rlpd_ac"), (DSRL, "dsrl")])
@pytest.mark.parametrize("surplus", [0.5, -0.5])
def test_the_price_of_entropy_falls_above_its_target_and_rises_below(
        cls: type[Any], algorithm: str, surplus: float) -> None:
    """The target is -scale a number of the chunk, all numbers together."""
    settings = {"noise_hidden_dim": 24, "noise_layers": 2} if cls is DSRL else {}
    probe, observations = make(cls, algorithm, **settings), random_batch().observations
    entropy = float(probe.update_actor(observations)["sac/entropy"])
    agent = make(cls, algorithm, target_entropy_scale=0.5, **settings)
    # A scale below zero, which settings refuse: the target has to lie beside this very entropy.
    object.__setattr__(agent.config, "target_entropy_scale", -(entropy - surplus) / 4)
    before = float(agent.temperature().detach())
    gradients = {}
    descend = agent.descend

    def watch(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        descend(optimizer, loss)
        gradients[id(optimizer)] = optimizer.param_groups[0]["params"][0].grad.clone()

    agent.descend = watch
    agent.update_actor(observations)
    assert (float(agent.temperature().detach()) < before) is (surplus > 0)
    # alpha = exp(x), so d/dx of alpha * (entropy - target) is that itself
    assert float(list(gradients.values())[1]) == pytest.approx(before * surplus, rel=1e-3)


@pytest.mark.parametrize("cls, algorithm, aggregate", [
    (RLPD, "rlpd_ac", "mean"), (DSRL, "dsrl", "min"), (DSRL, "dsrl", "mean")])
def test_the_actors_of_sac_descend_the_price_of_entropy_less_q(cls: type[Any], algorithm: str,
                                                               aggregate: str) -> None:
    """Loss and gradient equal those of a loop over states."""
    settings = {"noise_hidden_dim": 24, "noise_layers": 2, "noise_bound": 1.2, "flow_steps": 3,
                "critic_aggregate": aggregate} if cls is DSRL else {}
    agent = make(cls, algorithm, num_critics=3, initial_temperature=0.3, **settings)
    observations, state = random_batch().observations, agent.generator.get_state()
    actor = agent.noise_actor if cls is DSRL else agent.actor
    noise = torch.randn(6, 4, generator=agent.generator)
    losses = []
    for row in range(6):
        sample, log_density = actor.sample(observations[row:row + 1], noise[row:row + 1])
        if cls is DSRL:
            q = agent.noise_critic(observations[row:row + 1], 1.2 * sample)[:, 0]
        else:
            q = agent.critic(observations[row:row + 1], sample)[:, 0]
        judged = min(q) if aggregate == "min" else sum(q) / 3
        losses.append(0.3 * log_density[0] - judged)
    loss = sum(losses) / 6
    expected = torch.autograd.grad(loss, list(actor.parameters()))
    taken = {}
    agent.descend = lambda optimizer, loss: taken.setdefault(optimizer, torch.autograd.grad(
        loss, [p for group in optimizer.param_groups for p in group["params"]]))
    agent.generator.set_state(state)
    metrics = agent.update_actor(observations)
    assert float(metrics["sac/actor_loss"]) == pytest.approx(float(loss.detach()), rel=1e-5)
    first = next(iter(taken.values()))
    for found, wanted in zip(first, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("aggregate, backup", [("min", True), ("mean", False)])
def test_dsrl_targets_are_of_the_chunk_that_what_acts_leads_to(trained: bool, aggregate: str,
                                                               backup: bool) -> None:
    agent = make(DSRL, "dsrl", noise_hidden_dim=24, noise_layers=2, noise_bound=1.2, flow_steps=3,
                 initial_temperature=0.3, critic_aggregate=aggregate, entropy_backup=backup)
    agent.noise_actor.trained.fill_(float(trained))
    batch = random_batch()
    found = targets_of(agent, batch)
    with torch.no_grad():
        unit, log_density = agent.noise_actor.sample(
            batch.next_observations, torch.randn(6, 4, generator=agent.generator))
        free = torch.randn(6, 4, generator=agent.generator)
        noise = 1.2 * unit if trained else free
        chunks = agent.actor.carry(batch.next_observations, noise[:, None]).squeeze(1)
        q = agent.target_critic(batch.next_observations, chunks)
        q_next = torch.minimum(q[0], q[1]) if aggregate == "min" else (q[0] + q[1]) / 2
        if backup and trained:
            q_next = q_next - 0.3 * log_density
    torch.testing.assert_close(found, batch.rewards + batch.bootstrap * q_next)


def test_dsrl_distils_the_q_of_the_chunk_that_a_noise_leads_to_and_keeps_the_flow() -> None:
    agent = make(DSRL, "dsrl", noise_hidden_dim=24, noise_layers=2, noise_bound=1.2,
                 distillation_steps=1, flow_steps=3)
    batch = random_batch()
    state = agent.generator.get_state()
    before = agent.state()
    loss = agent.update_noise_critic(batch.observations)["dsrl/distillation_loss"]
    agent.generator.set_state(state)
    noise = torch.randn(6, 4, generator=agent.generator)
    fresh = make(DSRL, "dsrl", noise_hidden_dim=24, noise_layers=2, noise_bound=1.2, flow_steps=3)
    with torch.no_grad():
        carried = agent.actor.carry(batch.observations, noise[:, None]).squeeze(1)
        wanted = agent.critic(batch.observations, carried)  # each member has its own
        expected = (fresh.noise_critic(batch.observations, noise) - wanted).square().mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    agent.update(batch, Phase.FULL)
    after = agent.state()
    assert all(torch.equal(before[name], after[name]) for name in before
               if name.startswith("actor."))


def test_dsrl_is_the_cloned_flow_until_it_has_learned_to_steer() -> None:
    agent = make(DSRL, "dsrl", noise_hidden_dim=24, noise_layers=2, flow_steps=3)
    flow, observation = make(QChunking, "qc", flow_steps=3), np.ones(3, np.float32)
    flow.actor.load_state_dict(agent.actor.state_dict())
    noise = np.random.Generator(np.random.Philox(3)).standard_normal(4, dtype=np.float32)
    expected = flow.actor.carry(torch.ones(1, 3), torch.from_numpy(noise)[None, None])[0, 0]
    np.testing.assert_allclose(agent.policy(1).act(observation, 3).reshape(-1), expected.numpy(),
                               atol=2e-6)
    agent.update(random_batch(), Phase.FULL)
    judged = agent.policy(2)
    assert np.array_equal(judged.act(observation, 3), judged.act(observation, 4)), "its mode"


@pytest.mark.parametrize(("algorithm", "share"), [("rlpd", 0.5), ("rlpd_ac", 0.5), ("qc", None)])
def test_half_of_rlpds_batches_are_demonstrations_whatever_there_is_of_its_own(
        algorithm: str, share: float | None) -> None:
    agent = make(Agent, algorithm, batch_size=64)
    experience = ReplayExperience(agent.signature, agent.config, TrainConfig(offline_steps=0),
                                  [random_episode(1, 6)])
    for number in range(2, 12):
        experience.add(random_episode(number, 6))
    generator = np.random.default_rng(0)
    shares = [float(np.mean(experience.batch(generator).observations[:, 0] == 1))
              for _ in range(50)]
    if share is not None:
        assert set(shares) == {share}
    else:  # uniform over all data, of which a tenth or so are demonstrations
        assert 0.03 < np.mean(shares) < 0.2


# -- learning --------------------------------------------------------------------------------


LEARNERS: dict[str, dict[str, Any]] = {
    "poco": {"num_candidates": 8, "eta": 0.05, "zeta": 1.0, "beta": 5.0, "flow_steps": 5},
    "qc": {"num_candidates": 8, "flow_steps": 5},
    "qc_fql": {"alpha": 1.0, "flow_steps": 5},
    "fql": {"alpha": 1.0, "flow_steps": 5, "chunk_horizon": 1},
    "rlpd_ac": {"num_critics": 4},
    "rlpd": {"num_critics": 4, "chunk_horizon": 1},
    "dsrl": {"noise_hidden_dim": 64, "noise_layers": 2, "flow_steps": 5, "distillation_steps": 2},
}


@pytest.mark.parametrize("algorithm", list(LEARNERS))
def test_it_learns_which_of_two_modes_leads_to_a_reward(algorithm: str) -> None:
    """Two chunks: the first leads where the second is rewarded, or where nothing is, so what it is
    worth comes through the target critic alone. Demonstrations have two modes of equal share; with
    them and what it does itself an agent must come to do the good one.
    """
    values = {"algorithm": algorithm, "chunk_horizon": 2, "hidden_dim": 64, "num_layers": 2,
              "lr": 1e-3, "tau": 0.05, "gamma": 0.9, **LEARNERS[algorithm]}
    agent = agent_for(from_dict(AgentConfig, values, "test"), 1, 1)
    steps = agent.config.chunk_horizon
    generator, own = np.random.default_rng(0), [np.zeros((0, steps))]

    def chunks(places: np.ndarray) -> np.ndarray:
        """Two modes of equal share, wherever one is."""
        side = generator.choice([-1.0, 1.0], len(places))
        return 0.5 * side[:, None] + 0.05 * generator.standard_normal((len(places), steps))

    def batch() -> Batch:
        places = generator.choice([0.0, 0.0, 1.0, -1.0], 128)
        drawn = chunks(places)
        if len(own[0]):
            drawn[:96] = own[0][generator.integers(len(own[0]), size=96)]
            places[:96] = 0.0
        good, begins = drawn.mean(axis=1) > 0.2, places == 0.0
        found = ChunkBatch(
            observations=places.astype(np.float32)[:, None],
            actions=drawn.astype(np.float32)[:, :, None], valid=np.ones((128, steps), np.float32),
            rewards=((places == 1.0) & good).astype(np.float32),
            next_observations=np.where(good, 1.0, -1.0).astype(np.float32)[:, None],
            bootstrap=np.where(begins, 0.9**steps, 0.0).astype(np.float32),
            critic_valid=np.ones(128, np.float32))
        return Batch.of(found, agent.normalizer)

    def act(count: int, mode: str) -> np.ndarray:
        policy = agent.policy(1, mode)
        return np.array([policy.act(np.zeros(1, np.float32), int(seed)).reshape(steps)
                         for seed in generator.integers(0, 1 << 40, count)])

    for _ in range(300):
        agent.update(batch(), Phase.CLONE)
    if algorithm in ("poco", "qc_fql", "dsrl"):  # what they do before there is a critic
        assert 0.35 < float(np.mean(act(300, EXPLORE).mean(axis=1) > 0.0)) < 0.65
    for _ in range(100):
        agent.update(batch(), Phase.CRITIC)
    for _ in range(25):
        own[0] = np.concatenate([own[0], act(16, EXPLORE)])
        for _ in range(15):
            agent.update(batch(), Phase.FULL)
    assert float(np.mean(act(300, EVALUATE).mean(axis=1) > 0.2)) > 0.85
