"""Scripted operators at RoboMimic's tasks: each succeeds in several ways, errs and recovers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from poco_ros.core.robomimic import ROBOMIMIC_TASKS
from poco_ros.core.task import TaskConfig
from poco_ros.data.directed.generate import demonstrate
from poco_ros.data.directed.robomimic import task as shared
from poco_ros.data.directed.robomimic.demonstrator import RobomimicDemonstrator
from poco_ros.data.directed.robomimic.operators import OPERATORS, draw_style
from poco_ros.data.seeded import global_numpy_seed
from sim_bridge.robosuite_env import ENVIRONMENTS, RobosuiteEnvironment


@pytest.fixture(scope="module", params=[
    pytest.param(task, marks=pytest.mark.xdist_group(f"operators of {task}"))
    for task in ROBOMIMIC_TASKS])
def environment(request: pytest.FixtureRequest) -> Iterator[RobosuiteEnvironment]:
    made = ENVIRONMENTS[request.param](TaskConfig(domain=request.param))
    yield made
    made.close()


def demonstrator(environment: RobosuiteEnvironment, noise: float = 0.0, attempts: int = 3,
                 operator: int | None = None) -> RobomimicDemonstrator:
    made = RobomimicDemonstrator(environment, noise, 2.0, attempts)
    made.operator = None if operator is None else OPERATORS[operator]
    return made


def possible_grasps(environment: RobosuiteEnvironment, start: int) -> list[float]:
    """Return the turns that the wrist can reach; a nut has two when its handle points sideways."""
    environment.reset(start)
    people = demonstrator(environment)
    people.begin()
    assert people.task is not None
    return [grasp.yaw for grasp in people.task.grasps() if abs(grasp.yaw) < shared.MOST_TURN]


@pytest.mark.parametrize("operator", [0, 3, 5])
def test_an_operator_who_does_not_err_succeeds(
        environment: RobosuiteEnvironment, operator: int) -> None:
    people = demonstrator(environment, operator=operator)
    with global_numpy_seed(operator):
        episode = demonstrate(environment, people, 20 + operator, "demo")
    assert episode.success and episode.rewards.sum() == 1.0
    assert episode.notes[0] == OPERATORS[operator].name
    assert (np.abs(episode.actions) <= 1.0).all() and set(episode.actions[:, 6]) == {-1.0, 1.0}


def test_one_start_is_worked_from_in_several_ways(environment: RobosuiteEnvironment) -> None:
    """Turns of the hand, ways to the thing and times differ, where the start is the same."""
    start = next(seed for seed in range(17, 50) if len(possible_grasps(environment, seed)) > 1)
    yaws, sides, times = [], [], []
    for seed in range(8):
        people = demonstrator(environment)
        with global_numpy_seed(seed):
            environment.reset(start)
            people.begin()
            assert people.task is not None
            hand, way = people.task.hand, []
            while (action := people.act()) is not None and action[6] < 0.0:
                environment.step(action)
                way.append(hand.position - people.task.grasp_point())
        yaws.append(hand.yaw)
        times.append(len(way))
        near = next(each for each in way if np.linalg.norm(each) < 0.07)
        sides.append(np.linalg.norm(near[:2]))
    assert np.ptp(yaws) > 0.4, "several grasps"
    assert min(sides) < 0.025 and max(sides) > 0.05, "from above, and from the side"
    assert max(times) > 1.15 * min(times), "slow and quick"


def test_operators_differ_in_skill_and_carry_things_at_any_height() -> None:
    groups = [operator.group for operator in OPERATORS]
    assert groups == ["better", "better", "okay", "okay", "worse", "worse"]
    by_group = {group: [o.clumsiness for o in OPERATORS if o.group == group] for group in groups}
    assert max(by_group["better"]) < min(by_group["okay"])
    assert max(by_group["okay"]) < min(by_group["worse"])
    with global_numpy_seed(0):
        styles = [draw_style(OPERATORS[0], 0.2) for _ in range(200)]
    assert np.histogram([style.carry for style in styles], 4, (0, 1))[0].min() > 20
    assert {style.in_an_arc for style in styles} == {True, False}
    assert not any(replace(style, noise=0.0).errs(1.0) for style in styles)


def test_what_slips_or_was_missed_is_taken_again(environment: RobosuiteEnvironment) -> None:
    """Sooner or later an operator errs and yet succeeds; the error is told."""
    people = demonstrator(environment, noise=0.4, attempts=5, operator=2)
    told: set[str] = set()
    for seed in range(20):
        with global_numpy_seed(seed):
            episode = demonstrate(environment, people, seed, "demo")
        if episode.success and people.mishaps:
            told |= {note.split()[0] for note in episode.notes[1:]}
            closed = np.flatnonzero(np.diff(episode.actions[:, 6]) > 0)
            assert len(closed) > 1, "the hand closed more than once"
            break
    assert told & {"slipped", "missed", "misplaced"}


def test_an_operator_gives_up_after_as_many_tries_as_allowed(
        environment: RobosuiteEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fingers that let go each time, at the first moment."""
    monkeypatch.setattr(shared, "SLIPS", 1e9)
    monkeypatch.setattr(shared, "SLIPS_IN", (2, 3))
    monkeypatch.setattr(shared, "AIM", np.zeros(3))
    for attempts in (1, 2):
        people = demonstrator(environment, noise=1e-6, attempts=attempts, operator=0)
        with global_numpy_seed(1):
            episode = demonstrate(environment, people, 1, "demo")
        assert not episode.success and episode.truncated
        assert episode.notes == ("the plan ended without success", "better_operator_1",
                                 f"slipped {attempts}")
