"""Run the benchmarks, all or by name, one process each, one after another."""

from __future__ import annotations

import argparse
import subprocess
import sys

from benchmarks import SKIPPED

BENCHMARKS = {
    "update": "one POCO update at the paper's size and at the CPU preset",
    "update_algorithms": "an update of every algorithm, and how POCO's cost grows",
    "update_jax": "POCO's update beside JAX's public QC update rule, on the same device",
    "update_gpu": "one captured update on a GPU beside what the card can do",
    "gpu": "all that has to be known of a GPU: equality, resume, learning, speed",
    "paper_scene": "scene at the paper's size on a GPU, from end to end; only by name",
    "lockstep": "environment steps/s over ROS in lock-step against the bare loop",
    "infer": "infer_chunk over ROS while the learner trains",
    "memory": "memory of the whole sim_scene graph",
    "encoder": "camera picture to features, one thread",
    "encoder_heads": "what features know of the emulated cube's position, by a linear probe",
    "ticks": "ticks of the arm beside a learner that trains, in the emulated cell",
    "observation": "observation to chunk in the robot's graph, in the emulated cell",
}
LONG = ("paper_scene",)
"""Not among all."""


def main() -> int:
    """Run what was asked for; return 1 when one of them failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Print medians as lines RESULT name=value; compare within one run only.",
        epilog="\n".join(f"  {name:<18} {what}" for name, what in BENCHMARKS.items()))
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], metavar="name",
                        help="which ones; default: all")
    names = parser.parse_args().names or [name for name in BENCHMARKS if name not in LONG]
    codes = {name: subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode
             for name in names}
    failed = [name for name, code in codes.items() if code not in (0, SKIPPED)]
    for name in failed:
        print(f"benchmark {name} failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
