"""The control loop on an emulated arm: chunks, lateness, faults, stop, homing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from piper_emulator import EmulatedPiper
from robot_support import robot_config, wait_until

from poco_ros.core.chunk import ActionChunk
from poco_ros.core.errors import DataError
from poco_ros.robot.arm import ArmError, ArmState
from poco_ros.robot.config import arm_limits
from poco_ros.robot.control_status import Executed, Mode
from poco_ros.robot.controller import ArmController
from poco_ros.robot.piper import Piper
from poco_ros.robot.safety_filter import Verdict

HOME = np.array([0.0, 1.2, -1.0, 0.0, 0.9, 0.0])
RATE = 30.0
TASK = "pick-cube"
AS_OPEN_AS_IT_IS = 2 * 0.03 / 0.07 - 1
JOINT_DELTA = 0.06
"""What an action of 1 asks of a joint [rad]."""


class Cell:
    """An emulated arm, the product's Piper and controller on it, and what they published."""

    def __init__(self, folder: Path, changes: dict[str, Any]) -> None:
        self.emulator = EmulatedPiper()
        # Quick ticks for quick tests; a loaded test machine may keep the emulator waiting.
        base = {"arm": {"silence_timeout": 0.8, "listen_time": 0.1},
                "control": {"rate": RATE, "act_offset": 0.01},
                "safety": {"soft_start": 0.0, "chunk_age": 3.0}}
        config = robot_config(self.emulator.channel, folder, base)
        if changes:
            base = {key: {**base.get(key, {}), **changes.get(key, {})}
                    for key in {*base, *changes}}
            config = robot_config(self.emulator.channel, folder, base)
        self.arm = Piper(config.arm)
        self.arm.open()
        self.observations: list[ArmState] = []
        self.executed: list[Executed] = []
        self.stall = 0.0
        """For so long the next tick is kept waiting [s]."""
        self.commanded: list[tuple[int, np.ndarray]] = []
        """At each observation of an arm with a pose: ticks so far, joints commanded last [rad]."""
        self.controller = ArmController(self.arm, config, TASK, on_observation=self.observe,
                                        on_executed=self.executed.append)
        self.controller.start()

    def observe(self, state: ArmState) -> None:
        """Take an observation (ticker's thread)."""
        self.observations.append(state)
        if (pose := self.controller.filter.pose) is not None:
            self.commanded.append((self.controller.ticker.ticks, pose.positions))
        stall, self.stall = self.stall, 0.0
        time.sleep(stall)

    def chunk(self, number: int, action: list[float], horizon: int = 5, task: str = TASK,
              stamp: int | None = None) -> ActionChunk:
        """Return a chunk that repeats ``action``, answering the newest observation."""
        actions = np.tile(np.array(action, np.float32), (horizon, 1))
        newest = self.observations[-1].wall_ns if stamp is None else stamp
        return ActionChunk(actions, number, 3, newest, task)

    def next_observation(self) -> None:
        count = len(self.observations)
        wait_until(lambda: len(self.observations) > count)

    def run_chunk(self, number: int, action: list[float], horizon: int = 5) -> list[Executed]:
        """Execute a chunk; return its ticks."""
        before = len(self.executed)
        self.next_observation()
        self.controller.offer(self.chunk(number, action, horizon), "ep")
        wait_until(lambda: len(self.played(number)) >= horizon)
        return self.executed[before:]

    def pose(self) -> np.ndarray:
        """Return the joints commanded last, (6,) [rad]."""
        pose = self.controller.filter.pose
        assert pose is not None
        return pose.positions

    def played(self, number: int) -> list[Executed]:
        return [tick for tick in self.executed
                if tick.played is not None and tick.played.chunk_id == number]

    def take(self, **changes: Any) -> None:
        """Let somebody else have the arm, until that is noticed: a command ends teaching."""
        def noticed() -> bool:
            self.emulator.ask(**changes)
            return self.controller.wait_for(Mode.HOLDING, timeout=0.05)

        wait_until(noticed)

    def close(self) -> None:
        self.controller.close()
        self.arm.close()
        self.emulator.close()


@pytest.fixture
def cell(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cell]:
    cell = Cell(tmp_path, getattr(request, "param", {}))
    yield cell
    cell.close()


