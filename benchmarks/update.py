"""One POCO update: faithful, with each saver alone and with all, at the paper's size and at the
size of the CPU preset.

All variants of a size run in turn, round after round, so that they are compared in the
same minutes; figures are medians. ``RESULT poco_update_saver_ratio`` is faithful over savers.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from poco_ros.core.episode import Episode
from poco_ros.core.observation import ObservationLayout
from poco_ros.learning.agents import Agent, Phase, make_agent
from poco_ros.learning.agents.ppo import PPO
from poco_ros.learning.config import AgentConfig, PocoConfig
from poco_ros.learning.policies import Signature
from poco_ros.learning.replay import Replay
from poco_ros.learning.rounds import Round
from poco_ros.preset import load_preset

PAPER = PocoConfig()
SAVERS = {
    "one candidate drawn": {"posterior": "draw"},
    "weights below 1% dropped": {"weight_floor": 0.01},
    "16 candidates": {"num_candidates": 16},
    "5 flow steps for candidates": {"candidate_flow_steps": 5, "target_flow_steps": 5},
    "64 of 256 states": {"posterior_batch": 64},
    "all savers": {"posterior": "draw", "num_candidates": 16, "candidate_flow_steps": 5,
                   "target_flow_steps": 5, "posterior_batch": 64},
}
PRESET_SAVERS = {
    "one candidate drawn": {"posterior": "draw"},
    "16 candidates": {"num_candidates": 16},
    "4 and 5 flow steps": {"candidate_flow_steps": 4, "target_flow_steps": 5},
    "128 of 256 states": {"posterior_batch": 128},
}
"""What the CPU preset saves; docs/results has what each does to learning."""


def world(config: AgentConfig, observation: int, action_dim: int,
          device: str = "cpu") -> tuple[Agent, Replay]:
    """Return a fresh agent, and a replay of random episodes of that size."""
    generator = np.random.default_rng(0)
    signature = Signature("benchmark", ObservationLayout((("state", observation),)), action_dim)
    agent: Agent = make_agent(config, signature, 0, device)
    episodes = [
        Episode(id=f"e{i}", observations=generator.standard_normal((201, observation)),
                actions=generator.uniform(-1, 1, (200, action_dim)),
                rewards=(np.arange(200) == 199).astype(np.float32), terminated=True,
                truncated=False)
        for i in range(20)]
    return agent, Replay(observation, action_dim, 10_000, episodes)


def update_of(config: AgentConfig, observation: int, action_dim: int) -> Callable[[], None]:
    """Return a function that does one whole update on random data of that size."""
    generator = np.random.default_rng(0)
    agent, replay = world(config, observation, action_dim)
    if isinstance(agent, PPO):
        minibatch = agent.tensors(round_of(agent, agent.config.minibatch_size))

        def ascend() -> None:
            agent.update(minibatch, Phase.FULL)

        return ascend

    def update() -> None:
        chunks = replay.sample(generator, config.batch_size, config.chunk_horizon, config.gamma)
        agent.update(agent.tensors(chunks), Phase.FULL)

    return update


def round_of(agent: PPO, count: int) -> Round:
    """Return ``count`` chunks of random ways, as likely as they were."""
    generator = np.random.default_rng(0)
    steps, size = agent.config.flow_steps, agent.chunk_size
    observations = generator.standard_normal((count, agent.signature.observation.size))
    ways = generator.standard_normal((count, steps + 1, size)).cumsum(axis=1) * 0.1
    return Round(observations.astype(np.float32), ways.astype(np.float32),
                 np.zeros((count, steps), np.float32),
                 *generator.standard_normal((2, count)).astype(np.float32))


def medians(functions: dict[str, Callable[[], None]], rounds: int,
            clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Return the median duration [ms] of each function by ``clock``, run in turn."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            begun = clock()
            function()
            if number:  # the first round warms up
                times[name].append(1e3 * (clock() - begun))
    return {name: statistics.median(values) for name, values in times.items()}


def table(agents: dict[str, AgentConfig], observation: int, action_dim: int,
          rounds: int) -> dict[str, float]:
    """Measure and print all variants; return their medians [ms]."""
    found = medians({name: update_of(agent, observation, action_dim)
                     for name, agent in agents.items()}, rounds)
    for name, value in found.items():
        print(f"  {name:<30} {value:8.1f} ms   {found['faithful'] / value:5.1f} times faster")
    return found


def main() -> None:
    """Print the figures."""
    torch.set_num_threads(os.cpu_count() or 1)
    print(f"paper's size: batch 256, 32 candidates, 10 flow steps, 4 x 512, observation 40,"
          f" chunk 5 x 5; {torch.get_num_threads()} threads")
    paper = table({"faithful": PAPER} | {name: dataclasses.replace(PAPER, **change)
                                         for name, change in SAVERS.items()}, 40, 5, 7)
    torch.set_num_threads(1)
    preset = load_preset("cpu_cube_single")
    faithful = faithful_to(preset.agent)
    print(f"size of {preset.task.name}: 4 x {faithful.hidden_dim}, else the same; 1 thread")
    small = table({"faithful": faithful}
                  | {name: dataclasses.replace(faithful, **change)
                     for name, change in PRESET_SAVERS.items()}
                  | {"the preset": preset.agent},
                  preset.task.observation.size, preset.task.action_dim, 30)
    print(f"RESULT poco_update_paper_ms={paper['faithful']:.1f}")
    print(f"RESULT poco_update_saver_ratio={paper['faithful'] / paper['all savers']:.2f}")
    print(f"RESULT poco_update_preset_ms={small['the preset']:.2f}")


def faithful_to(agent: PocoConfig) -> PocoConfig:
    """Return the settings of ``agent`` with all savers off."""
    return dataclasses.replace(
        agent, num_candidates=PAPER.num_candidates, posterior=PAPER.posterior,
        posterior_batch=PAPER.posterior_batch, weight_floor=PAPER.weight_floor,
        candidate_flow_steps=PAPER.candidate_flow_steps,
        target_flow_steps=PAPER.target_flow_steps)


if __name__ == "__main__":
    main()
