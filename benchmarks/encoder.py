"""Camera pictures to features, frozen ResNet-10, one thread: what a frame costs.

Timed is what camera_encoder does between taking the newest pictures and publishing: cutting and
scaling, the network, the features as an array; and apart from it, the decoding of the JPEG in
which the picture comes. The pictures are those of the emulated cell, 128 x 128. A batch of one
and a batch of the cell's two cameras run in turn, so that both meet the same minutes.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch

from poco_ros.cell.cameras import make_camera
from poco_ros.cell.config import CellConfig
from poco_ros.cell.scene import Scene
from poco_ros.robot.encoder import Encoder
from poco_ros.robot.vision_config import EncoderConfig, HeadConfig


def cell_jpegs() -> list[bytes]:
    """Return one picture of each of the cell's cameras, as it streams them."""
    settings = CellConfig()
    scene = Scene(settings.scene)
    scene.place_arm(np.asarray(settings.scene.home))
    jpegs = []
    for camera in settings.cameras:
        made = make_camera(scene.model, camera, "fast", 0)
        jpegs.append(made.jpeg(made.take(scene.snapshot())))
    return jpegs


def decode(jpeg: bytes) -> np.ndarray:
    """Return the picture (H, W, 3) uint8, RGB."""
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def main() -> None:
    """Print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    args = parser.parse_args()
    logging.getLogger("poco_ros.robot.encoder").setLevel(logging.ERROR)  # random weights will do
    cv2.setNumThreads(1)
    jpegs = cell_jpegs()
    pictures = [decode(jpeg) for jpeg in jpegs]
    encoder = Encoder(EncoderConfig())
    whole = Encoder(EncoderConfig(head=HeadConfig(kind="mean", block=3, channels=0)))
    work: dict[str, Callable[[], object]] = {
        "decode": lambda: decode(jpegs[0]),
        "one camera": lambda: encoder.encode(pictures[:1]),
        "both cameras": lambda: encoder.encode(pictures),
        "one camera, all four blocks": lambda: whole.encode(pictures[:1]),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(args.frames + 10):
        for name, do in work.items():
            begun = time.perf_counter()
            do()
            if number >= 10:  # the first ones warm up
                times[name].append(1e3 * (time.perf_counter() - begun))
    found = {name: statistics.median(values) for name, values in times.items()}
    height, width = pictures[0].shape[:2]
    print(f"{width} x {height}, {torch.get_num_threads()} thread, head {encoder.head_config.kind}"
          f" of block {encoder.head_config.block}, {encoder.feature_dim} features a camera")
    for name, values in times.items():
        print(f"  {name:<28} {found[name]:7.2f} ms   99th percentile"
              f" {statistics.quantiles(values, n=100)[98]:7.2f}")
    print(f"RESULT encoder_frame_ms={found['one camera'] + found['decode']:.2f}")
    print(f"RESULT encoder_batch_of_two_ms={found['both cameras']:.2f}")


if __name__ == "__main__":
    main()
