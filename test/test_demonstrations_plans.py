"""The planners that direct the oracles reach every goal from every start, on paper."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from poco_ros.data.directed.cube_plan import BESIDE, IN_PLACE, LAYER, next_move
from poco_ros.data.directed.puzzle_plan import effect, presses
from poco_ros.data.directed.scene_plan import (
    DRAWER,
    DRAWER_OPEN,
    DRAWER_OPEN_ENOUGH,
    IN_DRAWER,
    Move,
    Press,
    SceneState,
    Slide,
    next_step,
)

TABLE = [(x, y, 0.02) for x in (0.3, 0.4, 0.5) for y in (-0.2, -0.05, 0.1, 0.25)]
IN_CLOSED_DRAWER = (0.33, -0.356, 0.066)


def arrangement(generator: np.random.Generator, cubes: int) -> np.ndarray:
    """Return places (C, 3) for cubes, some of them in stacks."""
    places: list[np.ndarray] = []
    free = [np.array(TABLE[i]) for i in generator.permutation(len(TABLE))]
    for _ in range(cubes):
        if places and generator.random() < 0.5:
            below = max(places, key=lambda place: place[2])
            places.append(below + np.array([0.0, 0.0, 0.04]))
        else:
            places.append(free.pop())
    return np.stack(places)[generator.permutation(cubes)]


def is_clear(cubes: np.ndarray, cube: int, place: np.ndarray) -> bool:
    """Return whether nothing stands at or over a place but ``cube`` itself."""
    others = np.delete(cubes, cube, axis=0)
    near = np.linalg.norm(others[:, :2] - place[:2], axis=1) < BESIDE
    return not (near & (others[:, 2] > place[2] - LAYER)).any()


@pytest.mark.parametrize("cubes", [1, 2, 3])
def test_cubes_come_home_without_being_pulled_from_under_others(cubes: int) -> None:
    generator = np.random.default_rng(cubes)
    for _ in range(200):
        now, goals = arrangement(generator, cubes), arrangement(generator, cubes)
        for _ in range(4 * cubes):
            move = next_move(now, goals)
            if move is None:
                break
            assert is_clear(now, move.cube, now[move.cube] + [0, 0, 0.04]), "a cube stands on it"
            assert is_clear(now, move.cube, np.array(move.position)), "the place is taken"
            now[move.cube] = move.position
        assert (np.linalg.norm(now - goals, axis=1) <= IN_PLACE).all()


def test_every_puzzle_is_solved_by_the_fewest_presses() -> None:
    wanted = np.zeros(9, int)
    longest = 0
    for lights in product((0, 1), repeat=9):
        buttons = presses(np.array(lights), wanted)
        flips = sum((effect(button) for button in buttons), np.zeros(9, int))
        np.testing.assert_array_equal((np.array(lights) + flips) % 2, wanted)
        assert len(set(buttons)) == len(buttons)
        longest = max(longest, len(buttons))
    assert longest == 9, "some need every button"


def act(now: SceneState, step: Move | Press | Slide) -> SceneState:
    """Return what a perfect arm would make of ``now``; refuse what the scene would not allow."""
    cube, buttons, slides = now.cube.copy(), now.buttons.copy(), now.slides.copy()
    if isinstance(step, Press):
        buttons[step.button] ^= 1
    elif isinstance(step, Slide):
        assert buttons[step.slide] == 1, "it is locked"
        if step.slide == DRAWER and cube[2] > 0.05:
            cube[1] += 0.116 * (1 if step.position < slides[DRAWER] else -1)
        slides[step.slide] = step.position
    else:
        if step.position == IN_DRAWER:
            assert slides[DRAWER] <= DRAWER_OPEN_ENOUGH, "the drawer is shut"
        cube = np.array(step.position)
    return SceneState(cube, buttons, slides)


def test_the_scene_is_brought_into_every_wanted_state() -> None:
    """Locks are opened before what they lock, and the drawer before its cube."""
    switches = [np.array(pair) for pair in product((0, 1), repeat=2)]
    slides = [np.array(pair) for pair in product((DRAWER_OPEN, 0.0), (0.0, 0.2))]
    starts = [SceneState(np.array([0.35, 0.05, 0.02]), b, s) for b in switches for s in slides]
    goals = [SceneState(np.array([0.4, 0.15, 0.02]), b, s) for b in switches for s in slides]
    goals += [SceneState(np.array(IN_CLOSED_DRAWER), b, s) for b in switches for s in slides
              if s[DRAWER] == 0.0]
    for start, goal in product(starts, goals):
        now = start
        for _ in range(12):
            step = next_step(now, goal)
            if step is None:
                break
            now = act(now, step)
        np.testing.assert_array_equal(now.buttons, goal.buttons)
        np.testing.assert_allclose(now.slides, goal.slides)
        assert np.linalg.norm(now.cube - goal.cube) <= IN_PLACE
