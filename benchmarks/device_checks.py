"""Checks that need no reference but the plain update: equality, no waiting, resume, learning.

``python -m benchmarks gpu`` runs them on the card, the tests on the CPU, where a graph cannot be
captured and both sides of that comparison are run kernel by kernel.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.update import world
from poco_ros.core.config import from_dict
from poco_ros.core.episode import Episode
from poco_ros.core.observation import ObservationLayout
from poco_ros.learning.agents import Agent, Phase, make_agent
from poco_ros.learning.captured import DeviceUpdater
from poco_ros.learning.config import AgentConfig, PocoConfig, TrainConfig
from poco_ros.learning.policies import Signature
from poco_ros.learning.replay import Replay
from poco_ros.learning.trainer import Trainer

SMALL: dict[str, Any] = {"hidden_dim": 64, "num_layers": 2, "batch_size": 32}
OWN: dict[str, dict[str, Any]] = {
    "poco": {"eta": 0.5, "num_candidates": 8},  # all weights above zero: the same noise for both
    "qc": {"num_candidates": 8}, "dsrl": {"noise_hidden_dim": 64, "distillation_steps": 2}}
UPDATES = 6


def small(algorithm: str) -> AgentConfig:
    """Return a small configuration of an algorithm."""
    values = {"algorithm": algorithm, **SMALL, **OWN.get(algorithm, {})}
    return from_dict(AgentConfig, values, f"a small {algorithm}")


def settings(device: str, **values: Any) -> TrainConfig:
    """Return a schedule for updates that are only compared."""
    return TrainConfig(device=device, offline_steps=0, log_every=1 << 30, **values)


def weights(agent: Agent) -> Tensor:
    """Return all weights in a row."""
    return torch.cat([p.detach().flatten() for module in agent.modules().values()
                      for p in module.parameters()])


def apart(start: Tensor, first: Tensor, second: Tensor) -> float:
    """Return the distance of two results as a share of how far the first has moved."""
    distance = float((first - second).norm())
    return 0.0 if distance == 0.0 else distance / max(float((first - start).norm()), 1e-12)


def from_plain(config: AgentConfig, phase: Phase, device: str) -> float:
    """Return how far updates on the device are from the plain ones, the same rows drawn."""
    agent, replay = world(config, 9, 3, device)
    plain, _ = world(config, 9, 3, device)
    updater = DeviceUpdater(agent, replay, settings(device), captured=False)
    start, generator = weights(plain), np.random.default_rng(3)
    for number in range(1, UPDATES + 1):
        rows = replay.sample_starts(generator, config.batch_size, config.offline_share)
        chunks = replay.chunks(rows, config.chunk_horizon, config.gamma)
        plain.update(plain.tensors(chunks), phase)
        drawn = torch.from_numpy(rows).to(device)
        updater.replay.draw = lambda *_, drawn=drawn: drawn  # type: ignore[method-assign]
        updater.update(phase, number)
    return apart(start, weights(plain), weights(agent))


def from_uncaptured(config: AgentConfig, phase: Phase, device: str,
                    captured: bool = True) -> float:
    """Return how far captured updates are from those done kernel by kernel: 0 = bit for bit."""
    agents = []
    for with_graph in (False, captured):
        agent, replay = world(config, 9, 3, device)
        start = weights(agent)
        updater = DeviceUpdater(agent, replay, settings(device), captured=with_graph)
        for number in range(1, UPDATES + 1):
            updater.update(phase, number)
        updater.check()
        agents.append(agent)
    return apart(start, weights(agents[0]), weights(agents[1]))


def never_waits(config: AgentConfig, phase: Phase) -> None:
    """Raise RuntimeError when an update on the GPU makes the host wait for it."""
    agent, replay = world(config, 9, 3, "cuda")
    updater = DeviceUpdater(agent, replay, settings("cuda"), captured=False)
    updater.update(phase, 1)  # copies the replay, makes what is made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        updater.update(phase, 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def random_episode(number: int, steps: int) -> Episode:
    """Return an episode of 9 observations and 3 actions."""
    generator = np.random.default_rng([number, steps])
    return Episode(id=f"episode-{number}", terminated=number % 2 == 0, truncated=number % 2 == 1,
                   observations=generator.standard_normal((steps + 1, 9)).astype(np.float32),
                   actions=generator.uniform(-1, 1, (steps, 3)).astype(np.float32),
                   rewards=generator.random(steps).astype(np.float32))


def resumes_exactly(device: str, stops: tuple[int, ...] = (3, 20, 41)) -> bool:
    """Return whether a run that was stopped, saved and resumed is the one that was not."""
    demonstrations = [random_episode(100 + n, 30) for n in range(3)]
    episodes = [random_episode(n, 20 + n) for n in range(4)]
    train = TrainConfig(offline_steps=10, critic_warmup=10, online_steps=80, replay_capacity=60,
                        device=device)
    signature = Signature("check", ObservationLayout((("state", 9),)), 3)

    def fresh() -> Trainer:
        return Trainer(small("poco"), train, signature, 7, demonstrations)

    def finish(trainer: Trainer) -> dict[str, Tensor]:
        for episode in episodes[trainer.episodes_added:]:
            trainer.add_episode(episode)
        while trainer.work_due():
            trainer.work()
        return trainer.agent.state()

    whole = finish(fresh())
    for stop in stops:
        stopped, again = fresh(), fresh()
        for episode in episodes:
            stopped.add_episode(episode)
        for _ in range(stop):
            if stopped.work_due():
                stopped.work()
        with tempfile.TemporaryDirectory() as folder:
            stopped.save(Path(folder))
            again.resume(Path(folder), episodes)
        found = finish(again)
        if found.keys() != whole.keys() or any(not torch.equal(found[k], whole[k]) for k in whole):
            return False
    return True


BANDIT = PocoConfig(chunk_horizon=1, hidden_dim=128, num_layers=3, lr=1e-3, num_candidates=16,
                    eta=0.05, beta=4.0, zeta=1.0)
MODES = (-0.5, 0.5)


def bandit_share(precision: str, device: str, updates: int,
                 config: PocoConfig = BANDIT) -> float:
    """Return the share of the policy's samples in the mode that pays, after ``updates`` updates.

    Data: one-step episodes, half of them in each of two modes; the right one is rewarded. Half of
    a cloned policy's samples are in it.
    """
    generator = np.random.default_rng(0)
    episodes = []
    for number in range(1000):
        action = MODES[number % 2] + 0.05 * generator.standard_normal()
        episodes.append(Episode(
            id=f"{number}", observations=np.zeros((2, 1), np.float32), terminated=True,
            truncated=False, actions=np.full((1, 1), action, np.float32),
            rewards=np.full(1, float(action > 0.0), np.float32)))
    agent = make_agent(config, Signature("bandit", ObservationLayout((("state", 1),)), 1), 0,
                       device)
    # bfloat16 is done on the CPU too, if asked for so that the way there is tried.
    train = replace(settings("cuda"), precision=precision)
    updater = DeviceUpdater(agent, Replay(1, 1, 10, episodes), train,
                            captured=agent.device.type == "cuda")
    for number in range(1, updates + 1):
        phase = Phase.CRITIC if number <= updates // 8 else Phase.FULL
        updater.update(phase, number)
    updater.check()
    drawn = agent.policy(1)
    actions = [drawn.act(np.zeros(1, np.float32), seed)[0, 0] for seed in range(2000)]
    return float(np.mean(np.abs(np.array(actions) - MODES[1]) < 0.25))
