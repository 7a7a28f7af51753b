"""Real time: ticks of wall time, held when a chunk is late; people who label; a learner away."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from graph_support import TASK, Graph, Onlooker, ros, write_preset
from poco_msgs.msg import ActionChunk, ExecutedAction, Features, Reward
from poco_msgs.srv import Reset
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool

from poco_ros.core import chunk as core
from poco_ros.core.joining import ExecutedAction as Executed
from poco_ros.core.joining import RewardSample, TickStatus
from poco_ros.ros import convert, names

pytestmark = pytest.mark.graph
RATE = 40.0
WINDOW = 1.5
CHANGES = {
    "task": {"max_episode_steps": 160},
    "graph": {"sim_bridge": {"rate": RATE, "max_chunk_age": 0.5, "publish_clock": True},
              "rollout": {"correction_window": WINDOW, "store_timeout": 0.5}},
}


class Operator(Onlooker):
    """Drives the environment side by hand."""

    def __init__(self) -> None:
        super().__init__("operator")
        self.episode = ""
        self._heard: list[int] = []
        self.executed: list[Executed] = []
        self.rewards: list[RewardSample] = []
        self.chunk = self.create_publisher(ActionChunk, names.ACTION_CHUNK, names.CHUNK_QOS)
        self.loop.subscribe(Features, names.FEATURES, self._on_features, names.TICK_QOS)
        self.loop.subscribe(ExecutedAction, names.EXECUTED_ACTION, self._on_executed,
                            names.TICK_QOS)
        self.loop.subscribe(Reward, names.REWARD, self._on_reward, names.TICK_QOS)
        self.clock: list[int] = []
        self.loop.subscribe(Clock, names.CLOCK,
                            lambda m: self.clock.append(convert.stamp_of(m.clock)),
                            names.TICK_QOS)
        self.reset = self.loop.client(Reset, names.RESET)
        self.stop = self.loop.client(SetBool, names.STOP)

    def _on_features(self, message: Features) -> None:
        self._heard.append(convert.stamp_of(message.header.stamp))

    def _on_executed(self, message: ExecutedAction) -> None:
        if message.episode_id == self.episode:
            self.executed.append(convert.executed_of(message))

    def _on_reward(self, message: Reward) -> None:
        if message.episode_id == self.episode:
            self.rewards.append(convert.reward_of(message))

    @property
    def observations(self) -> list[int]:
        """The stamps of this episode's observations: from the one that was first acted on.

        The last ones of the episode before, which bear no name, may come after the reset.
        """
        return [stamp for stamp in self._heard
                if self.executed and stamp >= self.executed[0].stamp]

    def begin(self, name: str, max_steps: int = 0) -> None:
        """Reset until the environment side has heard of us, and await the first observation."""
        self.episode = name
        self._heard.clear()
        self.executed.clear()
        self.rewards.clear()
        answers: list[Reset.Response] = []

        def begun() -> bool:
            if not answers or not answers[-1].success:
                answers.append(self.ask(self.reset, Reset.Request(
                    episode_id=name, seed=1, max_steps=max_steps)))
            return bool(answers[-1].success and self.observations)

        self.until(begun, f"reset of {name}")

    def send(self, number: int, episode: str, task: str = TASK, age: float = 0.0,
             values: np.ndarray | None = None) -> None:
        stamp = self.observations[-1] - round(age * 1e9)
        actions = np.full((3, 5), 0.01 * number, np.float32) if values is None else values
        self.chunk.publish(convert.chunk_to_msg(
            core.ActionChunk(actions, number, 7, stamp, task), episode))


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("bridge")
    preset = write_preset(folder / "tiny.yaml", CHANGES)
    with ros(), Graph(folder) as graph:
        graph.start("sim_bridge", preset=preset, pace="realtime")
        operator = Operator()
        operator.begin("first")
        yield operator
        operator.destroy_node()


def test_ticks_take_their_time_and_are_held_without_a_chunk(bridge: Operator) -> None:
    bridge.begin("held", max_steps=25)
    bridge.until(lambda: (len(bridge.observations), len(bridge.executed), len(bridge.rewards))
                 == (26, 25, 25), "25 ticks")
    assert {e.status for e in bridge.executed} == {TickStatus.HELD}
    assert bridge.rewards[-1].truncated and not bridge.rewards[0].truncated
    stamps = np.array(bridge.observations)
    assert [e.stamp for e in bridge.executed] == stamps[:-1].tolist()
    assert [r.stamp for r in bridge.rewards] == stamps[1:].tolist()
    assert np.median(np.diff(stamps)) / 1e9 == pytest.approx(1 / RATE, rel=0.2)


def test_the_clock_is_that_of_the_ticks_and_never_goes_back(bridge: Operator) -> None:
    bridge.begin("clocked", max_steps=20)
    bridge.until(lambda: len(bridge.observations) == 21, "20 ticks")
    stamps = bridge.observations
    bridge.until(lambda: bridge.clock[-1] >= stamps[-1], "the clock of the last tick")
    assert set(stamps) <= set(bridge.clock) and bridge.clock == sorted(set(bridge.clock))
    assert set(np.diff(stamps)) == {round(1e9 / RATE)}


def test_a_chunk_is_played_one_action_a_tick_and_then_held(bridge: Operator) -> None:
    bridge.begin("played")
    bridge.send(1, "played")
    bridge.until(lambda: any(e.chunk_id == 1 and e.index == 2 for e in bridge.executed),
                 "the chunk is played")
    played = [e for e in bridge.executed if e.chunk_id == 1]
    assert [e.index for e in played] == [0, 1, 2]
    assert {e.policy_version for e in played} == {7}
    assert all((e.executed == np.float32(0.01)).all() for e in played)
    steps = [e.step for e in played]
    assert steps == list(range(steps[0], steps[0] + 3))
    bridge.until(lambda: bridge.executed[-1].step > steps[-1], "the tick after it")
    assert bridge.executed[-1].status == TickStatus.HELD


def test_what_must_not_be_executed_is_refused_counted_and_told(bridge: Operator) -> None:
    bridge.begin("refusing")
    poisoned = np.zeros((3, 5), np.float32)
    bridge.send(1, "refusing", task="scene-task1")
    bridge.until(lambda: bridge.says("sim_bridge", "for task 'scene-task1'"), "another task")
    bridge.send(2, "a past episode")
    bridge.until(lambda: bridge.says("sim_bridge", "for episode 'a past episode'"), "episode")
    bridge.send(3, "refusing", age=2.0)
    bridge.until(lambda: bridge.says("sim_bridge", "allowed are 0.5 s"), "a stale chunk")
    bridge.send(4, "refusing", values=np.zeros((3, 4), np.float32))
    bridge.until(lambda: bridge.says("sim_bridge", "4 values an action, expected 5"), "size")
    message = convert.chunk_to_msg(core.ActionChunk(poisoned, 5, 7, 0, TASK), "refusing")
    message.actions[7] = float("nan")
    bridge.chunk.publish(message)
    bridge.until(lambda: bridge.says("sim_bridge", "action 1 is not finite"), "NaN")
    assert int(bridge.figures["sim_bridge"]["refused chunk (count)"]) >= 5
    assert not any(e.chunk_id for e in bridge.executed)


def test_the_stop_is_latched_until_it_is_released(bridge: Operator) -> None:
    bridge.begin("stopped")
    bridge.send(1, "stopped")
    assert bridge.ask(bridge.stop, SetBool.Request(data=True)).success
    bridge.until(lambda: bridge.executed and bridge.executed[-1].status == TickStatus.STOPPED,
                 "a stopped tick")
    refused = bridge.ask(bridge.reset, Reset.Request(episode_id="next", seed=1))
    assert not refused.success and "release it by calling the service stop" in refused.message
    bridge.until(lambda: bridge.says("sim_bridge", "the stop is latched"), "an error is told")
    assert bridge.ask(bridge.stop, SetBool.Request(data=False)).success
    bridge.begin("released")
