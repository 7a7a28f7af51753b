"""``poco encoder``: from pictures to weights that see, and what they see, in one table."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from poco_ros.cli.main import USER_ERROR, main
from poco_ros.core.config import load
from poco_ros.preset import find_settings, load_preset
from poco_ros.robot.encoder import Encoder
from poco_ros.robot.picture_log import PictureLog
from poco_ros.robot.vision_config import EncoderConfig, HeadConfig, VisionConfig

pytestmark = pytest.mark.xdist_group("encoder commands")  # fixtures are made once
SIZE = 32
QUICK = ["--image-size", str(SIZE), "--batch-size", "16", "--head-block", "0",
         "--head-channels", "8", "--learning-rate", "3e-3"]


def scene(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A red square somewhere on a cluttered background, and its place."""
    random = np.random.default_rng(seed)
    background = np.random.default_rng(99).integers(0, 200, (SIZE, SIZE, 3))
    places = random.integers(3, SIZE - 3, (count, 2))
    pictures = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for picture, (x, y) in zip(pictures, places, strict=True):
        picture[:] = np.clip(background + random.normal(0, 8, background.shape), 0, 255)
        picture[y - 3:y + 3, x - 3:x + 3] = (220, 30, 20)
    return pictures, (places / SIZE).astype(np.float32)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arrays") / "set.npz"
    pictures, places = scene(200)
    np.savez(path, pictures=pictures, states=places, episodes=np.arange(200) // 10)
    return path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cameras over six episodes; the last picture of each has no joints beside it."""
    folder = tmp_path_factory.mktemp("recorded") / "pictures"
    log = PictureLog(folder, ["front", "wrist"])
    for camera in ("front", "wrist"):
        for episode in range(6):
            pictures, places = scene(8, episode)
            for index, (picture, (x, y)) in enumerate(zip(pictures, places, strict=True)):
                joints = {"x": float(x), "y": float(y)} if index < 7 else None
                log.add(camera, f"e{episode}", 1_000 * episode + index, picture, joints)
    return folder


@pytest.fixture(scope="module")
def weights(arrays: Path) -> Path:
    path = arrays.with_name("fitted.safetensors")
    assert main(["encoder", "fit", "--pictures", str(arrays), "--out", str(path), "--steps", "120",
                 "--objective", "states", *QUICK]) == 0
    return path


def medians(told: str) -> list[float]:
    """Return the column of median errors of a table."""
    lines = [line for line in told.splitlines() if re.match(r"(mean|grid|spatial_softmax) ", line)]
    return [float(line.split()[5]) for line in lines]


def test_weights_of_a_fit_are_those_that_the_encoder_takes(weights: Path) -> None:
    encoder = Encoder(EncoderConfig(str(weights)))
    assert encoder.trained and encoder.image_size == SIZE and encoder.feature_dim == 8 * 16
    assert "200 pictures" in encoder.description and "objective states" in encoder.description


def test_weights_of_a_fit_without_flags_are_those_that_the_shipped_cameras_take(
        arrays: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "plain.safetensors"
    assert main(["encoder", "fit", "--pictures", str(arrays), "--out", str(path), "--steps", "1",
                 "--batch-size", "2"]) == 0
    shipped = load(VisionConfig, find_settings("robot/cameras.yaml"))
    caplog.clear()
    encoder = Encoder(replace(shipped.encoder, weights=str(path)))
    assert encoder.trained and not caplog.text, "with the head that was fitted"
    assert {camera.name: encoder.feature_dim for camera in shipped.cameras} == \
        load_preset("cpu_pick_cube").task.features


def test_a_fit_is_for_the_cameras_that_are_named(arrays: Path, tmp_path: Path) -> None:
    cameras = tmp_path / "cameras.yaml"
    cameras.write_text("encoder: {image_size: 32, head: {kind: mean, block: 0, channels: 0}}")
    path = tmp_path / "mine.safetensors"
    assert main(["encoder", "fit", "--pictures", str(arrays), "--out", str(path), "--steps", "1",
                 "--batch-size", "2", "--cameras", str(cameras), "--head-channels", "4"]) == 0
    encoder = Encoder(EncoderConfig(str(path)))
    assert encoder.image_size == 32
    assert encoder.head_config == HeadConfig(kind="mean", block=0, channels=4)


def test_a_recorded_folder_is_fitted_to_with_progress_and_time_left(
        recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new/encoder.safetensors"
    assert main(["encoder", "fit", "--pictures", str(recorded), "--out", str(out), "--steps", "3",
                 "--held-out", "0.2", *QUICK]) == 0
    told = capsys.readouterr().out
    assert "84 pictures, 2 cameras (front, wrist), 6 episodes, 2 states (x, y)" in told
    assert re.search(r"fitting: 1/3  loss \d+\.\d+  \d+:\d\d left", told)
    assert re.search(r"held-out loss \d\.\d+", told) and "has 128 features" in told
    assert out.is_file()
    assert main(["encoder", "fit", "--pictures", str(recorded), "--out", str(out), "--steps", "1",
                 "--objective", "pictures", "--held-out", "0", *QUICK]) == 0
    told = capsys.readouterr().out
    assert "96 pictures" in told and "no states" in told and "no episode was held out" in told


def test_the_probe_tells_that_fitted_weights_see_better_than_random_ones(
        arrays: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["encoder", "probe", "--pictures", str(arrays), "--at-most", "100"]
    assert main([*asked, "--weights", str(weights)]) == 0
    fitted = capsys.readouterr().out
    assert "objective states, 120 updates" in fitted and "100 pictures" in fitted
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert "weights: RANDOM ones" in told
    for table in (medians(fitted), medians(told)):
        assert len(table) >= 7 and table == sorted(table), "best first"
    assert medians(fitted)[0] < 0.8 * medians(told)[0]


def test_the_probe_goes_camera_by_camera_and_takes_the_states_that_are_asked_for(
        recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["encoder", "probe", "--pictures", str(recorded), "--at-most", "0"]
    assert main([*asked, "--camera", "wrist", "--states", "x"]) == 0
    told = capsys.readouterr().out
    assert "camera wrist, 42 pictures" in told and "camera front" not in told
    assert main([*asked, "--camera", "side"]) == USER_ERROR
    assert "--camera side: there are front, wrist" in capsys.readouterr().err
    assert main([*asked, "--states", "z"]) == USER_ERROR
    assert "--states z: there are x, y" in capsys.readouterr().err


@pytest.mark.parametrize("words, why", [
    (["fit", "--pictures", "{none}", "--out", "{out}.safetensors"],
     "expected an .npz, a video or a folder"),
    (["fit", "--pictures", "{set}", "--out", "{out}.pkl"], "name it out.safetensors"),
    (["fit", "--pictures", "{set}", "--out", "{set}/x/out.safetensors"],
     "its folder cannot be made"),
    (["fit", "--pictures", "{set}", "--out", "{out}.safetensors", "--start-from", "{none}"],
     "no such file of encoder weights"),
    (["fit", "--pictures", "{set}", "--out", "{out}.safetensors", "--image-size", "48"],
     "image_size 48 is not a multiple of 32"),
    (["probe", "--pictures", "{blind}"], "no states are logged beside these pictures"),
])
def test_what_cannot_be_done_is_refused_with_its_remedy(
        words: list[str], why: str, arrays: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    blind = tmp_path / "blind.npz"
    np.savez(blind, pictures=np.zeros((4, SIZE, SIZE, 3), np.uint8))
    places = {"none": tmp_path / "none", "out": tmp_path / "out", "set": arrays, "blind": blind}
    assert main(["encoder", *(word.format(**places) for word in words)]) == USER_ERROR
    assert why in capsys.readouterr().err
    assert not list(tmp_path.glob("out*")), "nothing was written"
