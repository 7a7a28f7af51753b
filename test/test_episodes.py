"""Episodes: their contract, their file, and a store that neither loses nor doubles any."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from disk_support import files_up_to
from learning_support import random_episode
from safetensors.numpy import load, save

from poco_ros.core.episode import Episode, Outcome, safetensors_metadata
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.errors import DataError


def same(a: Episode, b: Episode) -> bool:
    return a.to_bytes() == b.to_bytes()


def test_bytes_round_trip_keeps_everything() -> None:
    episode = random_episode(3, 7, terminated=True, task="scene-task1", source="recovery",
                             notes=("camera 'wrist' was frozen for 0.4 s",), trainable=False,
                             stamps=np.arange(8, dtype=np.int64) * 66_000_000,
                             policy_versions=np.arange(7, dtype=np.int64), encoder="0123abcd4567")
    again = Episode.from_bytes(episode.to_bytes())
    assert same(again, episode)
    assert again.outcome is Outcome.SUCCESS and again.success
    assert again.notes == episode.notes and again.trainable is False
    assert again.encoder == episode.encoder
    np.testing.assert_array_equal(again.stamps, episode.stamps)


@pytest.mark.parametrize("change, message", [
    ({"rewards": np.zeros(4, np.float32)}, "rewards has 4 rows, expected 5"),
    ({"observations": np.zeros((5, 3), np.float32)}, "observations has 5 rows, expected 6"),
    ({"actions": np.full((5, 2), 1.5, np.float32)}, r"actions\[0\].*leaves \[-1, 1\]"),
    ({"observations": np.full((6, 3), np.nan, np.float32)}, r"observations\[0\] is not finite"),
    ({"rewards": np.array([0, 0, np.inf, 0, 0], np.float32)}, r"rewards\[2\] is not finite"),
    ({"terminated": True, "truncated": True}, "both terminated and truncated"),
    ({"id": "../etc/passwd"}, "episode id"),
    ({"actions": np.zeros((0, 2), np.float32)}, "has no action"),
    ({"actions": np.zeros(5, np.float32)}, r"must be"),
])
def test_a_broken_episode_is_refused_by_name(change: dict[str, object], message: str) -> None:
    good: dict[str, object] = {
        "id": "e", "observations": np.zeros((6, 3), np.float32),
        "actions": np.zeros((5, 2), np.float32), "rewards": np.zeros(5, np.float32),
        "terminated": False, "truncated": True}
    Episode(**good)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        Episode(**{**good, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", [
    lambda content: content[:50], lambda content: content[:-3], lambda content: b"",
    lambda content: b"PK\x03\x04" + content, lambda content: b"\xff" * 64])
def test_a_truncated_or_foreign_file_is_refused_by_name(damage) -> None:  # type: ignore
    content = random_episode(1, 4).to_bytes()
    with pytest.raises(DataError, match=r"000001_x\.safetensors: not an episode"):
        Episode.from_bytes(damage(content), "000001_x.safetensors")


@pytest.mark.parametrize(("words", "said"), [
    ({"outcome": "TRIUMPH"}, "outcome 'TRIUMPH' is none of NONE, SUCCESS, FAILURE, DISCARD"),
    ({"outcome": None}, "outcome None is none of"),
    ({"notes": None}, r"not the words of an episode \(TypeError"),
    ({"mood": "good"}, r"not the words of an episode \(TypeError.*'mood'"),
    ({"format": "poco-episode-9"}, "not an episode of format poco-episode-1"),
])
def test_words_that_no_episode_has_are_refused_by_name(
        words: dict[str, object], said: str) -> None:
    content = random_episode(1, 4).to_bytes()
    known = json.loads(safetensors_metadata(content)["episode"])
    changed = save(load(content), {"episode": json.dumps({**known, **words})})
    with pytest.raises(DataError, match=rf"^000001_x\.safetensors: {said}"):
        Episode.from_bytes(changed, "000001_x.safetensors")


def test_store_keeps_order_and_refuses_no_repeat_but_stores_it_once(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    episodes = [random_episode(n, 4 + n) for n in (5, 2, 9)]
    assert [store.add(e) for e in episodes] == [True, True, True]
    assert store.add(episodes[1]) is False
    again = EpisodeStore(tmp_path)
    assert again.ids == ("episode-5", "episode-2", "episode-9")
    assert all(same(a, b) for a, b in zip(again, episodes, strict=True))
    assert "episode-2" in again and "episode-7" not in again


def test_store_with_a_hole_or_a_foreign_file_is_refused(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    for n in range(3):
        store.add(random_episode(n, 4))
    (tmp_path / "000001_episode-1.safetensors").unlink()
    with pytest.raises(DataError, match="expected episode number 1 next"):
        EpisodeStore(tmp_path)


def test_failing_disk_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    store.add(random_episode(0, 4))
    with files_up_to(300):
        with pytest.raises(OSError, match="File too large"):
            store.add(random_episode(1, 50))
    assert store.ids == ("episode-0",)
    assert [p.name for p in tmp_path.iterdir()] == ["000000_episode-0.safetensors"]
    assert store.add(random_episode(1, 50)) is True


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    """Whoever only reads removes nothing; whoever writes, what a killed process left long ago."""
    EpisodeStore(tmp_path).add(random_episode(0, 4))
    fresh, old = tmp_path / ".writing-fresh", tmp_path / ".writing-old"
    for path in (fresh, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 3600,) * 2)
    store = EpisodeStore(tmp_path)
    assert len(store) == 1 and fresh.exists() and old.exists()
    store.add(random_episode(1, 4))
    assert fresh.exists() and not old.exists()
    assert EpisodeStore(tmp_path).ids == ("episode-0", "episode-1")


WRITER = """
import sys
sys.path.insert(0, {test!r})
from learning_support import random_episode
from poco_ros.core.episode_store import EpisodeStore
store = EpisodeStore({folder!r})
for number in range(len(store), 100000):
    store.add(random_episode(number, 200))
    print(number, flush=True)
"""


def test_kill_9_while_storing_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Three times in a row, at whatever point the kill falls; half a file never counts."""
    test = str(Path(__file__).parent)
    for _ in range(3):
        before = len(EpisodeStore(tmp_path))
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER.format(test=test, folder=str(tmp_path))],
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)})
        assert writer.stdout is not None
        for _ in range(12):
            acknowledged = int(writer.stdout.readline())
        time.sleep(0.003)  # fall somewhere inside the next write
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.wait()
        acknowledged = int(rest[-1]) if rest else acknowledged
        store = EpisodeStore(tmp_path)
        assert acknowledged >= before + 11
        assert len(store) in (acknowledged + 1, acknowledged + 2)
        for number, episode in enumerate(store):
            assert same(episode, random_episode(number, 200))
