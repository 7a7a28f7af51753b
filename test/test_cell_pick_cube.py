"""Pick Cube in one process: the scripted hand, its mistakes, and the environment's contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from poco_ros.cell.config import CameraConfig, CellConfig
from poco_ros.cell.pick_cube import gripper_action, gripper_opening
from poco_ros.cell.scene import CONTROL_PERIOD
from poco_ros.cell.simulation import Delays, PickCubeSim, PictureFeatures, demonstrate
from poco_ros.core.errors import DataError


@pytest.fixture(scope="module")
def environment() -> PickCubeSim:
    return PickCubeSim()


def steady() -> CellConfig:
    """Return settings of a hand that makes no mistakes."""
    config = CellConfig()
    return replace(config, script=replace(config.script, position_noise=0.0, yaw_noise=0.0,
                                          action_noise=0.0))


def test_a_hand_without_mistakes_always_lifts_the_cube() -> None:
    environment = PickCubeSim(steady())
    assert all(demonstrate(environment, seed, f"d{seed}").success for seed in range(30))


def test_the_imperfect_hand_succeeds_in_40_to_75_percent(environment: PickCubeSim) -> None:
    successes = [demonstrate(environment, seed, f"d{seed}").success for seed in range(60)]
    assert 0.40 <= np.mean(successes) <= 0.75


def test_a_demonstration_is_a_function_of_its_seed(environment: PickCubeSim) -> None:
    first = demonstrate(environment, 11, "a")
    demonstrate(environment, 12, "b")
    again = demonstrate(environment, 11, "a")
    assert first.to_bytes() == again.to_bytes()


def test_demonstrations_are_whole_episodes_marked_as_such(environment: PickCubeSim) -> None:
    episodes = [demonstrate(environment, seed, f"d{seed}") for seed in range(12)]
    for episode in episodes:
        assert episode.source == "demonstration" and episode.task == "pick-cube"
        assert episode.observations.shape == (len(episode) + 1, environment.spec.observation.size)
        assert episode.terminated == episode.success == bool(episode.rewards[-1])
        assert episode.rewards[:-1].sum() == 0.0
        assert 20 < len(episode) < 120
    assert {episode.success for episode in episodes} == {True, False}


def test_after_the_end_the_environment_wants_a_reset() -> None:
    environment = PickCubeSim(max_episode_steps=3)
    with pytest.raises(RuntimeError, match="reset"):
        environment.step(np.zeros(7))
    environment.reset(0)
    steps = [environment.step(np.zeros(7)) for _ in range(3)]
    assert [step.truncated for step in steps] == [False, False, True]
    assert not any(step.terminated for step in steps)
    with pytest.raises(RuntimeError, match="reset"):
        environment.step(np.zeros(7))


@pytest.mark.parametrize("action", [np.zeros(6), np.full(7, np.nan), np.zeros((1, 7))])
def test_actions_of_a_wrong_shape_or_not_finite_are_refused(
        environment: PickCubeSim, action: np.ndarray) -> None:
    environment.reset(0)
    with pytest.raises(DataError, match="action"):
        environment.step(action)


def test_one_tick_moves_the_joints_by_the_action_and_no_further(environment: PickCubeSim) -> None:
    environment.reset(0)
    start = environment.joint_positions()[:-1]
    action = np.array([1.0, -0.5, 0.5, 1.0, -1.0, 5.0, 1.0])
    environment.step(action)
    for _ in range(14):
        environment.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    moved = environment.joint_positions()[:-1] - start
    expected = np.clip(action[:-1], -1, 1) * environment.config.script.joint_step
    np.testing.assert_allclose(moved, expected, atol=4e-3)


def test_gripper_actions_and_openings_are_inverse() -> None:
    for opening in np.linspace(0.0, 0.07, 8):
        assert gripper_opening(gripper_action(opening)) == pytest.approx(opening)
    assert gripper_action(1.0) == 1.0 and gripper_opening(-3.0) == 0.0


def test_observations_can_come_from_pictures_alone() -> None:
    config = replace(CellConfig(), cameras=(CameraConfig("front", 32, 32),))
    features = PictureFeatures((("brightness", 3),),
                               lambda pictures: {"brightness": pictures["front"].mean((0, 1))})
    environment = PickCubeSim(config, features)
    observation = environment.reset(4)
    assert environment.spec.observation.parts == (("brightness", 3), ("joint_states", 7))
    np.testing.assert_array_equal(observation, environment_again(config, features, 4))
    assert environment.render(48, 40).shape == (40, 48, 3)


def test_delays_leave_a_tick_as_long_and_show_an_older_picture() -> None:
    """Joints are of the end of a tick, what is seen of a moment before; both by the seed alone."""
    config = replace(CellConfig(), cameras=(CameraConfig("front", 32, 32, noise=0.0),))
    seen_at: list[float] = []

    def look(_: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen_at.append(environment.scene.time)
        return {"moment": np.array([environment.scene.time])}

    environment = PickCubeSim(config, PictureFeatures((("moment", 1),), look), 100,
                              Delays(0.02, (0.01, 0.03)))
    found = []
    for _ in range(2):
        observations = [environment.reset(3)]
        begun = environment.scene.time
        for _ in range(20):
            observations.append(environment.step(np.array([0.5] * 7)).observation)
        tick = 13 * CONTROL_PERIOD  # 1/15 s in whole periods of the drives
        assert environment.scene.time - begun == pytest.approx(20 * tick, abs=1e-6)
        ends = begun + np.arange(1, 21) * tick
        ages = ends - np.array([observation[0] for observation in observations[1:]])
        assert (ages > 0.005).all() and (ages < 0.035).all() and np.ptp(ages) > 0.01
        found.append(np.stack(observations)[:, 1:])
    np.testing.assert_array_equal(*found)


def test_an_action_that_waits_moves_the_arm_later() -> None:
    first = []
    for delays in (None, Delays(0.04, (0.0, 0.0))):
        environment = PickCubeSim(delays=delays)
        start = environment.reset(0)
        first.append(float(np.abs(environment.step(np.full(7, 0.8)).observation - start)[-7]))
    assert 0.0 < first[1] < 0.8 * first[0]


def environment_again(config: CellConfig, features: PictureFeatures, seed: int) -> np.ndarray:
    """Return the first observation of a new environment: noise is a function of the seed too."""
    return PickCubeSim(config, features).reset(seed)
