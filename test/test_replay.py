"""Replay against brute force: every start, every chunk, before and after the ring wraps."""

from __future__ import annotations

import numpy as np
import pytest
from learning_support import random_episode

from poco_ros.core.episode import Episode
from poco_ros.core.errors import DataError
from poco_ros.learning.replay import Replay

GAMMA, HORIZON = 0.9, 4


def expected_chunk(episode: Episode, t: int) -> dict[str, object]:
    """Return the chunk at step t of an episode, worked out step by step."""
    left = len(episode) - t
    real = min(left, HORIZON)
    actions = [episode.actions[min(t + k, t + real - 1)] for k in range(HORIZON)]
    reward = sum(GAMMA ** k * episode.rewards[t + k] for k in range(real))
    terminal = left <= HORIZON and episode.terminated
    return {"observations": episode.observations[t], "actions": np.stack(actions),
            "valid": [1.0 if k < real else 0.0 for k in range(HORIZON)], "rewards": reward,
            "next_observations": episode.observations[t + real],
            "bootstrap": 0.0 if terminal else GAMMA ** real,
            "critic_valid": 1.0 if left >= HORIZON or episode.terminated else 0.0}


def sampled_starts(replay: Replay, count: int = 20_000) -> dict[tuple[int, int], int]:
    """Return how often each (episode number, step) was sampled; check each chunk's content."""
    starts = replay.sample_starts(np.random.default_rng(0), count)
    found: dict[tuple[int, int], int] = {}
    for observation in replay.chunks(starts, HORIZON, GAMMA).observations:
        key = int(observation[0]), int(observation[1])
        found[key] = found.get(key, 0) + 1
    return found


def check_all(replay: Replay, episodes: list[Episode]) -> None:
    """Every start of ``episodes`` and no other is sampled, and every chunk is the expected one."""
    wanted = {(int(e.observations[0, 0]), t): (e, t) for e in episodes for t in range(len(e))}
    found = sampled_starts(replay)
    assert set(found) == set(wanted)
    assert len(replay) == len(wanted)
    counts = np.array(list(found.values()))
    mean = 20_000 / len(wanted)
    assert np.abs(counts - mean).max() < 6 * np.sqrt(mean), "sampling is not uniform"
    rows = np.unique(replay.sample_starts(np.random.default_rng(0), 20_000))
    batch = replay.chunks(rows, HORIZON, GAMMA)
    for i, observation in enumerate(batch.observations):
        expected = expected_chunk(*wanted[int(observation[0]), int(observation[1])])
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(batch, name)[i], value, rtol=1e-5, err_msg=name)


def episodes(lengths: list[int]) -> list[Episode]:
    return [random_episode(n, steps, terminated=n % 2 == 0) for n, steps in enumerate(lengths)]


def test_every_chunk_before_the_ring_is_full() -> None:
    replay = Replay(3, 2, 100)
    some = episodes([7, 1, 4, 12])
    for episode in some:
        replay.add(episode)
    check_all(replay, some)


def test_every_chunk_after_the_ring_has_wrapped() -> None:
    """Rows of 30; whole episodes are dropped from the front, the last slot is reachable."""
    replay = Replay(3, 2, 30)
    some = episodes([7, 1, 4, 12, 9, 5, 8, 3, 11])
    held: list[Episode] = []
    for episode in some:
        replay.add(episode)
        held.append(episode)
        while sum(len(e) + 1 for e in held) > 30:
            held.pop(0)
        check_all(replay, held)
        assert replay.ring_episodes == len(held)


def test_an_episode_across_the_end_of_the_ring_and_the_very_last_row() -> None:
    replay = Replay(3, 2, 10)
    first, second = episodes([5, 6])
    replay.add(first)   # rows 0 to 5
    replay.add(second)  # rows 6 to 9 and 0 to 2: evicts the first
    check_all(replay, [second])
    exact = Replay(3, 2, 7)
    exact.add(second)   # fills the ring to its last row
    check_all(exact, [second])


def test_demonstrations_are_sampled_with_the_rest_and_never_evicted() -> None:
    some = episodes([6, 9, 8, 7, 5])
    replay = Replay(3, 2, 12, some[:2])
    check_all(replay, some[:2])
    for episode in some[2:]:
        replay.add(episode)
    check_all(replay, [*some[:2], some[4]])


def test_an_episode_that_is_not_trainable_is_left_out_of_demonstrations() -> None:
    good, bad = random_episode(0, 5), random_episode(1, 5, trainable=False)
    check_all(Replay(3, 2, 10, [good, bad]), [good])


def test_memory_grows_with_what_is_held() -> None:
    replay = Replay(3, 2, 1_000_000)
    some = [random_episode(n, 900) for n in range(12)]
    for episode in some:
        replay.add(episode)
    assert len(replay._left) < 40_000
    assert len(replay) == 12 * 900
    assert {key[0] for key in sampled_starts(replay)} == set(range(12))


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    replay = Replay(3, 2, 10)
    held = random_episode(0, 5)
    replay.add(held)
    with pytest.raises(DataError, match="needs 11 rows, the replay has 10"):
        replay.add(random_episode(1, 10))
    with pytest.raises(DataError, match=r"sizes \(4, 2\)"):
        replay.add(random_episode(2, 5, observation=4))
    check_all(replay, [held])


def test_an_empty_replay_says_so() -> None:
    with pytest.raises(DataError, match="empty"):
        Replay(3, 2, 10).sample(np.random.default_rng(0), 4, HORIZON, GAMMA)
