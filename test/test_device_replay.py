"""The replay on the device against the one on the host, row by row; the device here is the CPU."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from learning_support import random_episode

from poco_ros.core.episode import Episode
from poco_ros.learning import device_replay
from poco_ros.learning.device_replay import DeviceReplay
from poco_ros.learning.replay import ChunkBatch, Replay

GAMMA, HORIZON = 0.9, 4
EXACT = {"observations", "actions", "valid", "next_observations", "critic_valid", "bootstrap"}


def episodes(lengths: list[int], first: int = 0) -> list[Episode]:
    return [random_episode(n, steps, terminated=n % 2 == 0)
            for n, steps in enumerate(lengths, first)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(device: DeviceReplay, count: int, share: float = -1.0) -> np.ndarray:
    return device.draw(generator(), count, share).numpy()


def check(host: Replay, device: DeviceReplay, count: int = 20_000) -> None:
    """All starts and no other are drawn, uniformly, and each has the host's chunk."""
    device.bring()
    wanted = np.unique(host.sample_starts(np.random.default_rng(0), count))
    assert len(wanted) == len(host), "the example is too large to be enumerated"
    rows, counts = np.unique(drawn(device, count), return_counts=True)
    np.testing.assert_array_equal(rows, wanted)
    mean = count / len(wanted)
    assert np.abs(counts - mean).max() < 6 * np.sqrt(mean), "draws are not uniform"
    ours, theirs = host.chunks(wanted, HORIZON, GAMMA), device.chunks(
        torch.from_numpy(wanted), HORIZON, GAMMA)
    for field in fields(ChunkBatch):
        expected, found = getattr(ours, field.name), getattr(theirs, field.name).numpy()
        assert found.dtype == expected.dtype, field.name
        if field.name in EXACT:
            np.testing.assert_array_equal(found, expected, err_msg=field.name)
        else:  # a sum, in another order
            np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=field.name)


@pytest.mark.parametrize("pinned", [0, 3])
def test_every_chunk_as_the_ring_fills_wraps_and_evicts(pinned: int) -> None:
    demonstrations = episodes([6, 1, 9][:pinned], first=100)
    host = Replay(3, 2, 30, demonstrations)
    device = DeviceReplay(host, "cpu")
    for episode in episodes([7, 1, 4, 12, 9, 5, 8, 3, 11, 29]):
        host.add(episode)
        check(host, device)


def test_several_episodes_between_two_looks() -> None:
    """The mirror was behind by more than the ring holds: rows written twice, evicted between."""
    host = Replay(3, 2, 20)
    device = DeviceReplay(host, "cpu")
    for group in ([5, 6], [7, 8, 9, 4], [3, 3, 3, 15]):
        for episode in episodes(group):
            host.add(episode)
        check(host, device)


def test_it_grows_with_the_host_and_says_when_its_tensors_have_moved(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_replay, "MINIMUM_ROOM", 8)
    host = Replay(3, 2, 100_000, episodes([5]))
    device = DeviceReplay(host, "cpu")
    check(host, device)
    before = device.generation
    host.add(random_episode(50, 40))
    check(host, device)
    assert device.generation == before, "there was room: nothing has to be captured anew"
    for n in range(6):
        host.add(random_episode(60 + n, 900))
    device.bring()
    assert device.generation == before + 1
    rows = host.sample_starts(np.random.default_rng(1), 3000)
    np.testing.assert_array_equal(
        device.chunks(torch.from_numpy(rows), HORIZON, GAMMA).observations.numpy(),
        host.chunks(rows, HORIZON, GAMMA).observations)


def test_only_rows_that_changed_are_copied() -> None:
    host = Replay(3, 2, 100, episodes([5]))
    host.add(random_episode(10, 6))
    assert len(host.take_changed()[0]) == host.rows, "all rows the first time"
    assert host.take_changed()[0].size == 0
    host.add(random_episode(11, 8))
    rows, held = host.take_changed()
    np.testing.assert_array_equal(rows, np.arange(6 + 7, 6 + 7 + 9))
    np.testing.assert_array_equal(held["left"], np.arange(8, -1, -1))


@pytest.mark.parametrize("where", ["device", "host"])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_a_share_of_each_batch_comes_from_the_demonstrations(share: float, where: str) -> None:
    host = Replay(3, 2, 60, episodes([6, 9]))
    for episode in episodes([12, 20], first=7):
        host.add(episode)
    device = DeviceReplay(host, "cpu")
    device.bring()
    if where == "device":
        batches = np.stack([device.draw(g, 8, share).numpy() for g in [generator()] * 400])
    else:
        drawn = np.random.default_rng(3)
        batches = np.stack([host.sample_starts(drawn, 8, share) for _ in range(400)])
    ours = batches < host.pinned_rows
    assert (ours.sum(axis=1) == round(share * 8)).all()
    # In a random order: a part of the batch must not be of one kind only.
    np.testing.assert_allclose(ours.mean(axis=0), share, atol=0.1)
    for part, size in ((batches[ours], 15), (batches[~ours], 32)):
        if part.size:
            rows, counts = np.unique(part, return_counts=True)
            assert len(rows) == size
            assert np.abs(counts - part.size / size).max() < 6 * np.sqrt(part.size / size)


@pytest.mark.parametrize("pinned", [True, False])
def test_all_come_from_where_there_is_something(pinned: bool) -> None:
    some = episodes([6, 9])
    host = Replay(3, 2, 60, some if pinned else [])
    if not pinned:
        for episode in some:
            host.add(episode)
    device = DeviceReplay(host, "cpu")
    device.bring()
    assert len(np.unique(drawn(device, 3000, 0.5))) == 15


def test_the_same_generator_state_draws_the_same_rows() -> None:
    host = Replay(3, 2, 60, episodes([6, 9]))
    device = DeviceReplay(host, "cpu")
    device.bring()
    first, second = generator(5), generator(6)
    device.draw(first, 16)
    second.set_state(first.get_state())
    assert torch.equal(device.draw(first, 16), device.draw(second, 16))