def test_an_inactive_controller_measures_and_moves_nothing(cell: Cell) -> None:
    wait_until(lambda: len(cell.observations) >= 5)
    stamps = [state.wall_ns for state in cell.observations]
    assert stamps == sorted(set(stamps)), "every observation has a stamp of its own"
    assert cell.emulator.ask()["commands"] == 0
    with pytest.raises(DataError, match="inactive"):
        cell.controller.offer(cell.chunk(1, [0.0] * 7), "ep")


@pytest.mark.parametrize("late", [0.0, 0.9, 1.5, 2.6])
def test_a_chunk_is_executed_one_action_a_tick_and_published(cell: Cell, late: float) -> None:
    asked = [0.5, 0, 0, 0, 0, -0.5, AS_OPEN_AS_IT_IS]
    cell.controller.activate()
    cell.controller.begin_episode("ep")
    start = cell.pose()
    cell.next_observation()
    chunk = cell.chunk(1, asked, horizon=90)
    chunk.actions[5:, :6] = 0.0  # it ends where it is, and has time to get there
    cell.stall = late / RATE
    cell.controller.offer(chunk, "ep")
    wait_until(lambda: len(cell.played(1)) >= 10)
    ticks = cell.executed[:10]
    assert [tick.played and tick.played.index for tick in ticks] == list(range(10))
    assert [tick.step for tick in ticks] == list(range(10))
    for tick in ticks[:5]:
        decision = tick.decision
        assert tick.episode_id == "ep" and tick.played and tick.played.policy_version == 3
        np.testing.assert_allclose(decision.requested, asked, atol=1e-6)
        if decision.verdict is not Verdict.NOMINAL:  # how far depends on when its tick came
            assert (decision.verdict, decision.reason) == (Verdict.LIMITED, "velocity limit")
            continue
        np.testing.assert_allclose(decision.executed[:6], asked[:6], atol=1e-5)
    goal = start + JOINT_DELTA * sum(tick.decision.executed[:6] for tick in ticks[:5])
    np.testing.assert_allclose(ticks[4].decision.command.positions, goal, atol=1e-5)
    wait_until(lambda: bool(np.abs(cell.arm.read().positions - goal).max() < 2e-3), timeout=2)


def test_ticks_a_period_apart_execute_their_actions_whole(cell: Cell) -> None:
    cell.controller.activate()
    cell.controller.begin_episode("ep")
    start = cell.pose()
    cell.next_observation()
    cell.controller.ticker.stop()  # its ticks come when the machine lets them: these are ours
    cell.controller.offer(cell.chunk(1, [0.5, 0, 0, 0, 0, -0.5, AS_OPEN_AS_IT_IS]), "ep")
    while len(cell.played(1)) < 5:
        time.sleep(1.0 / RATE)
        cell.controller.sense()
        cell.controller.act()
    assert [tick.decision.verdict for tick in cell.played(1)] == [Verdict.NOMINAL] * 5
    goal = start + 5 * JOINT_DELTA * np.array([0.5, 0, 0, 0, 0, -0.5])
    np.testing.assert_allclose(cell.pose(), goal, atol=1e-5)


def test_a_tick_that_comes_soon_after_a_late_one_moves_less_and_says_so(cell: Cell) -> None:
    cell.controller.activate()
    cell.controller.begin_episode("ep")
    cell.next_observation()
    cell.controller.offer(cell.chunk(1, [0.5, 0, 0, 0, 0, 0, AS_OPEN_AS_IT_IS], 20), "ep")
    for played in (3, 6, 9, 12):
        wait_until(lambda: len(cell.played(1)) >= played)  # noqa: B023
        cell.stall = 1.5 / RATE
    wait_until(lambda: len(cell.played(1)) >= 20)
    decisions = [tick.decision for tick in cell.played(1)]
    assert all(decision.requested[0] == 0.5 for decision in decisions)
    limited = [decision for decision in decisions if decision.verdict is Verdict.LIMITED]
    assert limited and {decision.reason for decision in limited} == {"velocity limit"}
    assert min(decision.executed[0] for decision in limited) < 0.4
    assert all(decision.executed[0] == pytest.approx(0.5, abs=1e-5)
               for decision in decisions if decision.verdict is Verdict.NOMINAL)


