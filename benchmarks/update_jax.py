"""POCO's update beside JAX's public QC update rule (benchmarks/jax_qc.py), on the same device.

JAX runs in a process of its own; the two take turns, block after block, so both see the same
minutes. Sizes are the paper's in both. On a GPU JAX does float32 products in TF32, so POCO is
measured in that precision too. On the CPU both have the same cores: one by default, and then by
processor time, which does not count the waiting on a busy machine.
``RESULT poco_to_jax_ratio`` is JAX's time over POCO's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch

from benchmarks import SKIPPED
from benchmarks.update import PAPER, update_of, world
from poco_ros.learning.agents import Phase
from poco_ros.learning.captured import DeviceUpdater
from poco_ros.learning.config import PocoConfig, TrainConfig

OBSERVATION, ACTION_DIM = 40, 5


class JaxProcess:
    """Another process that does JAX's updates on request."""

    def __init__(self, utd: int, sizes: dict[str, int], clock: str = "perf_counter") -> None:
        """Start it and wait until it has compiled.

        Raises:
            RuntimeError: it ended, as its own output says.
        """
        environment = dict(os.environ, XLA_PYTHON_CLIENT_PREALLOCATE="false")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.jax_qc", str(utd), json.dumps(sizes), clock],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.words: dict[str, str] = json.loads(self._line())

    def _line(self) -> str:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise RuntimeError(f"the JAX process ended with {self._process.wait()}")
        return line

    def time(self, updates: int) -> float:
        """Do ``updates`` updates and return how long one took [ms]."""
        self._process.stdin.write(f"{updates}\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        return float(self._line())

    def __enter__(self) -> JaxProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait(timeout=30.0)


def sizes_of(config: PocoConfig, observation: int, action_dim: int) -> dict[str, int]:
    """Return the settings of ``config`` by the names that the JAX side gives them."""
    return {"observation": observation, "chunk": config.chunk_horizon * action_dim,
            "width": config.hidden_dim, "layers": config.num_layers,
            "members": config.num_critics, "candidates": config.num_candidates,
            "flow_steps": config.flow_steps, "batch": config.batch_size,
            "horizon": config.chunk_horizon}


def timer_on_cpu(config: PocoConfig, clock: str = "perf_counter") -> Callable[[int], float]:
    """Return what does a number of plain updates and says how long one took [ms]."""
    update, now = update_of(config, OBSERVATION, ACTION_DIM), getattr(time, clock)
    update()

    def measure(updates: int) -> float:
        begun = now()
        for _ in range(updates):
            update()
        return 1e3 * (now() - begun) / updates

    return measure


def timer_on_gpu(config: PocoConfig, **settings: Any) -> Callable[[int], float]:
    """Return what does a number of captured updates and says how long one took [ms]."""
    agent, replay = world(config, OBSERVATION, ACTION_DIM, "cuda")
    train = TrainConfig(device="cuda", log_every=1 << 30, **settings)
    updater = DeviceUpdater(agent, replay, train, captured=train.captured)
    number = 0

    def measure(updates: int) -> float:
        nonlocal number
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(updates):
            number += 1
            updater.update(Phase.FULL, number)
        torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - begun) / updates

    measure(20)  # captured, and the clocks of the card are up
    updater.check()
    return measure


def paired(ours: Callable[[int], float], theirs: Callable[[int], float], updates: int,
           rounds: int) -> tuple[float, float, float]:
    """Return the medians of both [ms] and of the ratio, theirs over ours, round by round."""
    pairs = [(ours(updates), theirs(updates)) for _ in range(rounds)]
    return (statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs),
            statistics.median(b / a for a, b in pairs))


def compare(config: PocoConfig, device: str, rounds: int, **settings: Any) -> bool:
    """Measure both, print the figures; return False where JAX has another device."""
    on_gpu = device == "cuda"
    updates, utd = (200, 20) if on_gpu else (1, 1)
    alone = not on_gpu and torch.get_num_threads() == 1
    clock = "process_time" if alone else "perf_counter"
    ours = timer_on_gpu(config, **settings) if on_gpu else timer_on_cpu(config, clock)
    with JaxProcess(utd, sizes_of(config, OBSERVATION, ACTION_DIM), clock) as jax:
        words = jax.words
        if (words["platform"] == "cpu") == on_gpu:
            print(f"update_jax: no comparison: torch computes on {device}, JAX {words['jax']} on"
                  f" {words['device']}; for a GPU: pip install 'jax[cuda12]=={words['jax']}'")
            return False
        poco, qc, ratio = paired(ours, jax.time, updates, rounds)
    print(f"POCO {poco:.2f} ms an update, JAX {words['jax']} QC {qc:.2f} ms, on"
          f" {words['device']}{', processor time' if alone else ''}: {ratio:.2f} times JAX's rate"
          f" (medians of {rounds} rounds)")
    print(f"RESULT jax_qc_update_ms={qc:.2f}")
    print(f"RESULT poco_beside_jax_update_ms={poco:.2f}")
    print(f"RESULT poco_to_jax_ratio={ratio:.2f}")
    return True


def main() -> int:
    """Print the figures on the best device there is; return SKIPPED where there are none."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="cores of both, on the CPU")
    parser.add_argument("--compiled", action="store_true", help="train.compiled, on a GPU")
    args = parser.parse_args()
    if importlib.util.find_spec("jax") is None:
        print("update_jax: skipped: JAX is not installed; pip install -e '.[bench]'")
        return SKIPPED
    if torch.cuda.is_available():
        done = compare(PAPER, "cuda", args.rounds, precision="tf32", compiled=args.compiled)
        return 0 if done else SKIPPED
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])  # JAX inherits it
    torch.set_num_threads(args.threads)
    print(f"paper's size on the CPU, {args.threads} threads of each, on the same cores")
    return 0 if compare(PAPER, "cpu", args.rounds) else SKIPPED


if __name__ == "__main__":
    sys.exit(main())
