"""What is shipped for a real robot fits together, before anything is plugged in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from poco_ros.bringup.robot import (
    RealFinetuneArguments,
    TeachArguments,
    real_finetune,
    resolve_finetune,
    resolve_teach,
    teach,
)
from poco_ros.bringup.sim_scene import SimSceneArguments
from poco_ros.bringup.sim_scene import resolve as resolve_sim
from poco_ros.cli.main import USER_ERROR, main
from poco_ros.core.config import load
from poco_ros.core.errors import ConfigError
from poco_ros.nodes.camera_encoder import check_task, feature_layout
from poco_ros.preset import find_preset, find_settings, load_preset
from poco_ros.robot.encoder import Encoder
from poco_ros.robot.encoder_fit import FitConfig
from poco_ros.robot.vision_config import VisionConfig

ROOT = Path(__file__).resolve().parent.parent
GRAPHS = [(resolve_finetune, RealFinetuneArguments, real_finetune),
          (resolve_teach, TeachArguments, teach)]
IDS = ["real_finetune", "teach"]


@pytest.mark.parametrize("hardware", ["real", "emulated"])
@pytest.mark.parametrize("resolve, arguments, nodes", GRAPHS, ids=IDS)
def test_the_shipped_cameras_give_the_features_that_the_shipped_preset_is_for(
        tmp_path: Path, hardware: str, resolve, arguments, nodes) -> None:
    resolved = resolve(arguments(hardware=hardware, run_dir=str(tmp_path)))
    vision = load(VisionConfig, resolved.cameras)
    layout = feature_layout(vision.cameras, Encoder(vision.encoder))
    check_task(resolved.preset, layout)
    assert layout.names == tuple(load_preset(resolved.preset).task.features)


def test_cameras_of_the_robot_and_the_rehearsal_and_the_fit_want_one_encoder() -> None:
    robot, rehearsal = (load(VisionConfig, find_settings(f"{place}/cameras.yaml")).encoder
                        for place in ("robot", "rehearsal"))
    fit = load(FitConfig, find_settings("rehearsal/encoder_fit.yaml"))
    assert robot.head == rehearsal.head == fit.head
    assert robot.image_size == rehearsal.image_size == fit.image_size


def test_presets_that_help_and_docs_name_exist() -> None:
    texts = [*(ROOT / "poco_ros").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md",
             *(ROOT / "config").rglob("*.yaml"), *(ROOT / "launch").glob("*.py")]
    named = {name for path in texts
             for name in re.findall(r"(?:--preset |preset:=)([a-z]\w+)(?![\w/.])",
                                    path.read_text())}
    assert {"cpu_cube_single", "cpu_pick_cube"} <= named
    for name in named:
        find_preset(name)


@pytest.mark.parametrize("resolve, arguments", [pair[:2] for pair in GRAPHS], ids=IDS)
def test_a_run_folder_that_cannot_be_made_is_named_with_its_remedy(
        tmp_path: Path, resolve, arguments) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/run/launch/.*cannot be written.*run_dir:="):
        resolve(arguments(run_dir=str(tmp_path / "file/run")))


def test_the_run_folder_of_a_simulated_task_that_cannot_be_made_is_named_too(tmp_path: Path
                                                                             ) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"launch_preset.yaml.*cannot be written.*run_dir:="):
        resolve_sim(SimSceneArguments(task_number=2, run_dir=str(tmp_path / "file/run")))


@pytest.mark.parametrize("text, words", [
    ("cameras: null", "expected a list, got None"), ("cameras: 3", "expected a list, got 3"),
    ("cameras: [front]", "expected a mapping of settings, got 'front'"),
    ("cameras: [{name: 1}]", "expected str, got 1"),
    ("cameras: [{rat: 20.0}]", "unknown key 'rat'; did you mean 'rate'")])
def test_wrong_cameras_are_refused_with_the_file_before_anything_is_started(
        tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "my_cameras.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"my_cameras.yaml: .*{re.escape(words)}"):
        resolve_finetune(RealFinetuneArguments(hardware="emulated", cameras=str(path),
                                               run_dir=str(tmp_path / "run")))


def test_cameras_are_plugged_into_the_cell_with_what_else_is_said_of_them(tmp_path: Path) -> None:
    path = tmp_path / "my_cameras.yaml"
    path.write_text("cameras: [{rate: 7.0}, {name: wrist, rate: 8.0}]")  # a camera's name is front
    resolved = resolve_finetune(RealFinetuneArguments(
        hardware="emulated", cameras=str(path), run_dir=str(tmp_path / "run")))
    cameras = load(VisionConfig, resolved.cameras).cameras
    assert [(camera.name, camera.rate) for camera in cameras] == [("front", 7.0), ("wrist", 8.0)]
    assert all(camera.source.startswith("http://127.0.0.1:") for camera in cameras)


def test_a_rehearsal_with_a_seed_that_nodes_refuse_is_refused_at_once(
        capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rehearse", "--seed", "-1"]) == USER_ERROR
    assert "--seed -1 is below the minimum 0" in capsys.readouterr().err