def test_an_action_acts_on_the_observation_of_its_own_tick(cell: Cell) -> None:
    cell.controller.activate()
    cell.controller.begin_episode("ep")
    ticks = cell.run_chunk(1, [0.1] * 7)
    published = [state.wall_ns for state in cell.observations]
    assert all(tick.stamp in published for tick in ticks)
    stamps = [tick.stamp for tick in ticks]
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize("cell", [{"arm": {"silence_timeout": 1.0}}], indirect=True,
                         ids=["patient"])
def test_a_tick_without_a_new_measurement_executes_nothing(cell: Cell) -> None:
    """As one that comes at once after a late one: two actions never share an observation."""
    cell.controller.activate()
    cell.controller.begin_episode("ep")
    cell.next_observation()
    cell.controller.offer(cell.chunk(1, [0.1] * 6 + [AS_OPEN_AS_IT_IS], horizon=200), "ep")
    wait_until(lambda: len(cell.played(1)) >= 3)
    cell.emulator.ask(silent=True)
    seen, ticks = len(cell.observations), cell.controller.ticker.ticks
    wait_until(lambda: cell.controller.ticker.ticks >= ticks + 8)
    assert len(cell.observations) <= seen + 1, "it was silent"
    cell.emulator.ask(silent=False)
    count = len(cell.executed)
    wait_until(lambda: len(cell.executed) >= count + 5)
    assert {tick.decision.verdict for tick in cell.executed} <= {Verdict.NOMINAL, Verdict.LIMITED}
    stamps = [tick.stamp for tick in cell.executed]
    assert stamps == sorted(set(stamps))
    assert [tick.played and tick.played.index for tick in cell.executed] \
        == list(range(len(stamps))), "what was not executed is not left out"
    assert cell.controller.late_chunks == 0


def test_chunk_boundaries_jump_no_further_than_a_step(cell: Cell) -> None:
    cell.controller.activate()
    cell.controller.begin_episode("ep")
    for number, sign in enumerate([1.0, -1.0, 1.0], start=1):
        cell.run_chunk(number, [sign] * 6 + [sign], horizon=4)
    commands = np.array([tick.decision.command.positions for tick in cell.executed])
    held = [tick.decision.verdict is Verdict.HELD for tick in cell.executed]
    for before, after, gave_way in zip(commands, commands[1:], held[1:], strict=False):
        assert gave_way or np.abs(after - before).max() <= 0.07 + 1e-9


def test_a_late_chunk_holds_is_counted_and_the_next_goes_on(cell: Cell) -> None:
    cell.controller.activate()
    cell.controller.begin_episode("ep")
    cell.run_chunk(1, [0.5, 0, 0, 0, 0, 0, 1.0], horizon=3)
    wait_until(lambda: cell.controller.status().late_chunks >= 3)
    late = [tick for tick in cell.executed if tick.played is None]
    assert all(tick.decision.verdict is Verdict.HELD for tick in late)
    assert "no chunk" in late[0].decision.reason
    assert cell.controller.mode is Mode.ACTIVE and cell.controller.status().chunk_lateness > 0
    held = {tuple(tick.decision.command.positions) for tick in late}
    assert len(held) == 1, "the pose is measured once, it does not creep"
    ticks = cell.run_chunk(2, [0.5, 0, 0, 0, 0, 0, 1.0])
    played = [tick.played.index for tick in ticks if tick.played]
    assert played == [0, 1, 2, 3, 4], "held ticks moved nothing: the chunk starts at its start"
    wait_until(lambda: cell.controller.status().late_chunks > len(late))


def test_a_chunk_that_overlaps_skips_what_was_executed_since(cell: Cell) -> None:
    cell.controller.activate()
    cell.controller.begin_episode("ep")
    cell.next_observation()
    seen = cell.observations[-1].wall_ns
    cell.controller.offer(cell.chunk(1, [0.1] * 7, horizon=30), "ep")
    wait_until(lambda: len(cell.played(1)) >= 3)
    cell.controller.offer(cell.chunk(2, [0.1] * 7, horizon=30, stamp=seen), "ep")
    wait_until(lambda: bool(cell.played(2)))
    first = cell.played(2)[0]
    assert first.played is not None and first.played.index == len(cell.played(1))


