"""One captured POCO update at the paper's size on a GPU, beside what the card can do.

For each precision: the time of an update, the rate of large matrix products measured on the same
card at that precision, the operations of the update counted from its settings
(benchmarks/flops.py) and the share of that rate which the update reaches. With bf16 the policy's
part counts against the rate of bf16 and the critics' against that of tf32, in which they are done.
Results without a suffix are those of tf32: what JAX, in which the paper's algorithms are
published, makes of float32 products on such a card.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import traceback
from dataclasses import dataclass

import torch

from benchmarks.flops import poco_update_flops
from benchmarks.update import PAPER
from benchmarks.update_jax import ACTION_DIM, OBSERVATION, timer_on_gpu

SQUARE = 8192
"""Rows and columns of the products whose rate is the limit: large enough for any card."""
VARIANTS = (("fp32", False), ("tf32", False), ("bf16", False), ("tf32", True), ("bf16", True))
UPDATES, ROUNDS = 200, 7


@dataclass(frozen=True)
class Rates:
    """Measured operations a second of large products."""

    fp32: float
    tf32: float
    bf16: float

    @classmethod
    def measure(cls) -> Rates:
        """Measure the card that is current."""
        return cls(product_rate("highest", torch.float32), product_rate("high", torch.float32),
                   product_rate("highest", torch.bfloat16))

    def least_ms(self, precision: str) -> float:
        """Return how long the products of an update would take at these rates [ms]."""
        flops = poco_update_flops(PAPER, OBSERVATION, ACTION_DIM)
        critics = self.fp32 if precision == "fp32" else self.tf32
        return 1e3 * (flops.policy / getattr(self, precision) + flops.critic / critics)


def product_rate(precision: str, dtype: torch.dtype) -> float:
    """Return the operations a second of a large square product: the median of some rounds."""
    torch.set_float32_matmul_precision(precision)
    left, right = (torch.randn(SQUARE, SQUARE, device="cuda").to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    repeats, seconds = 5, []
    for number in range(8):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(repeats):
            torch.mm(left, right, out=out)
        end.record()
        end.synchronize()
        if number:  # the first round warms up
            seconds.append(begin.elapsed_time(end) / 1e3 / repeats)
    return 2 * SQUARE ** 3 / statistics.median(seconds)


def label(precision: str, compiled: bool) -> str:
    """Return what stands at the end of the names of results; nothing for tf32."""
    return ("" if precision == "tf32" else f"_{precision}") + ("_compiled" if compiled else "")


def main() -> int:
    """Print the figures; return 1 when a variant failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"update_gpu: skipped: torch {torch.__version__} finds no GPU here")
        return 0
    flops = poco_update_flops(PAPER, OBSERVATION, ACTION_DIM)
    rates = Rates.measure()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; paper's size, an update is"
          f" {flops.total / 1e9:.0f} GFLOP, {flops.policy / 1e9:.0f} of them the policy's")
    print("measured rate of large products [TFLOP/s]: "
          + ", ".join(f"{name} {getattr(rates, name) / 1e12:.0f}"
                      for name in ("fp32", "tf32", "bf16")))
    failed = 0
    for precision, compiled in VARIANTS:
        name = precision + (" compiled" if compiled else "")
        torch.compiler.reset()  # as a process of its own
        try:
            measure = timer_on_gpu(PAPER, precision=precision, compiled=compiled)
            found = statistics.median(measure(UPDATES) for _ in range(args.rounds))
        except Exception:  # the other variants are still of use
            traceback.print_exc()
            print(f"  {name:<14} failed", flush=True)
            failed = 1
            continue
        least = rates.least_ms(precision)
        print(f"  {name:<14} {found:7.3f} ms an update; its products alone {least:7.3f} ms at the"
              f" measured rate: {100 * least / found:.0f}% of it", flush=True)
        result = f"RESULT poco_update_gpu{label(precision, compiled)}"
        print(f"{result}_ms={found:.3f}\n{result}_matmul_ratio={least / found:.3f}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
