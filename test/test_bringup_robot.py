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
from poco_ros.core.config import load
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
