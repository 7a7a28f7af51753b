"""All that has to be known of a GPU, in one command: some 3 minutes on an H100.

The captured update is the plain one, never makes the host wait, and resumes bit for bit; how long
it takes, beside the card's limit and beside JAX; and whether tf32 and bf16 learn what fp32 learns.
Each part has a process of its own, so that one that fails leaves the others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import torch

from benchmarks import SKIPPED
from benchmarks.device_checks import (
    bandit_share,
    from_plain,
    from_uncaptured,
    never_waits,
    resumes_exactly,
    small,
)
from benchmarks.update import PAPER
from poco_ros.learning.agents import Phase
from poco_ros.learning.config import OFF_POLICY

NEAR = 0.01
"""Two results are equal when they differ by less than this share of the way that they went:
rounding in another order makes 1e-6 to 1e-3 of it, anything that is wrong a tenth or more."""
LEARNED = 0.7
"""Share of samples in the mode that pays which has to be reached; a cloned policy has 0.5."""
PRECISIONS = ("fp32", "tf32", "bf16")
PARTS = {"equal": 120, "resume": 60, "learn": 150, "update_gpu": 270, "update_jax": 120}
"""Name -> seconds after which it is ended."""
OPTIONS = {"update_jax": ["--compiled"]}
"""Of parts that are commands of their own: JAX compiles what it runs."""


def result(device: str, name: str, value: float) -> None:
    """Print a figure; one that was not found on a GPU is no result."""
    print(f"{'RESULT' if device == 'cuda' else 'without a GPU:'} gpu_{name}={value:.3f}")


def equal(device: str) -> int:
    """Hold the update on the device against the plain one; return 1 when they differ."""
    on_gpu, differing, done = device == "cuda", 0, 0
    cases = [(name, phase, small(name)) for name in OFF_POLICY for phase in Phase]
    for name, phase, config in [*cases, *([("poco at the paper's size", Phase.FULL, PAPER)]
                                          if on_gpu else [])]:
        if on_gpu:
            never_waits(config, phase)
        plain = from_plain(config, phase, device) if config is not PAPER else 0.0
        captured = from_uncaptured(config, phase, device, captured=on_gpu)
        good = plain < NEAR and captured < NEAR  # not max: nan may hide behind a number
        differing, done = differing + (not good), done + 1
        print(f"  {name:<24} {phase.value:<7} from the plain update {plain:.1e}, captured from"
              f" uncaptured {captured:.1e}{'' if good else '   DIFFERS'}", flush=True)
    result(device, "captured_equal", (done - differing) / done)
    return 1 if differing else 0


def resume(device: str) -> int:
    """Stop, save, resume; return 1 when the run is another than the one that was not stopped."""
    exact = resumes_exactly(device)
    result(device, "resume_exact", float(exact))
    return 0 if exact else 1


def learn(device: str, updates: int) -> int:
    """Have each precision learn a bandit; return 1 when one of them does not."""
    shares = {}
    for precision in PRECISIONS:
        begun = time.monotonic()
        shares[precision] = bandit_share(precision, device, updates)
        print(f"  {precision}: {100 * shares[precision]:.1f}% of the samples in the mode that pays"
              f" after {updates} updates ({time.monotonic() - begun:.0f} s)", flush=True)
    for precision, share in shares.items():
        result(device, f"bandit_{precision}", share)
    return 0 if min(shares.values()) > LEARNED else 1


def main() -> int:
    """Run all parts, or one; return 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, help="one part only, in this process")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda",
                        help="cpu: what can be tried without a GPU: equal, resume, learn")
    parser.add_argument("--updates", type=int, default=2000, help="of the learning check")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print(f"gpu: skipped: torch {torch.__version__} finds no GPU here")
        return 0
    if args.part in ("equal", "resume"):
        return {"equal": equal, "resume": resume}[args.part](args.device)
    if args.part == "learn":
        return learn(args.device, args.updates)
    names = [args.part] if args.part else list(PARTS)
    failed, skipped, begun = [], [], time.monotonic()
    for name in names:
        own = name.startswith("update")
        if own and args.device == "cpu":
            continue
        command = ["-m", f"benchmarks.{name}", *OPTIONS.get(name, [])] if own else [
            "-m", "benchmarks.gpu", "--part", name, "--device", args.device,
            "--updates", str(args.updates)]
        print(f"{name}:", flush=True)
        try:
            code = subprocess.run([sys.executable, *command], timeout=PARTS[name]).returncode
        except subprocess.TimeoutExpired:
            code = -1
            print(f"  not done in {PARTS[name]} s")
        if code == SKIPPED:
            skipped.append(name)
        elif code:
            failed.append(name)
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes; "
          + (f"failed: {', '.join(failed)}" if failed else "all parts passed")
          + (f"; not measured, as said above: {', '.join(skipped)}" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
