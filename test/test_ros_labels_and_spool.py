"""What a person says of an episode, and where it waits until the learner has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.labels import LabelRewards, labelled
from poco_ros.core.spool import Spool
from poco_ros.ros import delivery
from poco_ros.ros.delivery import Delivery, Receipt

MINUS_ONE_ZERO = LabelRewards(success=0.0, otherwise=-1.0)


def episode(name: str = "ep-0-000000", truncated: bool = False, reward: float = 0.0) -> Episode:
    return Episode(id=name, observations=np.ones((4, 2)), actions=np.zeros((3, 1)),
                   rewards=np.full(3, reward), terminated=False, truncated=truncated)


def test_success_terminates_and_gives_the_last_step_its_reward() -> None:
    seen = labelled(episode(truncated=True), Outcome.SUCCESS, "keypad")
    assert seen.terminated and not seen.truncated and seen.success and seen.trainable
    assert seen.rewards.tolist() == [0.0, 0.0, 1.0] and seen.notes == ("success by keypad",)


def test_labels_speak_the_reward_convention_of_the_task() -> None:
    seen = labelled(episode(reward=-1.0), Outcome.SUCCESS, "keypad", MINUS_ONE_ZERO)
    assert seen.rewards.tolist() == [-1.0, -1.0, 0.0]
    claimed = replace(seen, notes=())
    denied = labelled(claimed, Outcome.FAILURE, "keypad", MINUS_ONE_ZERO)
    assert denied.rewards.tolist() == [-1.0, -1.0, -1.0]


def test_failure_terminates_unless_time_had_run_out() -> None:
    assert labelled(episode(), Outcome.FAILURE, "keypad").terminated
    timed_out = labelled(episode(truncated=True), Outcome.FAILURE, "keypad")
    assert timed_out.truncated and not timed_out.terminated


def test_a_discarded_episode_is_kept_and_not_trained_on() -> None:
    seen = labelled(episode(), Outcome.DISCARD, "keypad")
    assert not seen.trainable and len(seen) == 3


def test_no_outcome_is_no_label() -> None:
    with pytest.raises(DataError, match="expected success, failure or discard"):
        labelled(episode(), Outcome.NONE, "keypad")


def test_the_spool_is_found_again_in_its_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for name in ("b", "a", "c"):
        spool.put(episode(name))
    spool.remove("b")
    again = Spool(tmp_path)
    assert again.ids == ("a", "c") and again.get("a").id == "a"
    again.put(episode("d"))
    assert Spool(tmp_path).ids == ("a", "c", "d")


def test_putting_an_episode_again_replaces_it_in_its_place(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for name in ("a", "b"):
        spool.put(episode(name))
    spool.put(labelled(spool.get("a"), Outcome.SUCCESS, "keypad"))
    again = Spool(tmp_path)
    assert again.ids == ("a", "b") and again.get("a").success


def test_unfinished_writes_are_cleared_and_foreign_files_named(tmp_path: Path) -> None:
    (tmp_path / ".writing-abc").write_bytes(b"half")
    assert len(Spool(tmp_path)) == 0 and not list(tmp_path.iterdir())
    (tmp_path / "notes.safetensors").write_bytes(b"?")
    with pytest.raises(DataError, match=r"notes\.safetensors: not a file of this spool"):
        Spool(tmp_path)


def test_the_newest_file_when_torn_by_a_power_failure_is_set_aside(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for name in ("a", "b"):
        spool.put(episode(name))
    newest = sorted(tmp_path.glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    again = Spool(tmp_path)
    assert again.ids == ("a",) and newest.with_suffix(".torn").exists()
    again.put(episode("b"))
    assert Spool(tmp_path).ids == ("a", "b")


class Full(Spool):
    """A spool whose disk may be full."""

    full = False

    def put(self, episode: Episode) -> None:
        if self.full:
            raise OSError("no space left on device")
        super().put(episode)


class Desk:
    """A delivery at a time of its own, to somebody who takes all at once."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(delivery, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.spool = Full(folder)
        self.faults: dict[str, str] = {}
        health: Any = SimpleNamespace(
            wait_for=lambda *_: None, got=lambda *_: None, fault=self.faults.__setitem__,
            healed=lambda key: self.faults.pop(key, None))
        self.delivery = Delivery(self.spool, health, self._take, 1.0, lambda name, count: None)
        self.came: list[Episode] = []
        self.away = False
        """Whether nobody answers."""

    def _take(self, episode: Episode, answer: Callable[[Receipt], None]) -> None:
        if self.away:
            return
        self.came.append(episode)
        answer(Receipt(True, "", len(self.came)))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.delivery.update()

    def label(self, name: str, outcome: Outcome) -> None:
        self.delivery.label(name, outcome, "keypad", 1.0, LabelRewards(1.0, 0.0))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_a_label_for_which_the_disk_has_no_room_is_not_overtaken_by_the_one_before(desk: Desk
                                                                                  ) -> None:
    desk.delivery.put(episode("a"), hold=1.0)
    desk.label("a", Outcome.SUCCESS)
    desk.spool.full = True
    desk.label("a", Outcome.DISCARD)
    desk.wait(5.0)
    assert not desk.came and desk.delivery.blocked and "episode a" in desk.faults["spool"]
    desk.spool.full = False
    desk.wait(5.0)
    assert [(kept.id, kept.outcome) for kept in desk.came] == [("a", Outcome.DISCARD)]
    assert desk.delivery.empty and not desk.faults


def test_a_label_is_as_late_as_it_is_also_while_nobody_takes_the_episodes(desk: Desk) -> None:
    desk.away = True
    for name in ("a", "b"):
        desk.delivery.put(episode(name), hold=1.0)
        desk.wait(0.9)
        desk.label("", Outcome.SUCCESS)
        desk.wait(0.9)
        desk.label(name, Outcome.FAILURE)
        desk.wait(60.0)
    for name in ("", "b"):
        with pytest.raises(DataError, match=r"episode b cannot be labelled: .* ended 59\.0 s ago"):
            desk.label(name, Outcome.DISCARD)
    desk.away = False
    desk.wait(1.0)
    assert [(kept.id, kept.outcome) for kept in desk.came] == [
        ("a", Outcome.FAILURE), ("b", Outcome.FAILURE)]


def test_an_episode_in_memory_is_not_forgotten_when_a_label_finds_room(desk: Desk) -> None:
    desk.delivery.put(episode("a"), hold=1.0)
    desk.spool.full = True
    desk.delivery.put(episode("b"), hold=1.0)
    desk.spool.full = False
    desk.label("a", Outcome.SUCCESS)
    assert desk.delivery.blocked and "episode b" in desk.faults["spool"]
    for _ in range(3):
        desk.wait(5.0)
    assert [kept.id for kept in desk.came] == ["a", "b"] and desk.came[0].success
    assert desk.delivery.empty and not desk.faults
