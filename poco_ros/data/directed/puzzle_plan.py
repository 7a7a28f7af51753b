"""Which buttons of OGBench's puzzle are to be pressed: each press flips a cross of lights."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np

SIDE = 3
CROSS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))


def effect(button: int) -> np.ndarray:
    """Return which lights (9,) a press of ``button`` flips, 1 for each; rows come first."""
    row, column = divmod(button, SIDE)
    flips = np.zeros(SIDE * SIDE, int)
    for down, right in CROSS:
        if 0 <= row + down < SIDE and 0 <= column + right < SIDE:
            flips[(row + down) * SIDE + column + right] = 1
    return flips


@lru_cache(maxsize=1)
def _answers() -> dict[tuple[int, ...], tuple[int, ...]]:
    """Return lights to be flipped -> the fewest buttons that do it."""
    effects = [effect(button) for button in range(SIDE * SIDE)]
    answers: dict[tuple[int, ...], tuple[int, ...]] = {}
    for count in range(SIDE * SIDE + 1):
        for buttons in combinations(range(SIDE * SIDE), count):
            flips = sum((effects[button] for button in buttons), np.zeros(SIDE * SIDE, int)) % 2
            answers.setdefault(tuple(flips.tolist()), buttons)
    return answers


def presses(lights: np.ndarray, wanted: np.ndarray) -> tuple[int, ...]:
    """Return the fewest buttons that turn ``lights`` (9,) into ``wanted`` (9,), in any order."""
    return _answers()[tuple(((lights + wanted) % 2).tolist())]
