"""Chunks, the player that turns them into ticks, seeds, and the observation vector."""

from __future__ import annotations

import numpy as np
import pytest

from poco_ros.core.chunk import ActionChunk, ChunkPlayer
from poco_ros.core.errors import DataError
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.seeding import chunk_noise, chunk_seed, episode_seed, evaluation_seed


def chunk(number: int, steps: int = 3, action_dim: int = 2, value: float = 0.5) -> ActionChunk:
    return ActionChunk(np.full((steps, action_dim), value, np.float32), number, 7, 1_000)


def test_player_gives_one_action_a_tick_and_then_none() -> None:
    player = ChunkPlayer(2)
    assert player.next() is None
    player.accept(chunk(1))
    assert [player.next().index for _ in range(3)] == [0, 1, 2]
    assert player.next() is None and player.remaining == 0


def test_a_new_chunk_replaces_what_is_left_and_a_repeat_is_refused() -> None:
    player = ChunkPlayer(2)
    player.accept(chunk(1))
    player.next()
    player.accept(chunk(2))
    played = player.next()
    assert (played.chunk_id, played.index, played.policy_version) == (2, 0, 7)
    for late in (1, 2):
        with pytest.raises(DataError, match=f"chunk {late} is not newer than chunk 2"):
            player.accept(chunk(late))
    assert player.remaining == 2, "a refused chunk changes nothing"


def test_ids_begin_again_with_a_new_episode_only() -> None:
    player = ChunkPlayer(2)
    player.accept(chunk(5))
    player.clear()
    assert player.next() is None
    with pytest.raises(DataError):
        player.accept(chunk(1))
    player.clear(forget_ids=True)
    player.accept(chunk(1))
    assert player.remaining == 3


def test_chunk_for_another_arm_is_refused() -> None:
    with pytest.raises(DataError, match="3 values an action, expected 2"):
        ChunkPlayer(2).accept(chunk(1, action_dim=3))


@pytest.mark.parametrize("actions, message", [
    (np.zeros(5), "shape"), (np.zeros((0, 2)), "shape"),
    (np.array([[0.0, np.nan]]), "action 0 is not finite"),
    (np.array([[0.0, -1.2]]), r"reach 1\.2, outside \[-1, 1\]")])
def test_malformed_chunk_is_refused(actions: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ActionChunk(actions, 1, 0, 0)


def test_seeds_are_functions_of_names_and_all_differ() -> None:
    seeds = {episode_seed(0, i) for i in range(500)} | {evaluation_seed(0, i) for i in range(500)}
    seeds |= {chunk_seed(episode_seed(0, 0), i) for i in range(500)}
    assert len(seeds) == 1500
    assert episode_seed(3, 4) == episode_seed(3, 4) != episode_seed(4, 3)
    assert all(0 <= seed < 2 ** 63 for seed in seeds)


def test_noise_is_standard_normal_and_the_same_on_every_machine() -> None:
    noise = chunk_noise(5, 2, 3)
    np.testing.assert_allclose(noise, [[-0.7547153, -1.1209664, 0.32037684],
                                       [1.0480454, 0.906748, -0.6993676]], rtol=1e-6)
    many = np.stack([chunk_noise(i, 5, 7) for i in range(400)])
    assert abs(many.mean()) < 0.03 and abs(many.std() - 1.0) < 0.03


LAYOUT = ObservationLayout((("front", 3), ("joints", 2)))


def test_observation_is_assembled_by_name_in_the_order_of_the_layout() -> None:
    found = LAYOUT.assemble({"joints": np.array([4.0, 5.0]), "front": np.array([1.0, 2.0, 3.0]),
                             "unused": np.zeros(9)})
    np.testing.assert_array_equal(found, [1, 2, 3, 4, 5])
    assert found.dtype == np.float32
    assert ObservationLayout.from_json(LAYOUT.to_json()) == LAYOUT


def test_missing_wrong_or_not_finite_part_is_named() -> None:
    good = {"front": np.zeros(3), "joints": np.zeros(2)}
    for change, message in (
            ({"front": np.zeros(4)}, "'front' has 4 values, expected 3"),
            ({"joints": np.array([0.0, np.inf])}, "'joints': value 1 is inf")):
        with pytest.raises(DataError, match=message):
            LAYOUT.assemble({**good, **change})
    with pytest.raises(DataError, match="'joints' is missing"):
        LAYOUT.assemble({"front": np.zeros(3)})
    with pytest.raises(DataError, match="unique"):
        ObservationLayout((("a", 1), ("a", 2)))