@pytest.mark.parametrize("kind, words", [
    ("task", "does 'pick-cube'"), ("episode", "of episode 'other'"), ("stamp", "joint_states"),
    ("shape", "expected 7"), ("order", "not newer")])
def test_chunks_that_do_not_belong_are_refused_and_counted(
        cell: Cell, kind: str, words: str) -> None:
    cell.controller.activate()
    cell.controller.begin_episode("ep")
    cell.next_observation()
    good = cell.chunk(5, [0.0] * 7, horizon=50)
    cell.controller.offer(good, "ep")
    bad = {"task": cell.chunk(6, [0.0] * 7, task="open-door"),
           "episode": cell.chunk(6, [0.0] * 7),
           "stamp": cell.chunk(6, [0.0] * 7, stamp=12345),
           "shape": cell.chunk(6, [0.0] * 6),
           "order": cell.chunk(5, [0.0] * 7)}[kind]
    with pytest.raises(DataError, match=words):
        cell.controller.offer(bad, "other" if kind == "episode" else "ep")
    assert cell.controller.status().refused_chunks == {kind: 1}
    count = len(cell.played(5))
    wait_until(lambda: len(cell.played(5)) > count)


@pytest.mark.parametrize("cell", [{"safety": {"chunk_age": 0.1}}], indirect=True)
def test_a_stale_chunk_is_refused_whatever_the_wall_clock_says(cell: Cell) -> None:
    cell.controller.activate()
    cell.controller.begin_episode("ep")
    old = cell.chunk(1, [1.0] * 7)
    observed = cell.observations[-1].monotonic_ns
    wait_until(lambda: time.monotonic_ns() - observed > 150_000_000)
    with pytest.raises(DataError, match="allowed are"):
        cell.controller.offer(old, "ep")
    assert cell.controller.status().refused_chunks == {"stale": 1}


def test_a_fault_holds_within_two_ticks_and_waits_for_the_operator(cell: Cell) -> None:
    cell.controller.activate()
    cell.controller.begin_episode("ep")
    cell.next_observation()
    cell.controller.offer(cell.chunk(1, [0.2] * 6 + [1.0], horizon=200), "ep")
    wait_until(lambda: len(cell.played(1)) >= 3)
    cell.observations.clear()
    cell.emulator.ask(error_bits=1 << 2)
    wait_until(lambda: any(state.faults for state in cell.observations))
    noticed = next(state for state in cell.observations if state.faults).wall_ns
    assert cell.controller.wait_for(Mode.HOLDING, timeout=2)
    after = [tick for tick in cell.executed if tick.stamp > noticed
             and tick.decision.verdict is not Verdict.HELD]
    assert len(after) <= 1
    assert "joint3 does not communicate" in cell.controller.status().reason
    with pytest.raises(ArmError, match="not ready: joint_communication"):
        cell.controller.ready()
    cell.emulator.ask(error_bits=0)
    wait_until(lambda: not cell.arm.read().faults)
    cell.next_observation()
    assert cell.controller.mode is Mode.HOLDING, "gone is not enough: the operator must be ready"
    cell.controller.ready()
    assert cell.controller.mode is Mode.ACTIVE
    count = len(cell.played(1))
    cell.next_observation()
    cell.next_observation()
    assert len(cell.played(1)) == count, "nothing of the chunk from before the fault is executed"


def test_motors_without_power_are_powered_again_only_when_the_operator_is_ready(
        cell: Cell) -> None:
    cell.controller.activate()
    cell.emulator.ask(enabled=False)
    assert cell.controller.wait_for(Mode.HOLDING, timeout=2)
    pushed = [joint + 8_000.0 for joint in cell.emulator.ask()["joints"]]
    cell.emulator.ask(joints=pushed)  # the arm is moved by hand
    cell.next_observation()
    assert not cell.emulator.ask()["enabled"]
    cell.controller.ready()
    state = cell.emulator.ask()
    assert state["enabled"]
    np.testing.assert_allclose(state["targets"], pushed, atol=2)
    wait_until(lambda: cell.emulator.ask()["commands"] > state["commands"] + 2)
    np.testing.assert_allclose(cell.emulator.ask()["targets"], pushed, atol=2)


