"""One contract, held by every simulated environment; and OGBench's own numbers, bit for bit."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from poco_ros.core.environment import Step
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.core.robomimic import ROBOMIMIC_TASKS
from poco_ros.core.task import SIMULATED_DOMAINS, TaskConfig
from poco_ros.data.config import DemonstrationConfig
from poco_ros.data.directed.generate import demonstrate, make_demonstrator
from sim_bridge.factory import make_environment
from sim_bridge.simulated import SimulatedEnvironment

SIZES = {"cube-single": (28, 5, 200), "cube-double": (37, 5, 500), "cube-triple": (46, 5, 1000),
         "scene": (40, 5, 750), "puzzle-3x3": (55, 5, 500), "lift": (19, 7, 300),
         "can": (23, 7, 300), "square": (23, 7, 400)}
"""Observation, action and time limit of each domain, as the benchmarks publish them."""
PARTS = {"cube-single": 1, "cube-double": 2, "cube-triple": 3, "scene": 5, "puzzle-3x3": 9,
         "lift": 3, "can": 5, "square": 5}
"""Subgoals of each domain."""


@pytest.fixture(scope="module", params=[
    pytest.param(domain, marks=pytest.mark.xdist_group(f"contract of {domain}"))
    for domain in SIMULATED_DOMAINS])
def environment(request: pytest.FixtureRequest) -> Iterator[SimulatedEnvironment]:
    """One environment a domain, that all tests of the contract use one after the other."""
    made = make_environment(TaskConfig(domain=request.param))
    yield made
    made.close()


def random_actions(environment: SimulatedEnvironment, count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.uniform(-1, 1, (count, environment.spec.action_dim)).astype(np.float32)


def play(environment: SimulatedEnvironment, seed: int, actions: np.ndarray) -> np.ndarray:
    """Return the observations (L+1, O) of an episode with given actions."""
    seen = [environment.reset(seed)]
    seen += [environment.step(action).observation for action in actions]
    return np.stack(seen)


def with_task(environment: SimulatedEnvironment, **changes: Any) -> TaskConfig:
    """Give a running environment other rules; what is compiled stays."""
    before = environment.task
    environment.task = TaskConfig(domain=before.domain, number=before.number, **changes)
    return before


@functools.cache
def solve(environment: SimulatedEnvironment, seed: int = 0) -> tuple[list[np.ndarray], list[Step]]:
    """Return actions and steps of an episode that ends in success, solved once for all tests.

    After its end no step is taken any more.
    """
    settings = DemonstrationConfig(noise=0.0, attempts=5)
    demonstrator = make_demonstrator(environment, settings)
    np.random.seed(seed)
    environment.reset(seed)
    demonstrator.begin()
    actions, steps = [], []
    while not steps or not (steps[-1].terminated or steps[-1].truncated):
        wanted = demonstrator.act()
        assert wanted is not None, "the demonstrator gave up"
        actions.append(wanted.astype(np.float32))
        steps.append(environment.step(actions[-1]))
    with pytest.raises(RuntimeError, match="reset"):
        environment.step(np.zeros(environment.spec.action_dim))
    return actions, steps


class TestContract:
    """What the trainer, the workers and the graph rely on."""

    def test_the_specification_is_the_benchmarks(self, environment: SimulatedEnvironment) -> None:
        domain, spec = environment.task.domain, environment.spec
        assert spec.task == f"{domain}-task1"
        assert spec.observation.parts == (("state", SIZES[domain][0]),)
        assert (spec.action_dim, spec.max_episode_steps) == SIZES[domain][1:]
        assert spec.control_period == pytest.approx(0.05)
        assert environment.subgoals().shape == (PARTS[domain],)

    def test_an_episode_is_a_function_of_its_seed(self, environment: SimulatedEnvironment) -> None:
        actions = random_actions(environment, 12)
        first = play(environment, 5, actions)
        play(environment, 6, random_actions(environment, 20, seed=1))
        np.random.uniform(size=7)  # nor does it listen to the global random numbers
        again = play(environment, 5, actions)
        np.testing.assert_array_equal(first, again)

    def test_another_instance_gives_the_same_episode_up_to_its_time_limit(
            self, environment: SimulatedEnvironment) -> None:
        """A time limit truncates and does not terminate."""
        actions = random_actions(environment, 8)
        want = play(environment, 5, actions)
        other = make_environment(TaskConfig(domain=environment.task.domain, max_episode_steps=8))
        assert other.spec.max_episode_steps == 8
        np.testing.assert_array_equal(other.reset(5), want[0])
        steps = [other.step(action) for action in actions]
        np.testing.assert_array_equal([step.observation for step in steps], want[1:])
        ends = [(step.terminated, step.truncated) for step in steps]
        assert ends == [(False, False)] * 7 + [(False, True)]
        with pytest.raises(RuntimeError, match="reset"):
            other.step(actions[0])
        other.close()

    def test_seeds_differ_and_observations_fit_the_layout(
            self, environment: SimulatedEnvironment) -> None:
        seen = [environment.reset(1), *play(environment, 2, random_actions(environment, 1))]
        assert (seen[0] != seen[1]).any()
        for observation in seen:
            assert observation.dtype == np.float32
            environment.spec.observation.check(observation)

    def test_a_bad_action_is_refused_and_moves_nothing(
            self, environment: SimulatedEnvironment) -> None:
        actions = random_actions(environment, 3)
        want = play(environment, 3, actions)
        environment.reset(3)
        environment.step(actions[0])
        number = np.arange(len(actions[1]))
        for bad, said in ((actions[1][:-1], "shape"), (actions[1][None], "shape"),
                          (np.where(number == 1, np.nan, actions[1]), "not finite"),
                          (actions[1] + 3.0, "leaves")):
            with pytest.raises(DataError, match=said):
                environment.step(bad)
        np.testing.assert_array_equal(environment.step(actions[1]).observation, want[2])

    def test_joints_have_the_names_of_the_specification(
            self, environment: SimulatedEnvironment) -> None:
        environment.reset(0)
        joints = environment.joint_positions()
        assert joints.shape == (len(environment.spec.joint_names),)
        assert environment.spec.joint_names[-1] == "gripper" and 0.0 <= joints[-1] <= 0.09
        assert (np.abs(joints) < 2 * np.pi).all() and joints.dtype == np.float64

    def test_looking_changes_nothing(self, environment: SimulatedEnvironment) -> None:
        actions = random_actions(environment, 6)
        want = play(environment, 4, actions)
        seen = [environment.reset(4)]
        for action in actions:
            picture = environment.render(40, 30)
            assert picture.shape == (30, 40, 3) and picture.dtype == np.uint8
            assert picture.std() > 5.0, "a picture of nothing"
            seen.append(environment.step(action).observation)
        np.testing.assert_array_equal(np.stack(seen), want)
        with pytest.raises(DataError, match="0 x 30"):
            environment.render(0, 30)

    def test_success_ends_the_episode_with_its_reward(
            self, environment: SimulatedEnvironment) -> None:
        _, steps = solve(environment)
        assert steps[-1].terminated and steps[-1].success and not steps[-1].truncated
        assert [step.reward for step in steps] == [0.0] * (len(steps) - 1) + [1.0]

    def test_pre_judges_the_state_that_a_step_started_from(
            self, environment: SimulatedEnvironment) -> None:
        actions, post = solve(environment)
        before = with_task(environment, success_timing="pre", reward_offset=-1.0)
        try:
            environment.reset(0)
            still = np.zeros(environment.spec.action_dim, np.float32)
            pre = [environment.step(action) for action in [*actions, still]]
            with pytest.raises(RuntimeError, match="reset"):
                environment.step(still)
        finally:
            environment.task = before
        assert [step.terminated for step in pre] == [False] * len(actions) + [True]
        assert [step.reward for step in pre] == [-1.0] * len(actions) + [0.0]
        np.testing.assert_array_equal(pre[-2].observation, post[-1].observation)

    def test_staged_reward_is_the_share_of_the_subgoals(
            self, environment: SimulatedEnvironment) -> None:
        actions, sparse = solve(environment)
        before = with_task(environment, reward="staged")
        try:
            environment.reset(0)
            shares = []
            for action, other in zip(actions, sparse, strict=True):
                step = environment.step(action)
                shares.append(step.reward)
                assert step.reward == pytest.approx(environment.subgoals().mean())
                assert step.success == other.success
        finally:
            environment.task = before
        assert shares[-1] == 1.0 and max(shares[:-1], default=0.0) < 1.0

    def test_a_demonstration_replays_from_its_actions(
            self, environment: SimulatedEnvironment) -> None:
        """What is stored is what was executed."""
        np.random.seed(2)
        demonstrator = make_demonstrator(environment, DemonstrationConfig(noise=0.3))
        episode = demonstrate(environment, demonstrator, 2, "demo")
        np.testing.assert_array_equal(play(environment, 2, episode.actions), episode.observations)


@pytest.mark.parametrize("domain", ["cube-triple", "scene", "puzzle-3x3"])
def test_ogbench_is_bit_identical_to_the_plain_environment(domain: str) -> None:
    """Ours against OGBench's class whose action space is seeded and nothing else."""
    from gymnasium.spaces import Box

    from sim_bridge.ogbench_models import CLASSES, Puzzle, make_task

    cls, variant = CLASSES[domain]
    plain_class: Any = cls.__mro__[2]

    class Plain(plain_class):  # type: ignore[misc]
        actions = Box(-1.0, 1.0, (5,), np.float32)

        @property
        def action_space(self) -> Box:
            return self.actions

    assert plain_class.__module__.startswith("ogbench.")
    order = {} if cls is Puzzle else {"permute_blocks": False}
    plain, ours = Plain(env_type=variant, reward_task_id=2, **order), make_task(domain, 2)
    generator = np.random.default_rng(0)
    for seed in (3, 4):
        plain.actions.seed(seed)
        want, _ = plain.reset(seed=seed)
        got, _ = ours.reset(seed=seed)
        np.testing.assert_array_equal(got, want)
        for _ in range(60):
            action = generator.uniform(-1, 1, 5)
            action[2] = -abs(action[2])  # down, to where buttons and cubes are touched
            want, reward, *_, info = plain.step(action)
            got, ours_reward, *_, ours_info = ours.step(action)
            np.testing.assert_array_equal(got, want)
            np.testing.assert_array_equal(ours_info["qvel"], info["qvel"])
            assert ours_reward == reward
            assert ours.successes().sum() - len(ours.successes()) == reward


@pytest.mark.parametrize("domain", ROBOMIMIC_TASKS)
def test_robomimic_has_one_task_a_domain(domain: str) -> None:
    with pytest.raises(ConfigError, match=f"{domain} has only task 1"):
        make_environment(TaskConfig(domain=domain, number=2))


def test_simulators_come_quietly_and_start_no_opengl() -> None:
    """Importing the package imports none; making an environment prints nothing, looks for no
    OpenGL whatever ``MUJOCO_GL`` asks for, and leaves the process's variables alone."""
    program = """
import os, sys
import sim_bridge.factory, sim_bridge.workers
assert "mujoco" not in sys.modules
from poco_ros.core.task import TaskConfig
def graphics():
    return {name: value for name, value in os.environ.items()
            if name.startswith(("MUJOCO", "PYOPENGL", "DISPLAY"))}
before = graphics()
for domain in ("scene", "lift"):
    environment = sim_bridge.factory.make_environment(TaskConfig(domain=domain))
    environment.reset(0)
    environment.close()
assert graphics() == before, graphics()
assert not [name for name in sys.modules if name.startswith("OpenGL")]
"""
    environment = dict(os.environ, MUJOCO_GL="osmesa",  # asked for, and perhaps not there
                       PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and done.stderr == ""
