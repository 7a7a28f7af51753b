"""DPPO and ReinFlow: their parts against closed forms, and a task that they must learn."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from learning_support import Reach, agent_for, random_episode, reached, signature
from torch.distributions import Normal

from poco_ros.core.config import from_dict
from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import ConfigError
from poco_ros.core.rollout import run_episode
from poco_ros.core.seeding import (
    chunk_generator,
    chunk_seed,
    episode_id,
    episode_seed,
    evaluation_seed,
    seed_of_episode,
)
from poco_ros.learning.agents import Agent, Phase
from poco_ros.learning.agents.ppo import PPO, RewardScale
from poco_ros.learning.config import AgentConfig, TrainConfig
from poco_ros.learning.policies import EVALUATE, EXPLORE
from poco_ros.learning.rounds import EpisodeChunks, Round, RoundBatch, advantages
from poco_ros.learning.trainer import Trainer

SMALL: dict[str, Any] = {"hidden_dim": 16, "num_layers": 2, "chunk_horizon": 4, "flow_steps": 3,
                         "batch_size": 8, "noise_hidden_dim": 8, "noise_layers": 1}
both = pytest.mark.parametrize("algorithm", ["dppo", "reinflow"])


def settings_for(algorithm: str, **settings: Any) -> AgentConfig:
    if algorithm == "dppo":
        settings = {k: v for k, v in settings.items() if k not in ("noise_hidden_dim",
                                                                   "noise_layers")}
    return from_dict(AgentConfig, {"algorithm": algorithm, **settings}, "test")


def make(algorithm: str, observation: int = 2, action_dim: int = 1, **settings: Any) -> PPO:
    agent = agent_for(settings_for(algorithm, **{**SMALL, **settings}), observation, action_dim)
    assert isinstance(agent, PPO)
    return agent


def batch_of(agent: PPO, count: int = 6, chain: float = 1.0) -> RoundBatch:
    """Return chunks whose chains the agent's own kernel could have made, with fresh log-probs."""
    generator = torch.Generator().manual_seed(8)
    observations = torch.randn(count, agent.signature.observation.size, generator=generator)
    steps, size = agent.config.flow_steps, agent.chunk_size
    chains = [torch.randn(count, size, generator=generator)]
    with torch.no_grad():
        for k in range(steps):
            times = torch.full((count, 1), k / steps)
            noise = torch.randn(count, size, generator=generator)
            mean = chains[-1] + agent.actor(observations, chains[-1], times) / steps
            chains.append(mean + chain * 0.1 * noise)
        stacked = torch.stack(chains, dim=1)
        log_probs, _ = agent.log_probs(observations, stacked)
    return RoundBatch(observations, stacked, log_probs,
                      torch.randn(count, generator=generator),
                      torch.randn(count, generator=generator), torch.tensor(0.0))


# -- chunks and advantages -------------------------------------------------------------------


def episode(rewards: Sequence[float], terminated: bool, name: str = "x") -> Episode:
    steps = len(rewards)
    return Episode(name, np.arange(2 * steps + 2, dtype=np.float32).reshape(steps + 1, 2),
                   np.linspace(-1, 1, steps, dtype=np.float32)[:, None],
                   np.array(rewards, np.float32), terminated, not terminated,
                   Outcome.SUCCESS if terminated else Outcome.FAILURE)


def test_an_episode_is_cut_into_chunks_and_the_last_one_may_be_short() -> None:
    chunks = EpisodeChunks.of(episode([1, 2, 3, 4, 5, 6, 7], terminated=True), 3)
    assert len(chunks) == 3 and chunks.terminated
    assert chunks.rewards.tolist() == [6.0, 15.0, 7.0]
    assert chunks.observations[:, 0].tolist() == [0.0, 6.0, 12.0, 14.0]
    assert chunks.played.tolist() == [[True] * 3, [True] * 3, [True, False, False]]
    np.testing.assert_allclose(chunks.executed[2, :, 0], [1.0, 0.0, 0.0])


def test_an_episode_that_ends_with_a_chunk_has_no_empty_one_behind_it() -> None:
    chunks = EpisodeChunks.of(episode([1, 2, 3, 4], terminated=False), 2)
    assert len(chunks) == 2 and chunks.observations[:, 0].tolist() == [0.0, 4.0, 8.0]
    assert chunks.played.all() and not chunks.terminated


def test_advantages_of_an_episode_that_ends_in_success() -> None:
    """Rewards 0, 1; V = 2, 4 and a last one that must not matter; gamma 0.5, lambda 0.5.

    delta_1 = 1 - 4 = -3; delta_0 = 0 + 0.5 * 4 - 2 = 0; A_1 = -3; A_0 = 0 + 0.25 * -3 = -0.75
    """
    found = advantages(np.array([0.0, 1.0]), np.array([2.0, 4.0, 100.0]), True, 0.5, 0.5)
    np.testing.assert_allclose(found, [-0.75, -3.0])