NARROW = {name: [-0.2, 0.2] if name == "joint1" else [low, high]
          for name, (low, high) in arm_limits().items()}
LED = [30_000.0, 68_755.0, -57_296.0, 0.0, 51_566.0, 0.0]
"""Where somebody has led the arm: joint 1 is 0.32 rad outside of NARROW [0.001 degree]."""


@pytest.mark.parametrize("cell", [{"safety": {"joint_limits": NARROW}}], indirect=True)
def test_an_arm_that_was_led_outside_its_limits_stays_there_when_teaching_ends(cell: Cell) -> None:
    cell.controller.activate()
    cell.take(mode=2)
    cell.emulator.ask(joints=LED, targets=LED, opening=55_000.0, opening_target=55_000.0)
    wait_until(lambda: abs(cell.arm.read().positions[0] - np.deg2rad(30.0)) < 1e-3)
    commands = cell.emulator.ask(mode=0)["commands"]
    wait_until(lambda: cell.emulator.ask()["commands"] > commands + 3)
    np.testing.assert_allclose(cell.emulator.ask()["targets"], LED, atol=2)
    assert cell.emulator.ask()["opening_target"] == 55_000, "the fingers stay as they were led"
    with pytest.raises(ArmError, match=r"joint1 is at 0\.524 rad, outside its limits"):
        cell.controller.ready()
    assert cell.controller.mode is Mode.HOLDING


@pytest.mark.parametrize("cell", [{"safety": {"joint_limits": NARROW}}], indirect=True)
def test_an_arm_that_sank_outside_its_limits_is_not_powered_to_be_refused(cell: Cell) -> None:
    cell.controller.activate()
    cell.emulator.ask(enabled=False)
    assert cell.controller.wait_for(Mode.HOLDING, timeout=2)
    before = cell.emulator.ask(joints=LED, targets=LED)["received"]
    wait_until(lambda: abs(cell.arm.read().positions[0] - np.deg2rad(30.0)) < 1e-3)
    with pytest.raises(ArmError, match="outside its limits"):
        cell.controller.ready()
    cell.next_observation()
    state = cell.emulator.ask()
    assert state["received"] == before and not state["enabled"]


@pytest.mark.parametrize("cell", [{"arm": {"listen_time": 0.8}}], indirect=True)
def test_while_it_takes_control_the_loop_sends_nothing_of_its_own(cell: Cell) -> None:
    cell.controller.activate()
    cell.emulator.ask(error_bits=1)
    assert cell.controller.wait_for(Mode.HOLDING, timeout=2)
    cell.emulator.ask(error_bits=0)
    wait_until(lambda: not cell.arm.read().faults)
    commands = cell.emulator.ask()["commands"]
    wait_until(lambda: cell.emulator.ask()["commands"] > commands + 3)  # it holds
    thread = threading.Thread(target=cell.controller.ready)
    thread.start()
    ticks = cell.controller.ticker.ticks
    wait_until(lambda: cell.controller.ticker.ticks > ticks + 2)
    commands, ticks = cell.emulator.ask()["commands"], cell.controller.ticker.ticks
    wait_until(lambda: cell.controller.ticker.ticks > ticks + 4)
    assert cell.emulator.ask()["commands"] == commands
    thread.join()
    assert cell.controller.mode is Mode.ACTIVE


@pytest.mark.parametrize("taken", [{"mode": 2}, {"foreign": [[0x155, [0] * 8]]}])
def test_an_arm_that_somebody_else_has_is_left_alone_at_the_end(
        cell: Cell, taken: dict[str, Any]) -> None:
    cell.controller.activate()
    cell.take(**taken)
    before = cell.emulator.ask()["received"]
    cell.controller.deactivate()
    assert cell.controller.mode is Mode.INACTIVE
    assert cell.emulator.ask()["received"] == before


@pytest.mark.parametrize("cell", [{"arm": {"silence_timeout": 0.12},
                                   "control": {"rate": 15.0, "act_offset": 0.045}}],
                         indirect=True)
