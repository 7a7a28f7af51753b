"""What a recorder keeps when it ends, and what it counts; nobody leads an arm here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from graph_support import ros
from robot_graph_support import write_robot_preset

from poco_ros.core.episode import Outcome
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.joining import EpisodeBuilder, ExecutedAction
from poco_ros.core.spool import Spool
from poco_ros.nodes.recorder import Recorder
from poco_ros.ros.attempt import Attempt
from poco_ros.ros.episode_maker import Missing

pytestmark = pytest.mark.graph
Record = Callable[..., Recorder]


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    preset = write_robot_preset(tmp_path, {"graph": {"rollout": {"correction_window": 60.0}}})
    made: list[Recorder] = []

    def make(**parameters: object) -> Recorder:
        words = {"preset": preset, "folder": tmp_path / "shown", "home_at_end": False,
                 **parameters}
        made.append(Recorder(["--ros-args", *(word for name, value in words.items()
                                              for word in ("-p", f"{name}:={value}"))]))
        return made[-1]

    with ros():
        yield make
        for recorder in made:
            recorder.destroy_node()


def show(recorder: Recorder, label: Outcome = Outcome.SUCCESS) -> str:
    """Show something, and label it; return the id of the demonstration."""
    attempt = recorder.next_attempt()
    assert isinstance(attempt, Attempt)
    builder, zeros = EpisodeBuilder(attempt.id, "pick-cube", 0, 0.0), np.zeros(7, np.float32)
    for step in range(4):
        builder.add_observation(step + 1, zeros)
        builder.add_executed(ExecutedAction(step + 1, attempt.id, step, zeros, zeros))
    attempt.builder = builder
    recorder.attempt = attempt
    recorder._label("", label, "keypad")
    return attempt.id


def full(recorder: Recorder) -> bool:
    return isinstance(recorder.next_attempt(), Missing)


def test_what_can_still_be_labelled_when_it_ends_is_kept(record: Record, tmp_path: Path) -> None:
    recorder = record()
    shown = [show(recorder), show(recorder, Outcome.FAILURE)]
    assert not len(EpisodeStore(tmp_path / "shown")), "they can still be labelled"
    recorder.close()
    assert EpisodeStore(tmp_path / "shown").ids == tuple(shown)
    assert not Spool(tmp_path / "shown/spool").ids and not recorder.failed


def test_demonstrations_of_another_encoder_are_not_put_beside_those_of_one(
        record: Record, tmp_path: Path) -> None:
    """A policy cannot tell them apart, and learns from neither."""
    recorder = record()
    recorder.encoder = "bee"
    show(recorder)
    recorder.close()
    assert [episode.encoder for episode in EpisodeStore(tmp_path / "shown")] == ["bee"]
    again = record()
    assert isinstance(again.next_attempt(), Attempt), "not known yet; the rest is missing as well"
    again.encoder = "wasp"
    missing = again.next_attempt()
    assert isinstance(missing, Missing)
    assert "features are of encoder wasp, the demonstrations in" in missing.why
    again.encoder = "bee"
    assert isinstance(again.next_attempt(), Attempt)


def test_what_cannot_be_kept_when_it_ends_is_told_and_no_success(
        record: Record, tmp_path: Path, capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bool:
        raise OSError("no space left")

    recorder = record()
    show(recorder)
    monkeypatch.setattr(EpisodeStore, "add", refuse)
    recorder.close()
    assert recorder.failed
    said = capfd.readouterr().err
    assert "no space left" in said
    assert f"1 in {tmp_path / 'shown/spool'} for the next recorder there\n" in said


def test_it_ends_when_the_folder_has_so_many_that_can_be_learned_from(record: Record) -> None:
    recorder = record(episodes=3)
    show(recorder, Outcome.DISCARD)
    show(recorder)
    recorder.close()
    assert not full(record(episodes=1, source="recovery")), "they are counted for themselves"
    recorder = record(episodes=3)
    recorder._begun = "later"  # as a person is who begins it again
    show(recorder)
    wrong = show(recorder)
    assert full(recorder)
    recorder._label(wrong, Outcome.DISCARD, "keypad")
    assert not full(recorder), "a demonstration that is discarded does not count"
    show(recorder)
    assert full(recorder)
