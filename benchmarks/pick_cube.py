"""What a preset learns in Pick Cube from a rehearsal's pictures, in process and so in less time.

Physics and cameras of the emulated cell with the delays of the robot's graph, but without the
graph; encoder and demonstrations are those of a rehearsal (``poco rehearse``). A way to compare
settings before an hour of real time is spent on them, not a replacement of that hour.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import yaml

from poco_ros.cell.config import CellConfig
from poco_ros.cell.simulation import Delays, PickCubeSim, PictureFeatures
from poco_ros.core.config import load
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.rollout import run_episode
from poco_ros.core.seeding import episode_id, episode_seed, evaluation_seed
from poco_ros.learning.policies import Policy
from poco_ros.learning.trainer import Trainer
from poco_ros.preset import find_settings, load_preset
from poco_ros.robot.camera import crop
from poco_ros.robot.config import RobotConfig
from poco_ros.robot.encoder import Encoder
from poco_ros.robot.vision_config import EncoderConfig, VisionConfig
from poco_ros.training import signature_of

PICTURE_AGE = (0.04, 0.09)
"""Age of features when they are used [s], as ``/diagnostics`` of the graph shows it."""
RECENT = 50


def make(weights: Path) -> PickCubeSim:
    """Return Pick Cube as the robot's graph sees it."""
    cell = load(CellConfig, find_settings("cell/pick_cube.yaml"))
    robot = load(RobotConfig, find_settings("robot/piper.yaml"))
    cameras = load(VisionConfig, find_settings("rehearsal/cameras.yaml")).cameras
    encoder = Encoder(EncoderConfig(str(weights)))

    def encode(pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        views = [crop(pictures[one.name], one.crop) for one in cameras]
        return dict(zip((one.name for one in cameras), encoder.encode(views), strict=True))

    features = PictureFeatures(tuple((one.name, encoder.feature_dim) for one in cameras), encode)
    steps = round(cell.operator.trial_time / cell.script.period)
    return PickCubeSim(cell, features, steps, Delays(robot.control.act_offset, PICTURE_AGE))


def success_rate(world: PickCubeSim, policy: Policy, episodes: int) -> float:
    """Return the share of successes over fixed seeds."""
    return float(np.mean([run_episode(world, policy, evaluation_seed(0, number), "try").success
                          for number in range(episodes)]))


def main() -> None:
    """Clone, learn online, and print a line for every evaluation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rehearsal", type=Path, required=True, metavar="DIR",
                        help="folder of a rehearsal, with encoder.safetensors and taught/")
    parser.add_argument("--preset", default="cpu_pick_cube")
    parser.add_argument("--set", default="{}", metavar="YAML", dest="overrides",
                        help="such as '{agent: {chunk_horizon: 5}, train: {utd: 1.0}}'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=15_000, help="online steps")
    parser.add_argument("--every", type=int, default=5_000, help="steps between evaluations")
    parser.add_argument("--episodes", type=int, default=100, help="of an evaluation")
    args = parser.parse_args()
    torch.set_num_threads(1)

    preset = load_preset(args.preset, yaml.safe_load(args.overrides))
    world = make(args.rehearsal / "encoder.safetensors")
    trainer = Trainer(preset.agent, preset.train, signature_of(preset), args.seed,
                      list(EpisodeStore(args.rehearsal / "taught")))
    begun, due = time.monotonic(), 0
    recent: list[bool] = []

    def show(name: str) -> None:
        rate = success_rate(world, trainer.policy(), args.episodes)
        lately = f"{np.mean(recent[-RECENT:]):.2f}" if recent else "-"
        print(f"{trainer.environment_steps:6,} steps: {rate:.2f} of {args.episodes} episodes,"
              f" while it learns {lately}, {(time.monotonic() - begun) / 60:.1f} min", flush=True)
        print(f"RESULT pick_cube_{name}={rate:.2f}", flush=True)

    while trainer.environment_steps < args.steps:
        while trainer.work_due():
            trainer.work()
        if trainer.environment_steps >= due:
            show(str(trainer.environment_steps) if due else "cloned")
            due += args.every
        number = trainer.episodes_added
        policy = trainer.acting_policy(number)
        assert policy is not None  # all updates are done
        episode = run_episode(world, policy, episode_seed(args.seed, number),
                              episode_id(args.seed, number))
        recent.append(episode.success)
        trainer.add_episode(episode)
    while trainer.work_due():
        trainer.work()
    show("finetuned")


if __name__ == "__main__":
    main()
