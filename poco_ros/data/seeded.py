"""numpy's global random numbers, made a function of a seed for a while: OGBench's oracles use
them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from poco_ros.core.seeding import derive_seed

DIRECTED, PLAY, ROBOMIMIC = 3, 4, 5
"""Streams of :func:`demonstration_seed`; 1 and 2 are training's and evaluation's episodes."""


def demonstration_seed(seed: int, stream: int, index: int, attempt: int) -> int:
    """Return the seed of one attempt at demonstration ``index``."""
    return derive_seed(seed, stream, index, attempt)


@contextmanager
def global_numpy_seed(seed: int) -> Iterator[None]:
    """Seed ``np.random`` inside the block, and put its state back afterwards."""
    before = np.random.get_state()
    np.random.seed(np.random.SeedSequence(seed).generate_state(4))
    try:
        yield
    finally:
        np.random.set_state(before)