def test_advantages_of_an_episode_that_time_cuts() -> None:
    """The same, cut by time: V(s_2) = 8 follows. delta_1 = 1 + 0.5 * 8 - 4 = 1; A_0 = 0.25."""
    found = advantages(np.array([0.0, 1.0]), np.array([2.0, 4.0, 8.0]), False, 0.5, 0.5)
    np.testing.assert_allclose(found, [0.25, 1.0])


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_advantages_equal_the_weighted_sum_of_all_later_errors(gae_lambda: float) -> None:
    generator, gamma = np.random.default_rng(0), 0.9
    rewards, values = generator.standard_normal(7), generator.standard_normal(8)
    deltas = rewards + gamma * values[1:] - values[:-1]
    expected = [sum((gamma * gae_lambda) ** (k - t) * deltas[k] for k in range(t, 7))
                for t in range(7)]
    found = advantages(rewards, values, False, gamma, gae_lambda)
    np.testing.assert_allclose(found, expected)
    if gae_lambda == 1.0:  # the discounted return, then the last value, minus V
        total = sum(gamma ** k * rewards[k] for k in range(7)) + gamma ** 7 * values[7]
        assert found[0] == pytest.approx(total - values[0])


@both
def test_nothing_leaks_from_one_episode_into_another(algorithm: str) -> None:
    """The advantages of a round are those of its episodes one by one, in any order."""
    agent = make(algorithm, scale_rewards=False)
    policy = agent.policy(1, EXPLORE)
    episodes = [reached(policy, 0, n) for n in range(4)]
    alone = [agent.study([one]) for one in episodes]
    together, reverse = agent.study(episodes), agent.study(episodes[::-1])
    np.testing.assert_allclose(together.advantages,
                               np.concatenate([one.advantages for one in alone]), atol=1e-6)
    np.testing.assert_allclose(reverse.returns,
                               np.concatenate([one.returns for one in alone[::-1]]), atol=1e-6)


def test_the_scale_of_rewards_is_the_deviation_of_all_discounted_sums() -> None:
    generator, scale = np.random.default_rng(3), RewardScale()
    sums: list[float] = []
    assert scale() == 1.0
    for _ in range(3):
        rewards = [generator.standard_normal(int(n)) for n in generator.integers(1, 9, 4)]
        scale.take(rewards, 0.9)
        for one in rewards:
            sums += [sum(0.9 ** (t - k) * one[k] for k in range(t + 1)) for t in range(len(one))]
        assert scale() == pytest.approx(np.std(sums), rel=1e-9)


# -- the way from noise to a chunk -----------------------------------------------------------


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
    agent.set_normalizer(numbers.standard_normal(2), numbers.uniform(0.5, 2.0, 2))
    policy, observation = agent.policy(1, EXPLORE), np.array([0.3, -1.0], np.float32)
    noise = chunk_generator(11).standard_normal((4, 8), dtype=np.float32)
    noise[1:] = noise[1:].clip(-3.0, 3.0)
    seen = (torch.from_numpy(observation) - agent.mean)[None] / agent.std
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


# -- following what was executed -------------------------------------------------------------


def test_an_episodes_seed_follows_from_its_id() -> None:
    for run, number in ((0, 0), (3, 41), (12345, 1_000_000)):
        assert seed_of_episode(episode_id(run, number)) == episode_seed(run, number)
    for other in ("episode-1", "ep-1", "ep-1-2", "ep--1-000001", "ep-1-000001-again"):
        assert seed_of_episode(other) is None


@both
def test_every_chunk_that_was_executed_as_made_is_followed(algorithm: str) -> None:
    agent = make(algorithm)
    policy = agent.policy(1, EXPLORE)
    episodes = [reached(policy, 0, n) for n in range(3)]
    found = agent.study(episodes)
    assert found.left_out == 0.0
    assert len(found) == sum(math.ceil(len(one) / 4) for one in episodes)
    row = 0
    for one in episodes:
        seed = seed_of_episode(one.id)
        for index, begin in enumerate(range(0, len(one), 4)):
            noise = policy.chain_noise(chunk_generator(chunk_seed(seed, index)))
            chain = policy.chains(policy.normalised(one.observations[begin]), noise)
            np.testing.assert_allclose(found.chains[row], chain, atol=1e-6)
            np.testing.assert_array_equal(found.observations[row], one.observations[begin])
            row += 1


