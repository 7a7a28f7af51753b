"""`poco data inspect` on recorded episodes: what it says of them, and the sheet that it draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from recording_support import PRESET, add_pictures, contents, recorded, recordings, store

from poco_ros.cli.main import USER_ERROR, main
from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.observation import ObservationLayout
from poco_ros.data.contact_sheet import COLOURS, choose, draw_contact_sheet
from poco_ros.data.recording import describe_recording, held_steps, steps_with_holes

LAYOUT = ObservationLayout((("front", 3), ("wrist", 2), ("joint_states", 7)))


def told(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["data", "inspect", *words]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_a_set_with_everything_is_told_in_words(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path / "set", recordings())
    before = contents(tmp_path / "set")
    lines = told(capsys, str(tmp_path / "set"))
    for expected in (
            "episodes 9, of which 5 succeed (56%), 3 not trained on",
            "source demonstration 1 (1 succeed), online 7 (3 succeed), recovery 1 (1 succeed)",
            "outcome success 5, failure 1, discard 1, none 2",
            "not trained on 2 × the features of the cameras are … s old",
            "1 × discard by keypad",
            "time 1.3 to 1.5 s an episode, 0.2 min in all",
            "control rate 15.00 /s (median); worst gap 0.200 s at step 11 of ep-0-000002",
            "holes 1 step(s) in 1 episode(s)",
            "held 4 step(s) in 1 episode(s) (2.9% of the online steps)",
            "clipped 1.6% of the values of the actions are at a bound"):
        assert expected in lines, "\n".join(lines)
    odd = [line for line in lines if line.startswith("odd:")]
    assert len(odd) == 2
    assert any("twice the usual time" in line and "ep-0-000002" in line for line in odd)
    assert any("no policy asked for" in line and "ep-0-000001" in line for line in odd)
    assert contents(tmp_path / "set") == before, "it is only looked at"


def test_a_missing_tick_is_a_hole_and_jitter_is_none() -> None:
    episode = recorded(0)
    jitter = np.random.default_rng(1).integers(-9_000_000, 9_000_000, len(episode.stamps))
    assert not steps_with_holes(recorded(0, stamps=episode.stamps + jitter)).size
    late = episode.stamps.copy()
    late[8:] += 66_000_000
    assert steps_with_holes(recorded(0, stamps=late)).tolist() == [7]


def test_only_what_a_policy_should_have_asked_for_counts_as_held() -> None:
    nobody = np.zeros(20, np.int64)
    assert len(held_steps(recorded(0, policy_versions=nobody))) == 20
    for source in ("demonstration", "recovery"):
        assert not held_steps(recorded(0, policy_versions=nobody, source=source)).size


def test_episodes_without_stamps_say_so() -> None:
    lines = describe_recording([recorded(0, stamps=np.zeros(21, np.int64))]).lines()
    assert any("no stamps were recorded" in line for line in lines)


def test_no_outcome_is_forgotten_when_there_is_no_room_for_all() -> None:
    """Ninety successes, six failures, three that are not trained on, in a sheet of ten rows."""
    episodes = [recorded(number, success=number % 16 != 5) for number in range(96)]
    for place in (20, 50, 80):
        episodes.insert(place, recorded(100 + place, trainable=False, outcome=Outcome.DISCARD))
    shown = choose(episodes, 10)
    kinds = [sum(test(e) for e in shown) for test in (
        lambda e: e.trainable and e.success, lambda e: e.trainable and not e.success,
        lambda e: not e.trainable)]
    assert len({episode.id for episode in shown}) == 10
    assert shown[0] is episodes[0] and shown[-1] is episodes[-1]
    assert min(kinds) >= 2, kinds
    order = [episodes.index(episode) for episode in shown]
    assert order == sorted(order)
    for rows in range(1, 100):
        assert len(choose(episodes, rows)) == min(rows, 99)


def near(picture: np.ndarray, colour: str) -> int:
    """Return how many pixels of a picture (H, W, 3) have a colour."""
    wanted = np.array([int(colour[i:i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(picture.astype(int) - wanted).max(axis=2) < 12).sum())


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_the_sheet_has_a_row_an_episode_in_the_colour_of_its_outcome(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path / "set", recordings())
    (tmp_path / "robot.yaml").write_text(PRESET)
    sheet = tmp_path / "sheet.png"
    lines = told(capsys, str(tmp_path / "set"), "--picture", str(sheet), "--preset",
                 str(tmp_path / "robot.yaml"), "--rows", "5")
    assert lines[-1] == f"{sheet}: 5 of 9 episodes"
    few = pixels(sheet)
    assert few.shape[1] == 1320 and 550 < few.shape[0] < 850
    told(capsys, str(tmp_path / "set"), "--picture", str(sheet))
    every = pixels(sheet)
    assert every.shape[1] == 1320 and 1000 < every.shape[0] < 1400
    for outcome in Outcome:
        assert near(every, COLOURS[outcome]) > 300, outcome


def test_a_good_set_is_drawn_without_a_doubt(tmp_path: Path) -> None:
    """A hole and held steps change the picture; what is not there is not drawn."""
    drawn: dict[str, np.ndarray] = {}
    for name, episodes in {"good": [recorded(1)], "held": [recordings()[1]]}.items():
        draw_contact_sheet(episodes, tmp_path / f"{name}.png", layout=LAYOUT)
        drawn[name] = pixels(tmp_path / f"{name}.png")
    shade = "#f8dfa3"  # of the held steps, as it is on white
    assert near(drawn["held"], shade) > 3 * near(drawn["good"], shade) + 1000


def test_pictures_stand_where_they_belong_in_time(tmp_path: Path) -> None:
    """The recorded colours run from green to red, left to right, one strip a camera."""
    episode = recorded(0)
    add_pictures(tmp_path / "pictures", episode)
    from poco_ros.data.pictures import RecordedPictures

    sheet = tmp_path / "sheet.png"
    draw_contact_sheet([episode, recorded(1)], sheet, layout=LAYOUT,
                       pictures=RecordedPictures(tmp_path / "pictures"))
    picture = pixels(sheet).astype(int)
    # The recorded colours keep red + green at 255, which no other colour on the sheet does.
    sums = picture[..., 0] + picture[..., 1]
    for blue in (80, 200):
        strip = (np.abs(sums - 255) < 8) & (np.abs(picture[..., 2] - blue) < 8)
        assert strip.sum() > 4 * 60 * 60
        columns = np.flatnonzero(strip.any(axis=0))
        redness = [np.median(picture[..., 0][:, column][strip[:, column]]) for column in columns]
        assert (np.diff(redness) > -12).all(), "they run from left to right"
        assert redness[-1] - redness[0] > 80


@pytest.mark.parametrize(("words", "said"), [
    (("--pictures", "there"), "goes with --picture"),
    (("--picture", "sheet.jpg"), "ends in .png"),
    (("--picture", "sheet.png", "--pictures", "nowhere"), "no such folder of pictures"),
    (("--picture", "sheet.png", "--preset", "cpu_cube_single"), "name the preset"),
])
def test_what_cannot_be_drawn_is_one_line(
        words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "set", [recorded(0)])
    assert main(["data", "inspect", "set", *words]) == USER_ERROR
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.glob("*.png"))


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    from poco_ros.core.errors import DataError
    from poco_ros.data.pictures import RecordedPictures

    episode: Episode = recorded(0)
    add_pictures(tmp_path, episode, ("front",), every=30)
    broken = next((tmp_path / "front" / episode.id).iterdir())
    broken.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=rf"{broken.name}.*cannot be read"):
        draw_contact_sheet([episode], tmp_path / "sheet.png", layout=LAYOUT,
                           pictures=RecordedPictures(tmp_path))
    broken.rename(broken.with_name("yesterday.jpg"))
    with pytest.raises(DataError, match=r"yesterday\.jpg.*nanoseconds"):
        RecordedPictures(tmp_path).of(episode)
