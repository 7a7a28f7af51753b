"""Fitting the encoder to a user's own pictures makes its features see; the probe measures it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from poco_ros.core.errors import DataError
from poco_ros.robot.encoder import Encoder
from poco_ros.robot.encoder_fit import EncoderFit, FitConfig, FitProgress, fit_encoder
from poco_ros.robot.encoder_probe import compare_heads, table
from poco_ros.robot.encoder_weights import load_weights, save_weights
from poco_ros.robot.linear_probe import probe
from poco_ros.robot.picture_set import PictureSet, join, load_pictures
from poco_ros.robot.vision_config import EncoderConfig, HeadConfig

SIZE = 32
HEAD = HeadConfig(kind="grid", block=0, channels=8, grid=4)


def scene(count: int, seed: int = 0) -> PictureSet:
    """A red square somewhere on a cluttered, noisy background; its place is the state."""
    random = np.random.default_rng(seed)
    background = np.random.default_rng(99).integers(0, 200, (SIZE, SIZE, 3))
    places = random.integers(3, SIZE - 3, (count, 2))
    pictures = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for picture, (x, y) in zip(pictures, places, strict=True):
        picture[:] = np.clip(background + random.normal(0, 8, background.shape), 0, 255)
        picture[y - 3:y + 3, x - 3:x + 3] = (220, 30, 20)
    return PictureSet(pictures, np.zeros(count, np.int64), np.arange(count) // 10,
                      (places / SIZE).astype(np.float32))


def config(**changes: object) -> FitConfig:
    values = {"steps": 60, "batch_size": 16, "image_size": SIZE, "head": HEAD,
              "learning_rate": 3e-3, **changes}
    return FitConfig(**values)  # type: ignore[arg-type]


def error_of(weights: str, pictures: PictureSet) -> float:
    encoder = Encoder(EncoderConfig(weights=weights, image_size=SIZE,
                                    head=None if weights else HEAD))
    assert pictures.states is not None
    return probe(encoder.encode(list(pictures.pictures)), pictures.states,
                 pictures.groups).mean_error


@pytest.mark.parametrize("objective", ["pictures", "states"])
def test_a_fit_makes_features_that_tell_places_better_than_random_ones(
        tmp_path: Path, objective: str) -> None:
    seen: list[FitProgress] = []
    weights, held_out = fit_encoder(scene(300), config(objective=objective, steps=120), "a test",
                                    seen.append)
    path = tmp_path / "encoder.safetensors"
    save_weights(path, weights)
    assert len(seen) == 120 and seen[-1].loss < seen[5].loss and np.isfinite(held_out)
    fresh = scene(250, seed=7)
    assert error_of(str(path), fresh) < 0.8 * error_of("", fresh)
    assert "300 pictures of a test" in load_weights(path).description


def test_the_same_seed_gives_the_same_weights() -> None:
    first, _ = fit_encoder(scene(40), config(steps=4), "a test")
    second, _ = fit_encoder(scene(40), config(steps=4), "a test")
    assert all(torch.equal(first.backbone[name], second.backbone[name])
               for name in first.backbone)


def test_a_fit_can_start_from_weights(tmp_path: Path) -> None:
    weights, _ = fit_encoder(scene(40), config(steps=2), "a test")
    path = tmp_path / "encoder.safetensors"
    save_weights(path, weights)
    going_on = EncoderFit(scene(40), config(start_from=str(path)))
    assert torch.equal(going_on.weights("").backbone["conv_init.weight"],
                       weights.backbone["conv_init.weight"])


def test_episodes_are_held_out_as_a_whole() -> None:
    data = scene(100)
    fit = EncoderFit(data, config(held_out=0.3))
    inside = set(data.groups[fit._train])
    assert not inside & set(data.groups[fit._held_out]) and len(inside) == 7


def test_states_that_nobody_logged_are_missed() -> None:
    data = scene(20)
    with pytest.raises(DataError, match="needs logged states"):
        EncoderFit(PictureSet(data.pictures, data.cameras, data.groups), config(
            objective="states"))


def test_the_probe_finds_what_is_there_and_only_that() -> None:
    random = np.random.default_rng(0)
    targets = random.uniform(0, 1, (200, 2))
    groups = np.arange(200) // 10
    telling = np.concatenate([targets @ random.normal(size=(2, 6)),
                              random.normal(size=(200, 3))], axis=1)
    silent = random.normal(size=(200, 9))
    good, bad = probe(telling, targets, groups), probe(silent, targets, groups)
    assert good.median_error < 1e-3 and good.explained > 0.999
    assert bad.median_error > 0.8 * bad.chance_error and bad.explained < 0.2
    more_features_than_pictures = probe(np.repeat(telling, 60, axis=1), targets, groups)
    assert more_features_than_pictures.median_error < 1e-2


def test_the_probe_refuses_too_few_episodes() -> None:
    with pytest.raises(DataError, match="too few"):
        probe(np.zeros((10, 2)), np.zeros((10, 1)), np.zeros(10))


def test_pictures_are_read_from_folders_videos_and_arrays(tmp_path: Path) -> None:
    red = np.zeros((40, 60, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes blue, green, red
    for episode in ("one", "two"):
        (tmp_path / "folder" / episode).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "folder" / episode / "0.png"), red)
    writer = cv2.VideoWriter(str(tmp_path / "folder" / "three.avi"),
                             cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (60, 40))
    for _ in range(3):
        writer.write(red)
    writer.release()
    folder = load_pictures(tmp_path / "folder", SIZE)
    assert folder.pictures.shape == (5, SIZE, SIZE, 3)
    assert len(np.unique(folder.groups)) == 3
    assert (folder.pictures[..., 0] > 240).all() and (folder.pictures[..., 2] < 15).all()
    np.savez(tmp_path / "set.npz", pictures=np.zeros((20, 40, 60, 3), np.uint8),
             states=np.ones((20, 7)))
    arrays = load_pictures(tmp_path / "set.npz", SIZE)
    assert arrays.states is not None and arrays.states.shape == (20, 7)
    both = join([arrays, arrays])
    assert set(both.cameras) == {0, 1} and len(np.unique(both.groups)) == 20


def test_pictures_beside_folders_of_pictures_are_one_episode(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("a.png", "b/1.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((40, 60, 3), np.uint8))
    assert load_pictures(tmp_path, SIZE).groups.tolist() == [0, 1, 0]


@pytest.mark.parametrize("name, content, words", [
    ("set.npz", b"PK", "not a whole .npz"), ("text.txt", b"x", "expected an .npz, a video"),
    ("video.avi", b"x", "cannot be read as a video")])
def test_what_holds_no_pictures_is_refused(tmp_path: Path, name: str, content: bytes, words: str
                                           ) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        load_pictures(tmp_path / name, SIZE)


def damaged(path: Path) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(40) + content[middle + 40:])


def with_array_alone(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros((3, 40, 60, 3), np.uint8))


@pytest.mark.parametrize("break_it", [
    lambda path: path.write_bytes(path.read_bytes()[:-100]), damaged, with_array_alone])
def test_a_broken_archive_of_pictures_is_refused(
        break_it: Callable[[Path], object], tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (3, 40, 60, 3), np.uint8)
    path = tmp_path / "set.npz"
    np.savez_compressed(path, pictures=pictures)
    break_it(path)
    with pytest.raises(DataError, match=r"set\.npz: not a whole \.npz file"):
        load_pictures(path, SIZE)


@pytest.mark.parametrize("arrays, words", [
    ({"pictures": np.zeros((0, 40, 60, 3), np.uint8)}, r"shape \(0, 40, 60, 3\) and type uint8"),
    ({"pictures": np.zeros((3, 0, 60, 3), np.uint8)}, r"shape \(3, 0, 60, 3\) and type uint8"),
    ({"pictures": np.zeros((3, 40, 60, 3))}, "and type float64, expected"),
    ({"pictures": np.array(None)}, "not a whole"),
    ({"cameras": ["left", "left", "right"]}, "cameras are no numbers"),
    ({"episodes": ["one", "one", "two"]}, "episodes are no numbers"),
    ({"states": [["a"], ["b"], ["c"]]}, "states are no numbers"),
    ({"states": np.zeros((2, 7))}, "2 states beside 3 pictures"),
])
def test_arrays_that_are_no_pictures_or_not_theirs_are_refused_by_name(
        arrays: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, **{"pictures": np.zeros((3, 40, 60, 3), np.uint8), **arrays})
    with pytest.raises(DataError, match=rf"set\.npz: .*{words}"):
        load_pictures(path, SIZE)


def test_heads_are_compared_on_the_same_pictures_best_first() -> None:
    data = scene(80)
    assert data.states is not None
    heads = [HeadConfig(kind="mean", block=0, channels=0), HEAD]
    reports = compare_heads("", data.pictures, data.states, data.groups, heads)
    errors = [report.result.median_error for report in reports]
    assert errors == sorted(errors) and len(reports) == 3, "the default head is added"
    assert [line.split()[0] for line in table(reports).splitlines()] == [
        "head", *(report.head.kind for report in reports), "without"]