@both
def test_a_chunk_that_was_limited_is_left_out_and_counted(algorithm: str) -> None:
    """A safety filter changed one action: its chunk goes, the rewards behind it count on."""
    agent = make(algorithm, scale_rewards=False)
    whole = reached(agent.policy(1, EXPLORE), 0, 0)
    actions = whole.actions.copy()
    actions[5] = 0.5 * actions[5] + 0.01
    limited = dataclasses.replace(whole, actions=actions)
    full, found = agent.study([whole]), agent.study([limited])
    assert found.left_out == pytest.approx(1 / len(full)) and len(found) == len(full) - 1
    kept = [0, *range(2, len(full))]
    np.testing.assert_array_equal(found.observations, full.observations[kept])
    np.testing.assert_allclose(found.advantages, full.advantages[kept])


@both
def test_a_round_of_which_nothing_can_be_followed_is_told_and_not_learned_from(
        algorithm: str) -> None:
    agent = make(algorithm)
    strangers = [random_episode(n, 9, 2, 1) for n in range(2)]
    with pytest.warns(RuntimeWarning, match=r"none of the 6 chunks of episodes episode-0 to"):
        found = agent.study(strangers)
    assert len(found) == 0 and found.left_out == 1.0
    older = make(algorithm)
    episodes = [reached(older.policy(1, EXPLORE), 0, n) for n in range(2)]
    with torch.no_grad():
        for p in agent.actor.parameters():
            p.add_(0.1)
    with pytest.warns(RuntimeWarning, match="needs lock-step"):
        assert len(agent.study(episodes)) == 0


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


# -- rounds in a trainer ---------------------------------------------------------------------


def trainer_for(algorithm: str, train: dict[str, Any] | None = None, **settings: Any) -> Trainer:
    values = {**SMALL, "round_episodes": 3, "epochs": 2, "minibatch_size": 5, "warmup_rounds": 1,
              "actor_lr": 1e-3, "target_kl": 0.0, **settings}
    schedule = {"offline_steps": 4, "offline_objective": "bc", "online_steps": 10_000,
                "sync_lag": 0, **(train or {})}
    demonstrations = [random_episode(n, 9, 2, 1, terminated=True) for n in range(2)]
    return Trainer(settings_for(algorithm, **values), TrainConfig(**schedule),
                   signature(2, 1, "reach"), 7, demonstrations)


def work(trainer: Trainer) -> list[dict[str, float]]:
    done = []
    while trainer.work_due():
        done.append(trainer.work())
    return done


def let_run(trainer: Trainer, episodes: int, actors: int = 1, updates: int = 10 ** 9
            ) -> list[Episode]:
    """Act with up to ``actors`` episodes in flight, learn when there is work; return all."""
    made: list[Episode] = []
    flying: list[Episode] = []
    while trainer.updates < updates:
        while len(flying) < actors:
            number = trainer.episodes_added + len(flying)
            policy = trainer.acting_policy(number)
            if policy is None or number >= episodes:
                break
            flying.append(reached(policy, 7, number))
        if trainer.work_due():
            trainer.work()
        elif flying:
            made.append(flying.pop(0))
            trainer.add_episode(made[-1])
        elif trainer.episodes_added >= episodes:
            break
    return made