def test_a_silent_bus_is_noticed_within_three_ticks(cell: Cell) -> None:
    cell.controller.activate()
    cell.emulator.ask(silent=True)
    assert cell.controller.wait_for(Mode.HOLDING, timeout=3)
    measured, _ = cell.commanded[-1]  # ticks until then; one more may pass before we wake
    assert cell.controller.ticker.ticks - measured <= 3 + 1
    assert "bus_silent" in cell.controller.status().reason
    sent, ticks = cell.emulator.ask()["received"], cell.controller.ticker.ticks
    wait_until(lambda: cell.controller.ticker.ticks > ticks + 4)
    assert cell.emulator.ask()["received"] == sent
    cell.emulator.ask(silent=False)
    wait_until(lambda: not cell.arm.read().faults)
    cell.controller.ready()
    assert cell.controller.mode is Mode.ACTIVE


@pytest.mark.parametrize("cell", [{"arm": {"silence_timeout": 0.12}}], indirect=True)
def test_an_arm_that_was_taken_while_the_bus_was_silent_is_left_alone(cell: Cell) -> None:
    cell.controller.activate()
    cell.emulator.ask(silent=True)
    assert cell.controller.wait_for(Mode.HOLDING, timeout=3)
    wait_until(lambda: cell.arm.diagnostics["reconnections"] != "0")
    before = cell.emulator.ask(silent=False, mode=2, drop=[0x2A1, 0x2A8], joints=LED, targets=LED,
                               opening=55_000.0)
    ticks = cell.controller.ticker.ticks
    wait_until(lambda: cell.controller.ticker.ticks > ticks + RATE)
    assert cell.emulator.ask()["received"] == before["received"], "nobody knows who has the arm"
    cell.emulator.ask(drop=[])
    wait_until(lambda: [fault.code for fault in cell.arm.read().faults] == ["teaching"])
    ticks = cell.controller.ticker.ticks
    wait_until(lambda: cell.controller.ticker.ticks > ticks + 4)
    assert cell.emulator.ask()["received"] == before["received"], "a person has it"
    cell.emulator.ask(mode=0)
    wait_until(lambda: cell.emulator.ask()["commands"] > before["commands"] + 3)
    after = cell.emulator.ask()
    np.testing.assert_allclose(after["targets"], LED, atol=2)
    assert after["opening_target"] == 55_000, "the fingers stay as they were led"


def test_a_stop_latches_and_is_published(cell: Cell) -> None:
    cell.controller.activate()
    cell.controller.begin_episode("ep")
    cell.next_observation()
    cell.controller.offer(cell.chunk(1, [0.3] * 6 + [1.0], horizon=100), "ep")
    wait_until(lambda: len(cell.played(1)) >= 2)
    cell.controller.stop("key *")
    wait_until(lambda: cell.executed[-1].decision.verdict is Verdict.STOPPED)
    assert cell.executed[-1].decision.reason == "key *"
    sent = cell.emulator.ask()["commands"]
    cell.next_observation()
    cell.next_observation()
    assert cell.emulator.ask()["commands"] == sent, "nothing is sent while stopped"
    for forbidden in (cell.controller.activate, cell.controller.ready, cell.controller.home):
        with pytest.raises(ArmError, match="key"):
            forbidden()
    cell.controller.release()
    assert cell.controller.mode is Mode.INACTIVE
    cell.controller.activate()
    assert cell.controller.mode is Mode.ACTIVE


def test_a_stop_is_still_latched_in_the_next_process(cell: Cell) -> None:
    cell.controller.activate()
    cell.controller.stop("key *")
    cell.controller.close()
    cell.arm.close()
    arm = Piper(cell.arm.config)
    arm.open()
    following = ArmController(arm, cell.controller.config)
    following.start()
    before = cell.emulator.ask()["received"]
    with pytest.raises(ArmError, match=r"latched \(key \*\)"):
        following.activate()
    assert following.mode is Mode.STOPPED and cell.emulator.ask()["received"] == before
    following.release()
    following.activate()
    assert following.mode is Mode.ACTIVE
    following.close()
    arm.close()


