"""An environment as the arm would run it: ticks, stamps, holds, refusals, the latched stop."""

from __future__ import annotations

import numpy as np
import pytest

from poco_ros.core.chunk import ActionChunk
from poco_ros.core.environment import Environment, EnvironmentSpec, Step
from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.joining import EpisodeBuilder, TickStatus
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.rollout import run_episode
from poco_ros.core.seeding import chunk_seed
from sim_bridge.session import Session

PERIOD = 50_000_000


class Line(Environment):
    """A point on a line, moved by the action; success beyond 1."""

    spec = EnvironmentSpec("line", ObservationLayout((("state", 2),)), 1, 30, 0.05, ("x",))

    def reset(self, seed: int) -> np.ndarray:
        self.x, self.steps = (seed % 100) / 1000.0, 0
        return self._observation()

    def step(self, action: np.ndarray) -> Step:
        if not np.isfinite(self.x + action[0]) or abs(action[0]) > 0.99:
            raise DataError("the simulation diverged")
        self.x, self.steps = self.x + float(action[0]), self.steps + 1
        success = self.x > 1.0
        return Step(self._observation(), float(success), success,
                    self.steps >= 30 and not success, success)

    def _observation(self) -> np.ndarray:
        return np.array([self.x, self.steps], np.float32)

    def joint_positions(self) -> np.ndarray:
        return np.array([self.x])

    def render(self, width: int, height: int) -> np.ndarray:
        return np.zeros((height, width, 3), np.uint8)

    def close(self) -> None:
        """Nothing is held."""


class Walker:
    """A policy whose chunks are noise with a drift, a function of the seed."""

    version = 3

    def act(self, observation: np.ndarray, seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(0.04, 0.05, (4, 1))
        return np.clip(noise + 0.001 * observation[0], -0.9, 0.9).astype(np.float32)


def chunk(number: int = 1, values: tuple[float, ...] = (0.1, 0.1), stamp: int = 0,
          task: str = "line") -> ActionChunk:
    return ActionChunk(np.array(values, np.float32)[:, None], number, 3, stamp, task)


def begun(max_steps: int = 0, **settings: float) -> Session:
    session = Session(Line(), **settings)  # type: ignore[arg-type]
    session.begin("e", 7, max_steps, now=1_000)
    return session


def lockstep_episode(seed: int) -> Episode:
    """Play the part of the rollout, chunk by chunk."""
    session, builder, policy = Session(Line()), None, Walker()
    session.begin("e", seed, 0, now=5 * PERIOD)
    builder = EpisodeBuilder("e", "line", session.stamp)
    assert session.observation is not None
    builder.add_observation(session.stamp, session.observation)
    number = 0
    while not builder.closed:
        actions = policy.act(session.observation, chunk_seed(seed, number))
        number += 1
        session.offer(ActionChunk(actions, number, 3, session.stamp, "line"), "e", 0)
        while session.due:
            tick = session.tick(session.stamp + session.period)
            assert tick.reward is not None and tick.observation is not None
            builder.add_observation(tick.stamp, tick.observation)
            builder.add_executed(tick.executed)
            builder.add_reward(tick.reward)
    return builder.build()


@pytest.mark.parametrize("seed", [0, 11, 99])
def test_a_lockstep_episode_is_that_of_the_loop_in_one_process(seed: int) -> None:
    assert lockstep_episode(seed).to_bytes() == \
        run_episode(Line(), Walker(), seed, "e").to_bytes()


def test_a_tick_has_one_stamp() -> None:
    session = begun()
    first = session.stamp
    session.offer(chunk(), "e", 0)
    tick = session.tick(first + PERIOD)
    assert tick.executed.stamp == first and tick.executed.step == 0
    assert tick.reward is not None
    assert tick.reward.stamp == tick.stamp == session.stamp == first + PERIOD


def test_stamps_rise_even_when_the_clock_jumps_back() -> None:
    session = begun()
    stamps = [session.stamp, session.tick(now=500).stamp, session.tick(now=1).stamp]
    session.begin("f", 8, 0, now=0)
    stamps.append(session.stamp)
    assert stamps == sorted(set(stamps))


def test_without_an_action_the_tick_is_held_and_moves_nothing() -> None:
    session = begun()
    tick = session.tick(2_000)
    assert tick.executed.status == TickStatus.HELD and tick.executed.chunk_id == 0
    assert tick.executed.policy_version == 0 and not tick.executed.executed.any()
    assert tick.observation is not None and tick.observation[0] == np.float32(0.007)


@pytest.mark.parametrize(("offered", "episode", "why"), [
    (chunk(task="other"), "e", "for task 'other'"),
    (chunk(), "another", "for episode 'another'"),
    (chunk(stamp=-2_000_000_000), "e", "2.000 s old"),
    (ActionChunk(np.zeros((2, 3)), 1, 3, 0, "line"), "e", "3 values"),
])
def test_a_chunk_that_does_not_fit_is_refused(offered: ActionChunk, episode: str,
                                              why: str) -> None:
    session = begun(max_chunk_age=1.0)
    with pytest.raises(DataError, match=why):
        session.offer(offered, episode, now=0)
    assert not session.due


def test_a_repeated_chunk_is_refused_and_ids_start_again_with_an_episode() -> None:
    session = begun()
    session.offer(chunk(2), "e", 0)
    for number in (2, 1):
        with pytest.raises(DataError, match="not newer than chunk 2"):
            session.offer(chunk(number), "e", 0)
    session.begin("f", 0, 0, 0)
    session.offer(chunk(1), "f", 0)
    assert session.due


def test_the_step_limit_of_reset_truncates() -> None:
    session = begun(max_steps=2)
    ticks = [session.tick(n) for n in (10, 20)]
    assert ticks[1].reward is not None and ticks[1].reward.truncated
    assert ticks[1].reward.outcome == Outcome.NONE and not session.running
    with pytest.raises(DataError, match="no episode is running"):
        session.offer(chunk(), "e", 0)


def test_the_stop_is_latched_until_released_and_the_episode_does_not_go_on() -> None:
    session = begun()
    session.offer(chunk(), "e", 0)
    assert session.stop("a person").status == TickStatus.STOPPED
    before = session.environment.joint_positions()
    tick = session.tick(10)
    assert tick.executed.status == TickStatus.STOPPED and tick.reward is None
    np.testing.assert_array_equal(session.environment.joint_positions(), before)
    with pytest.raises(DataError, match="stop is latched"):
        session.begin("f", 0, 0, 0)
    with pytest.raises(DataError, match="stop is latched"):
        session.offer(chunk(3), "e", 0)
    session.release()
    assert not session.running
    session.begin("f", 0, 0, 0)
    assert session.running


def test_a_simulation_that_diverges_stops_the_episode_with_the_reason() -> None:
    session = begun()
    session.offer(chunk(values=(0.1, 0.995)), "e", 0)
    session.tick(10)
    tick = session.tick(20)
    assert tick.executed.status == TickStatus.STOPPED and "diverged" in tick.executed.reason
    assert not session.running
