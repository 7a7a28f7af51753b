"""The operator's word at the desk for resets: it is for one request, which comes with it."""

from __future__ import annotations

import time
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from poco_msgs.srv import Reset
from std_msgs.msg import Header

from poco_ros.nodes.arm_controller import reset
from poco_ros.nodes.arm_controller.reset import ResetDesk
from poco_ros.robot.control_status import Mode
from poco_ros.ros import convert
from poco_ros.ros.operator_word import GRACE, READY_AGE, Presses, why_not_now


class Played:
    """A controller that is at home at once, and the desk before it, at a time of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mode, self.all_clear, self.reason, self.home_at = Mode.ACTIVE, False, "", 0.0
        self.now = 100.0
        self.powered = 0
        self.answers: list[Reset.Response] = []
        self.desk = ResetDesk(self, self.power, lambda why: None)  # type: ignore[arg-type]
        monkeypatch.setattr(reset, "time", SimpleNamespace(
            monotonic=lambda: self.now, time_ns=time.time_ns))

    def power(self) -> Future[None]:
        self.powered += 1
        self.mode = Mode.ACTIVE
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def home(self) -> None:
        self.mode = Mode.RAMPING

    def at_home(self) -> bool:
        return False

    def begin_episode(self, episode_id: str) -> None:
        assert episode_id

    def wait(self, seconds: float) -> None:
        for _ in range(10):
            self.now += seconds / 10
            self.desk.update()

    def ask(self) -> str:
        """Ask for an episode; return what comes of it when the arm has had time to go home."""
        self.desk.ask("ep", self.answers.append)
        self.wait(GRACE + 0.1)
        if self.mode is Mode.RAMPING:
            self.wait(60.0)
            self.mode = Mode.ACTIVE
            self.desk.update()
        return self.answers[-1].message


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(monkeypatch)


@pytest.mark.parametrize("mode", [Mode.ACTIVE, Mode.HOLDING, Mode.INACTIVE])
def test_a_request_that_follows_the_operators_word_is_served_however_long_the_way_is(
        played: Played, mode: Mode) -> None:
    played.mode = mode
    played.desk.ready()
    played.wait(READY_AGE)
    assert played.ask() == "" and played.answers[-1].success
    assert played.powered == (mode is not Mode.ACTIVE)


def test_a_request_may_overtake_the_word(played: Played) -> None:
    played.desk.ask("ep", played.answers.append)
    played.wait(GRACE / 2)
    played.desk.ready()
    played.desk.update()
    assert played.mode is Mode.RAMPING


@pytest.mark.parametrize("mode", [Mode.ACTIVE, Mode.HOLDING, Mode.INACTIVE])
def test_a_word_that_no_request_follows_is_forgotten(played: Played, mode: Mode) -> None:
    played.mode = mode
    played.desk.ready()
    played.now += READY_AGE + GRACE + 0.1  # the node may be busy meanwhile
    assert "press ready" in played.ask()
    assert played.mode is mode and not played.powered


def test_a_word_is_for_one_episode(played: Played) -> None:
    played.desk.ready()
    assert played.ask() == ""
    assert "press ready" in played.ask()
    played.desk.ready()
    assert played.ask() == ""


@pytest.mark.parametrize("ago, counts", [(0.0, True), (1.5, True), (2.5, False), (-2.5, False)])
def test_a_press_counts_at_its_moment(ago: float, counts: bool) -> None:
    pressed = Header(stamp=convert.stamp_to_msg(time.time_ns() - round(ago * 1e9)))
    assert (why_not_now(pressed) == "") == counts
    if not counts:
        assert f"its stamp is {ago:.1f} s old" in why_not_now(pressed)


def test_a_press_that_is_repeated_counts_once() -> None:
    presses, times = Presses(), [5, 7, 5, 7, 9]
    new = [presses.is_new(Header(stamp=convert.stamp_to_msg(stamp))) for stamp in times]
    assert new == [True, True, False, False, True]