def test_a_stop_that_waits_for_the_bus_is_not_told_to_be_released(cell: Cell) -> None:
    cell.controller.stop("key *")
    cell.controller.close()
    cell.arm.close()
    arm = Piper(cell.arm.config)
    following = ArmController(arm, cell.controller.config)
    with pytest.raises(ArmError, match=r"stays latched \(key \*\).*poco arm configure"):
        following.release()
    arm.open()
    following.start()
    assert following.mode is Mode.STOPPED and following.reason == "key *"
    following.release()
    following.release()
    assert following.mode is Mode.INACTIVE and not arm.stopped
    following.close()
    arm.close()


def test_the_operators_word_counts_until_the_arm_is_held_or_stopped(cell: Cell) -> None:
    controller = cell.controller
    controller.activate()
    assert not controller.all_clear
    controller.all_clear = True
    controller.home()
    assert controller.wait_for(Mode.ACTIVE, timeout=5) and controller.all_clear
    cell.emulator.ask(error_bits=1)
    assert controller.wait_for(Mode.HOLDING, timeout=2) and not controller.all_clear
    cell.emulator.ask(error_bits=0)
    wait_until(lambda: not cell.arm.read().faults)
    controller.all_clear = True
    controller.ready()
    assert controller.all_clear
    controller.stop("key *")
    assert not controller.all_clear


def test_the_operators_word_counts_for_no_fault_that_came_after_it(cell: Cell) -> None:
    controller = cell.controller
    controller.activate()
    cell.emulator.ask(error_bits=1)
    assert controller.wait_for(Mode.HOLDING, timeout=2)
    cell.emulator.ask(error_bits=0)
    wait_until(lambda: not cell.arm.read().faults)
    cell.next_observation()
    cell.next_observation()
    controller.all_clear = True
    cell.next_observation()
    assert controller.all_clear, "what he saw is no news"
    for bits, words in ((2, "joint2 does not communicate"), (1, "joint1 does not communicate")):
        controller.all_clear = True
        cell.emulator.ask(error_bits=bits)
        wait_until(lambda: not controller.all_clear)
        assert words in controller.status().reason
    assert controller.status().reason.count("does not communicate") == 2


@pytest.mark.parametrize("cell", [{"control": {"heartbeat_timeout": 0.3}}], indirect=True)
def test_a_lost_heartbeat_of_the_operator_stops(cell: Cell) -> None:
    with pytest.raises(ArmError, match="no heartbeat of the operator"):
        cell.controller.activate()
    assert not cell.arm.read().enabled, "without an operator the motors stay off"
    cell.controller.heartbeat()
    cell.controller.activate()
    for _ in range(10):
        cell.controller.heartbeat()
        cell.next_observation()
    assert cell.controller.mode is Mode.ACTIVE
    assert cell.controller.wait_for(Mode.STOPPED, timeout=2)
    assert "heartbeat" in cell.controller.status().reason


@pytest.mark.parametrize("cell", [{"homing": {"velocity": 1.5}}], indirect=True)
def test_homing_ramps_from_where_the_arm_is(cell: Cell) -> None:
    away = [12_000.0, 55_000.0, -70_000.0, 5_000.0, 40_000.0, -9_000.0]
    cell.emulator.ask(joints=away, targets=away)
    wait_until(lambda: abs(cell.arm.read().positions[0] - np.deg2rad(12.0)) < 1e-3)
    cell.controller.activate()
    cell.controller.home()
    assert cell.controller.mode is Mode.RAMPING
    path = []
    while not cell.controller.wait_for(Mode.ACTIVE, timeout=0.02):
        path.append(np.deg2rad(np.array(cell.emulator.ask()["targets"]) / 1000))
        assert len(path) < 500
    assert np.abs(cell.arm.read().positions - HOME).max() < 0.05
    assert np.abs(np.diff(path, axis=0)).max() < 0.35, "no jump"
    assert abs(path[0][0] - np.deg2rad(12.0)) < 0.1


