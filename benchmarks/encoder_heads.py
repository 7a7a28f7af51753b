"""What features know of the emulated cube: a linear probe of its position, for every head.

A scripted hand works in the emulated cell while one camera looks on. A ridge regression reads the
cube's position from the features, and is judged on episodes that it has not seen: this chooses how
the encoder's feature map becomes a vector. Random weights are probed beside the given ones.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping

import numpy as np
import torch

from poco_ros.cell.config import CellConfig
from poco_ros.cell.simulation import PickCubeSim, PictureFeatures, demonstrate
from poco_ros.core.config import load
from poco_ros.core.seeding import derive_seed
from poco_ros.preset import find_settings
from poco_ros.robot.camera import crop
from poco_ros.robot.encoder import Encoder, prepare
from poco_ros.robot.encoder_probe import compare_heads, table
from poco_ros.robot.vision_config import EncoderConfig, VisionConfig

SEED = 81_000


def look(camera: str, episodes: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pictures (N, size, size, 3), cube positions (N, 3) [m], and their episodes (N,)."""
    cameras = load(VisionConfig, find_settings("rehearsal/cameras.yaml")).cameras
    box = next(one.crop for one in cameras if one.name == camera)
    pictures: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    groups: list[int] = []

    def see(views: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        pictures.append(prepare(crop(views[camera], box), size).copy())
        positions.append(world.cube.position.copy())
        groups.append(episode)
        return {"seen": np.zeros(1)}

    world = PickCubeSim(load(CellConfig, find_settings("cell/pick_cube.yaml")),
                        PictureFeatures((("seen", 1),), see))
    for episode in range(episodes):
        demonstrate(world, derive_seed(SEED, episode), str(episode))
    return np.stack(pictures), np.stack(positions), np.asarray(groups)


def main() -> None:
    """Print a table for each file of weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", nargs="*", default=[], metavar="FILE",
                        help="encoders, such as encoder.safetensors of a rehearsal")
    parser.add_argument("--camera", default="front")
    parser.add_argument("--episodes", type=int, default=40)
    args = parser.parse_args()
    logging.getLogger("poco_ros.robot.encoder").setLevel(logging.ERROR)  # random: on purpose
    torch.set_num_threads(1)
    for weights in ["", *args.weights]:
        size = Encoder(EncoderConfig(weights)).image_size
        pictures, positions, groups = look(args.camera, args.episodes, size)
        print(f"{weights or 'random weights'}: {len(pictures)} pictures of {size} px of the camera"
              f" {args.camera}, {args.episodes} episodes; errors in mm")
        reports = compare_heads(weights, pictures, positions, groups)
        print(table(reports))
        name = "fitted" if weights else "random"
        print(f"RESULT probe_{name}_best_mm={1e3 * reports[0].result.median_error:.1f}")


if __name__ == "__main__":
    main()
