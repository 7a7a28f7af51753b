"""Scene at the paper's size on a GPU: minutes from demonstrations to the last evaluation.

500,000 updates offline, 200,000 steps of the environment online with as many updates, in tf32 and
compiled, and evaluations of 50 episodes every 50,000 steps. ``RESULT scene_paper_minutes`` is what
a clock shows for ``poco train``; making the play data, once, is apart.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from poco_ros.data.demonstrations import load_demonstrations
from poco_ros.preset import load_preset
from poco_ros.run_folder import RunFolder

PRESET = "paper_scene"
ACTORS = 9
"""Episodes that run at the same time: sync_lag 8 lets one more than that."""


def command(run_dir: Path, device: str, scale: float) -> list[str]:
    """Return the command that trains; ``scale`` shortens all of it."""
    amounts = {"offline-steps": 500_000, "online-steps": 200_000, "critic-warmup": 5_000,
               "eval-every": 50_000}
    words = [sys.executable, "-m", "poco_ros.cli.main", "train", "--preset", PRESET, "--run-dir",
             str(run_dir), "--device", device, "--sync-lag", str(ACTORS - 1), "--actors",
             str(min(ACTORS, os.cpu_count() or 1))]
    if device != "cpu":
        words += ["--precision", "tf32", "--compiled"]
    for name, value in amounts.items():
        words += [f"--{name}", str(max(1, round(value * scale)))]
    return words


def main() -> int:
    """Train, and print the minutes and the success at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/paper_scene"))
    parser.add_argument("--scale", type=float, default=1.0, help="share of all amounts, to try it")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print(f"paper_scene: skipped: torch {torch.__version__} finds no GPU here")
        return 0
    preset = load_preset(PRESET)
    load_demonstrations(preset.demonstrations, preset.task)
    begun = time.monotonic()
    done = subprocess.run(command(args.run_dir, args.device, args.scale)).returncode
    if done:
        return done
    last = RunFolder(args.run_dir).read_evaluations()[-1]
    whole = args.device == "cuda" and args.scale == 1.0
    name = "RESULT" if whole else "in part:"
    print(f"{name} scene_paper_minutes={(time.monotonic() - begun) / 60:.1f}")
    print(f"{name} scene_paper_success={float(last['success_rate']):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
