"""Random numbers that are functions of names, not of history.

The policy server keeps no state, so the noise of a chunk is a function of a seed that travels
with the request. The same seed gives the same noise in ``poco train``, in ``poco eval`` and in
the ROS graph, on any machine (numpy's Philox is defined bit for bit).
"""

from __future__ import annotations

import re

import numpy as np

_ID = re.compile(r"^ep-(\d+)-(\d{6,})$")


def derive_seed(*parts: int) -> int:
    """Return a 63-bit seed that is a hash of non-negative integers, in their order."""
    state = np.random.SeedSequence([int(part) for part in parts]).generate_state(2, np.uint32)
    return int((int(state[0]) << 31) ^ int(state[1])) & 0x7FFF_FFFF_FFFF_FFFF


def episode_seed(run_seed: int, episode_index: int) -> int:
    """Return the seed of an episode: its reset and all of its chunks derive from it."""
    return derive_seed(run_seed, 1, episode_index)


def episode_id(run_seed: int, episode_index: int) -> str:
    """Return the id of an online episode of a run; an attempt that is repeated has the same."""
    return f"ep-{run_seed}-{episode_index:06d}"


def seed_of_episode(episode_id: str) -> int | None:
    """Return the seed of the online episode with that id; None when no run of ours gave the id."""
    found = _ID.match(episode_id)
    return None if found is None else episode_seed(int(found[1]), int(found[2]))


def evaluation_seed(run_seed: int, episode_index: int) -> int:
    """Return the seed of an evaluation episode; disjoint from those of training."""
    return derive_seed(run_seed, 2, episode_index)


def chunk_seed(episode: int, chunk_index: int) -> int:
    """Return the seed of the noise of chunk ``chunk_index`` in the episode with that seed."""
    return derive_seed(episode, chunk_index)


def chunk_generator(seed: int) -> np.random.Generator:
    """Return the source of all that is random in one chunk."""
    return np.random.Generator(np.random.Philox(seed))


def chunk_noise(seed: int, horizon: int, action_dim: int) -> np.ndarray:
    """Return the flow's initial noise a_0 for one chunk, (T, A) float32, standard normal."""
    return chunk_generator(seed).standard_normal((horizon, action_dim), dtype=np.float32)