@both
def test_a_round_is_learned_from_when_its_last_episode_is_in(algorithm: str) -> None:
    trainer = trainer_for(algorithm)
    assert trainer.stage == "offline" and len(work(trainer)) == 4
    chunks, before = 0, trainer.agent.state()
    for number in range(3):
        assert not work(trainer) and trainer.stage == "warmup"
        policy = trainer.acting_policy(number)
        assert policy is not None and policy.version == 5
        trainer.add_episode(reached(policy, 7, number))
        chunks += math.ceil(trainer._queue[-1].actions.shape[0] / 4)
    assert trainer.acting_policy(3) is None, "not before the round is learned from"
    done = work(trainer)
    assert len(done) == 2 * (chunks // 5) and all("ppo/kl" not in one for one in done)
    after = trainer.agent.state()
    assert all(torch.equal(before[n], after[n]) for n in before if n.startswith("actor."))
    assert trainer.stage == "online" and trainer.episodes_trained == 3
    found = trainer.acting_policy(5)
    assert found is not None and found.version == trainer.updates + 1
    for number in range(3, 6):
        trainer.add_episode(reached(found, 7, number))
    assert all("ppo/kl" in one for one in work(trainer))


@both
def test_an_epoch_sees_every_chunk_once(algorithm: str) -> None:
    trainer = trainer_for(algorithm)
    work(trainer)
    seen: list[Round] = []
    take = trainer.experience.batch

    def batch(generator: np.random.Generator) -> Any:
        seen.append(take(generator))
        return seen[-1]

    trainer.experience.batch = batch  # type: ignore[method-assign]
    let_run(trainer, 3)
    sizes = [len(one) for one in seen]
    half = len(seen) // 2
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 5
    for epoch in (seen[:half], seen[half:]):
        rows = np.concatenate([one.chains.reshape(len(one), -1) for one in epoch])
        assert len(np.unique(rows, axis=0)) == len(rows) == sum(sizes) // 2
    first, second = (np.concatenate([one.returns for one in epoch])
                     for epoch in (seen[:half], seen[half:]))
    assert not np.array_equal(first, second), "each epoch has an order of its own"


@both
def test_a_round_ends_when_the_policy_has_moved_too_far(algorithm: str) -> None:
    whole = trainer_for(algorithm, warmup_rounds=0, epochs=8, actor_lr=1e-2)
    let_run(whole, 3)
    cut = trainer_for(algorithm, warmup_rounds=0, epochs=8, actor_lr=1e-2, target_kl=1e-4)
    found: list[float] = []
    work(cut)
    for number in range(3):
        policy = cut.acting_policy(number)
        assert policy is not None
        cut.add_episode(reached(policy, 7, number))
    while cut.work_due():
        found.append(cut.work()["ppo/kl"])
    assert found[-1] > 1e-4 and max(found[:-1]) <= 1e-4
    assert cut.updates < whole.updates and cut.updates_owed == 0
    assert cut.acting_policy(3) is not None


@both
@pytest.mark.parametrize("actors", [2, 3, 8])
def test_the_result_does_not_depend_on_how_many_act_at_a_time(algorithm: str,
                                                             actors: int) -> None:
    alone, many = trainer_for(algorithm), trainer_for(algorithm)
    first, second = let_run(alone, 9), let_run(many, 9, actors)
    assert [one.to_bytes() for one in first] == [one.to_bytes() for one in second]
    left, right = alone.agent.state(), many.agent.state()
    assert alone.updates == many.updates and all(torch.equal(left[n], right[n]) for n in left)


@both
def test_a_run_resumes_anywhere_to_the_bit(algorithm: str, tmp_path: Any) -> None:
    """Between rounds, within one that is being made, and amid each of its updates."""
    whole = trainer_for(algorithm)
    episodes = let_run(whole, 9)
    updates = whole.updates
    for stop in range(3, updates + 1):
        part, again = trainer_for(algorithm), trainer_for(algorithm)
        made = let_run(part, 9, updates=stop)
        if stop % 2 and len(made) < 9 and not part.work_due():  # one more, in an open round
            made += let_run(part, len(made) + 1)
        part.save(tmp_path)
        again.resume(tmp_path, made)
        assert again.work_due() == part.work_due() and again.stage == part.stage
        assert (again.episodes_trained, again.steps_trained) == (part.episodes_trained,
                                                                 part.steps_trained)
        later = let_run(again, 9)
        assert [one.to_bytes() for one in [*made, *later]] == \
            [one.to_bytes() for one in episodes]
        left, right = whole.agent.state(), again.agent.state()
        assert all(torch.equal(left[name], right[name]) for name in left), f"after {stop}"
        assert again.generator.bit_generator.state == whole.generator.bit_generator.state


@both
def test_an_episode_that_is_not_trainable_counts_and_teaches_nothing(algorithm: str) -> None:
    trainer = trainer_for(algorithm)
    work(trainer)
    for number in range(3):
        policy = trainer.acting_policy(number)
        assert policy is not None
        made = reached(policy, 7, number)
        trainer.add_episode(dataclasses.replace(made, trainable=number == 1))
        steps = len(made) if number == 1 else 0
        chunks = math.ceil(steps / 4) if steps else 0
        if number == 1:
            expected = 2 * max(1, chunks // 5)
    assert len(work(trainer)) == expected and trainer.episodes_trained == 3


@both
def test_what_remains_of_a_round_at_the_end_is_not_learned_from(algorithm: str) -> None:
    trainer = trainer_for(algorithm, train={"online_steps": 1})
    work(trainer)
    policy = trainer.acting_policy(0)
    assert policy is not None
    trainer.add_episode(reached(policy, 7, 0))
    assert not work(trainer) and trainer.finished and trainer.stage == "finished"


@both
def test_a_lag_is_refused_with_the_remedy(algorithm: str) -> None:
    with pytest.raises(ConfigError, match=rf"sync_lag is 1: {algorithm} .* set sync_lag to 0"):
        trainer_for(algorithm, train={"sync_lag": 1})


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