@pytest.mark.parametrize("cell", [{"homing": {"velocity": 0.3}}], indirect=True)
def test_homing_that_was_kept_waiting_does_not_hurry(cell: Cell) -> None:
    away = [12_000.0, 68_755.0, -57_296.0, 0.0, 51_566.0, 0.0]
    cell.emulator.ask(joints=away, targets=away)
    wait_until(lambda: abs(cell.arm.read().positions[0] - np.deg2rad(12.0)) < 1e-3)
    cell.controller.activate()
    cell.controller.home()
    wait_until(lambda: bool(cell.commanded) and cell.commanded[-1][1][0] < np.deg2rad(7.0))
    cell.stall = 0.4
    assert cell.controller.wait_for(Mode.ACTIVE, timeout=5)
    assert cell.controller.ticker.missed >= 10
    for (before, start), (after, end) in zip(cell.commanded, cell.commanded[1:], strict=False):
        step = np.abs(end - start).max() / max(after - before, 1)
        assert step <= 0.3 / RATE + 1e-9, f"{step * RATE:.2f} rad/s after {after} ticks"


@pytest.mark.parametrize("cell", [{"homing": {"velocity": 1.5, "patience": 0.2},
                                   "safety": {"following_error": 5.0}}], indirect=True)
def test_homing_that_is_blocked_becomes_a_fault(cell: Cell) -> None:
    away = [12_000.0, 60_000.0, -60_000.0, 0.0, 45_000.0, 0.0]
    cell.emulator.ask(joints=away, targets=away, blocked=True)
    wait_until(lambda: abs(cell.arm.read().positions[0] - np.deg2rad(12.0)) < 1e-3)
    cell.controller.activate()
    cell.controller.home()
    assert cell.controller.wait_for(Mode.HOLDING, timeout=5)
    assert "home was not reached" in cell.controller.status().reason


@pytest.mark.parametrize("cell", [{"safety": {"following_error": 0.15}}], indirect=True)
def test_an_arm_that_something_blocks_is_held_and_the_tick_says_so(cell: Cell) -> None:
    cell.controller.activate()
    cell.controller.begin_episode("ep")
    cell.run_chunk(1, [0.0] * 6 + [AS_OPEN_AS_IT_IS], horizon=2)
    cell.emulator.ask(blocked=True)
    cell.next_observation()
    cell.controller.offer(cell.chunk(2, [1.0, 0, 0, 0, 0, 0, AS_OPEN_AS_IT_IS], 10), "ep")
    assert cell.controller.wait_for(Mode.HOLDING, timeout=5)
    wait_until(lambda: any(tick.decision.fault for tick in cell.executed))
    first = next(tick for tick in cell.executed if tick.decision.fault)
    assert first.decision.blocked and "joint1" in first.decision.reason
    assert all(not tick.decision.blocked for tick in cell.executed if tick is not first)


@pytest.mark.parametrize("cell", [{"safety": {"following_error": 0.15},
                                   "arm": {"silence_timeout": 1.0}}], indirect=True)
def test_a_tick_without_a_new_measurement_tells_of_what_blocks_the_arm(cell: Cell) -> None:
    cell.controller.activate()
    cell.controller.begin_episode("ep")
    start = cell.pose()[0]
    cell.emulator.ask(blocked=True)
    cell.next_observation()
    cell.controller.ticker.stop()
    cell.controller.offer(cell.chunk(1, [1.0, 0, 0, 0, 0, 0, AS_OPEN_AS_IT_IS], 50), "ep")
    while cell.pose()[0] - start < 0.15:
        time.sleep(1.0 / RATE)
        cell.controller.sense()
        cell.controller.act()
    assert cell.controller.mode is Mode.ACTIVE
    cell.emulator.ask(silent=True)
    time.sleep(0.05)
    cell.controller.sense()
    cell.controller.sense()
    cell.controller.act()
    assert cell.controller.mode is Mode.HOLDING and cell.executed[-1].decision.blocked
    assert "joint1" in cell.executed[-1].decision.reason


def test_when_the_arm_is_unplugged_the_loop_goes_on_and_says_so(cell: Cell) -> None:
    cell.controller.activate()
    cell.emulator.close()
    assert cell.controller.wait_for(Mode.HOLDING, timeout=3)
    ticks = cell.controller.ticker.ticks
    wait_until(lambda: cell.controller.ticker.ticks > ticks + 3)
    cell.controller.stop("operator")
    assert cell.controller.mode is Mode.STOPPED
