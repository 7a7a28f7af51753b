"""Rounds of episodes: chunks and advantages, chains that are followed again, the trainer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from learning_support import random_episode, reached
from on_policy_support import both, let_run, make, trainer_for, work

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import ConfigError
from poco_ros.core.seeding import (
    chunk_generator,
    chunk_seed,
    episode_id,
    episode_seed,
    seed_of_episode,
)
from poco_ros.learning.agents.ppo import RewardScale
from poco_ros.learning.policies import EXPLORE
from poco_ros.learning.rounds import EpisodeChunks, Round, advantages


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


# -- in a trainer ------------------------------------------------------------------------------


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
        if stop % 3 == 0 and len(made) < 9:  # a round that is complete and not begun to be learned
            whole_round = 3 - len(made) % 3
            for _ in range(whole_round if not part.work_due() else 0):
                policy = part.acting_policy(part.episodes_added)
                assert policy is not None
                made.append(reached(policy, 7, part.episodes_added))
                part.add_episode(made[-1])
            assert part.work_due()
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
