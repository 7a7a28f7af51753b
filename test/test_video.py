"""Videos for people: frames side by side, and a GIF that a page can bear."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
from disk_support import files_up_to
from learning_support import random_episode
from PIL import Image

from poco_ros.cli import rehearse, sim
from poco_ros.cli.main import main
from poco_ros.core.errors import DataError
from poco_ros.video import GIF_WIDTH, side_by_side, write_gif, write_video


@pytest.mark.parametrize("width", [200, 2 * GIF_WIDTH])
def test_a_gif_keeps_its_frames_and_shape_and_is_not_too_wide(width: int, tmp_path: Path) -> None:
    shades = (40, 120, 200)
    frames = [np.full((100, width, 3), shade, np.uint8) for shade in shades]
    write_gif(frames, tmp_path / "a.gif", 5.0)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.size == (min(width, GIF_WIDTH), round(100 * min(1.0, GIF_WIDTH / width)))
        assert gif.info["duration"] == 200
        for index, shade in enumerate(shades):
            gif.seek(index)
            np.testing.assert_allclose(np.asarray(gif.convert("RGB")), shade, atol=4)
        with pytest.raises(EOFError):
            gif.seek(len(shades))


def noise(count: int) -> list[np.ndarray]:
    """Return frames that cannot be made small."""
    generator = np.random.default_rng(count)
    return [generator.integers(0, 255, (240, 320, 3), np.uint8) for _ in range(count)]


def test_a_video_has_all_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rollout.mp4"
    write_video(noise(7), path, 5.0)
    film = cv2.VideoCapture(str(path))
    assert (film.get(cv2.CAP_PROP_FRAME_COUNT), film.get(cv2.CAP_PROP_FPS)) == (7, 5.0)
    film.release()
    assert [found.name for found in path.parent.iterdir()] == ["rollout.mp4"]


@pytest.mark.parametrize(("write", "name"), [(write_video, "a.mp4"), (write_gif, "a.gif")])
@pytest.mark.parametrize("room", [1000, 100_000])
def test_a_full_disk_is_told_and_the_film_of_before_stays(
        write: Callable[..., None], name: str, room: int, tmp_path: Path) -> None:
    path = tmp_path / name
    write(noise(2), path, 5.0)
    before = path.read_bytes()
    with files_up_to(room), pytest.raises(OSError) as caught:
        write(noise(20), path, 5.0)
    assert caught.value.filename == str(path) and caught.value.strerror
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "rollout.gif")


def without_pictures(*_: object) -> None:
    raise DataError("pictures: no pictures of episode ep-1")


def nothing(*_: object) -> str:
    return ""


@pytest.mark.parametrize(("film", "said"), [
    (full, "none ([Errno 28] No space left on device: 'rollout.gif')"),
    (without_pictures, "none (pictures: no pictures of episode ep-1)")])
def test_a_picture_or_film_that_cannot_be_made_does_not_cost_the_result(
        film: Callable[..., None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"cloned": 0.4, "finetuned": 0.9}
    for name, stub in {"run_graph": nothing, "draw_curves": film, "draw_video": film,
                       "load_demonstrations": lambda *_: [random_episode(0, 4)],
                       "EpisodeWorkers": lambda *_: nullcontext(),
                       "evaluate_run": lambda *_: rates}.items():
        monkeypatch.setattr(sim, name, stub)
    assert main(["sim", "--run-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert said in lines[-3] and said in lines[-2]
    assert lines[-1].startswith("RESULT cloned=0.40 finetuned=0.90")

    for name, stub in {"_encoder": nothing, "_teach": nothing, "_learn": nothing,
                       "_try": lambda _, name, encoder: rates[name]}.items():
        monkeypatch.setattr(rehearse.Rehearsal, name, stub)
    monkeypatch.setattr(rehearse, "draw_curves", film)
    monkeypatch.setattr(rehearse, "film_of_pictures", film)
    assert main(["rehearse", "--run-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].count(said) == 2
    assert lines[-1].startswith("RESULT cloned=0.40 finetuned=0.90")


def test_the_shorter_half_waits_for_the_longer() -> None:
    left = [np.full((4, 6, 3), shade, np.uint8) for shade in (1, 2, 3)]
    right = [np.full((4, 6, 3), 9, np.uint8)]
    both = side_by_side(left, right)
    assert len(both) >= 3 and len({frame.shape for frame in both}) == 1
    assert all((frame[:, :6] == shade).all() and (frame[:, -6:] == 9).all()
               for frame, shade in zip(both, (1, 2, 3), strict=False))
