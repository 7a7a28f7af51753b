"""One update of every algorithm on the CPU, and how the cost of POCO's grows.

At the size of the CPU preset and at the paper's; then with one setting of POCO at a time: number
of candidates, batch, width and flow steps. An update of DPPO and ReinFlow is one of a minibatch of
a round. What is compared is done in turn, round after round, in one run. Times are processor time
of one thread, which on an idle machine is what a clock shows, and on a busy one does not count the
waiting. Last, environment steps/s (by the clock) with the number of environments, each in a
process of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable

import torch

from benchmarks.update import PAPER, medians, update_of
from poco_ros.core.config import from_dict, to_dict
from poco_ros.learning.agents import make_agent
from poco_ros.learning.config import (
    ALGORITHMS,
    AgentConfig,
    PocoConfig,
    shared_settings,
)
from poco_ros.preset import load_preset
from poco_ros.training import signature_of
from sim_bridge.workers import EpisodeJob, EpisodeWorkers

PRESET = "cpu_cube_single"
OBSERVATION, ACTION_DIM = 40, 5  # of OGBench scene
GROWTH = {"num_candidates": (1, 8, 16, 32, 64), "batch_size": (64, 128, 256, 512),
          "hidden_dim": (128, 256, 512, 1024), "flow_steps": (1, 5, 10, 20)}
EPISODES_EACH = 2
"""Episodes that an environment runs when their rate is measured."""


def of_preset(algorithm: str) -> AgentConfig:
    """Return the algorithm with what it can take over of the CPU preset."""
    section = to_dict(load_preset(PRESET).agent)
    values = shared_settings(section, algorithm) | {"algorithm": algorithm}
    if algorithm in ("fql", "rlpd"):
        values["chunk_horizon"] = 1
    if algorithm == "dsrl":
        values["noise_hidden_dim"] = section["hidden_dim"]
    return from_dict(AgentConfig, values, PRESET)


def of_paper(algorithm: str) -> AgentConfig:
    """Return the algorithm as its publication has it."""
    return ALGORITHMS[algorithm]()


def growth(base: PocoConfig) -> dict[str, PocoConfig]:
    """Return ``base`` with one setting changed at a time, by names such as ``batch_size 128``."""
    return {f"{name} {value}": dataclasses.replace(base, **{name: value})
            for name, values in GROWTH.items() for value in values}


def measure(configs: dict[str, AgentConfig], observation: int, action_dim: int,
            rounds: int) -> dict[str, float]:
    """Return the median duration of an update [ms] of each."""
    functions: dict[str, Callable[[], None]] = {
        name: update_of(config, observation, action_dim) for name, config in configs.items()}
    return medians(functions, rounds, time.process_time)


def algorithms(rounds: int) -> None:
    """Print the table of all algorithms."""
    task = load_preset(PRESET).task
    names = tuple(ALGORITHMS)
    small = measure({name: of_preset(name) for name in names}, task.observation.size,
                    task.action_dim, 10 * rounds)
    large = measure({name: of_paper(name) for name in names}, OBSERVATION, ACTION_DIM, rounds)
    print(f"| algorithm | size of {PRESET} [ms] | published size [ms] |\n|---|---|---|")
    for name in names:
        print(f"| {name} | {small[name]:.1f} | {large[name]:.0f} |")
    for name in names:
        print(f"RESULT update_{name}_ms={large[name]:.1f}")
        print(f"RESULT update_{name}_preset_ms={small[name]:.2f}")


def cost_of_growth(rounds: int) -> None:
    """Print POCO's cost over one setting at a time, beside the paper's."""
    found = measure(growth(PAPER), OBSERVATION, ACTION_DIM, rounds)
    print("| setting | values: an update [ms] |\n|---|---|")
    for name, values in GROWTH.items():
        print(f"| {name} | " + ", ".join(f"{v}: {found[f'{name} {v}']:.0f}" for v in values)
              + " |")


def environments(counts: tuple[int, ...]) -> None:
    """Print environment steps/s with so many environments at a time."""
    preset = load_preset(PRESET)
    policy = make_agent(preset.agent, signature_of(preset), 0).policy(1).to_bytes()
    print(f"| environments | steps/s of {preset.task.name} with the policy |\n|---|---|")
    for count in counts:
        with EpisodeWorkers(preset.task, count) as workers:
            list(workers.run(EpisodeJob(policy, n, f"first-{n}") for n in range(count)))
            begun = time.perf_counter()
            steps = sum(len(episode) for episode in workers.run(
                EpisodeJob(policy, n, f"episode-{n}") for n in range(EPISODES_EACH * count)))
            rate = steps / (time.perf_counter() - begun)
        print(f"| {count} | {rate:.0f} |", flush=True)
        print(f"RESULT environment_steps_per_second_{count}={rate:.0f}")


def main() -> None:
    """Print the tables and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("algorithms", "growth", "environments"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, 1 thread of {os.cpu_count()} cores")
    if args.only in (None, "algorithms"):
        algorithms(args.rounds)
    if args.only in (None, "growth"):
        cost_of_growth(args.rounds)
    if args.only in (None, "environments"):
        environments((1, 2, 4, 8))


if __name__ == "__main__":
    main()
