"""Small agents and a replay for the tests of updates that are wholly on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
from learning_support import agent_for, random_episode, set_normalizer

from poco_ros.core.config import from_dict
from poco_ros.learning.agents import Agent, Phase
from poco_ros.learning.captured import DeviceUpdater
from poco_ros.learning.config import OFF_POLICY, AgentConfig, TrainConfig
from poco_ros.learning.replay import Replay

SMALL = {"hidden_dim": 24, "num_layers": 2, "chunk_horizon": 3, "batch_size": 16}
OWN: dict[str, dict[str, Any]] = {
    "poco": {"num_candidates": 6, "eta": 0.5, "zeta": 1.2, "flow_steps": 4},
    "qc": {"num_candidates": 5, "flow_steps": 4}, "qc_fql": {"flow_steps": 4},
    "bc": {"flow_steps": 4}, "rlpd_ac": {"num_critics": 4},
    "dsrl": {"noise_hidden_dim": 32, "noise_layers": 2, "distillation_steps": 2, "flow_steps": 4}}
MODELS = {f"poco on {name}": {**OWN["poco"], **settings} for name, settings in {
    "ddim": {"policy": "diffusion"},
    "ddpm": {"policy": "diffusion", "diffusion_sampler": "ddpm"},
    "jumps": {"policy": "consistency", "consistency_steps": 3}}.items()}
"""POCO on what is no flow."""
TRAIN = TrainConfig(offline_steps=0, log_every=1000)
CASES = [(name, phase) for name in [*OFF_POLICY, *MODELS] for phase in Phase]


def config(algorithm: str, **settings: Any) -> AgentConfig:
    own = MODELS.get(algorithm, OWN.get(algorithm, {}))
    values = {"algorithm": algorithm.split()[0], **SMALL, **own, **settings}
    if algorithm in ("fql", "rlpd"):
        values["chunk_horizon"] = 1
    return from_dict(AgentConfig, values, "test")


def replay(pinned: int = 3) -> Replay:
    host = Replay(3, 2, 200, [random_episode(100 + n, 9, terminated=n % 2 == 0)
                              for n in range(pinned)])
    for n in range(5):
        host.add(random_episode(n, 8 + n, terminated=n % 2 == 0))
    return host


def make(algorithm: str, **settings: Any) -> Agent:
    agent = agent_for(config(algorithm, **settings), 3, 2)
    set_normalizer(agent, np.array([1.0, 2.0, 0.0]), np.array([2.0, 3.0, 1.0]))
    return agent


def updater_of(agent: Agent, train: TrainConfig = TRAIN) -> DeviceUpdater:
    return DeviceUpdater(agent, replay(), train, captured=False)
