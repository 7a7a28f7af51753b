"""What the tests of on-policy algorithms share: small agents, trainers and worlds of theirs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from learning_support import agent_for, random_episode, reached, signature

from poco_ros.core.config import from_dict
from poco_ros.core.episode import Episode
from poco_ros.learning.agents.ppo import PPO
from poco_ros.learning.config import AgentConfig, TrainConfig
from poco_ros.learning.rounds import RoundBatch
from poco_ros.learning.trainer import Trainer

SMALL: dict[str, Any] = {"hidden_dim": 16, "num_layers": 2, "chunk_horizon": 4, "flow_steps": 3,
                         "batch_size": 8, "noise_hidden_dim": 8, "noise_layers": 1}
both = pytest.mark.parametrize("algorithm", ["dppo", "reinflow"])


def settings_for(algorithm: str, **settings: Any) -> AgentConfig:
    if algorithm == "dppo":
        settings = {k: v for k, v in settings.items() if k not in ("noise_hidden_dim",
                                                                   "noise_layers")}
    return from_dict(AgentConfig, {"algorithm": algorithm, **settings}, "test")


def make(algorithm: str, observation: int = 2, action_dim: int = 1, **settings: Any) -> PPO:
    agent = agent_for(settings_for(algorithm, **{**SMALL, **settings}), observation, action_dim)
    assert isinstance(agent, PPO)
    return agent


def batch_of(agent: PPO, count: int = 6) -> RoundBatch:
    """Return chunks whose chains a kernel as wide as the agent's made, and their likelihood."""
    generator = torch.Generator().manual_seed(8)
    observations = torch.randn(count, agent.signature.observation.size, generator=generator)
    steps, size = agent.config.flow_steps, agent.chunk_size
    chains = [torch.randn(count, size, generator=generator)]
    with torch.no_grad():
        for k in range(steps):
            times = torch.full((count, 1), k / steps)
            noise = torch.randn(count, size, generator=generator)
            mean = chains[-1] + agent.actor(observations, chains[-1], times) / steps
            chains.append(mean + 0.1 * noise)
        stacked = torch.stack(chains, dim=1)
        log_probs, _ = agent.log_probs(observations, stacked)
    return RoundBatch(observations, stacked, log_probs,
                      torch.randn(count, generator=generator),
                      torch.randn(count, generator=generator), torch.tensor(0.0))


def trainer_for(algorithm: str, train: dict[str, Any] | None = None, **settings: Any) -> Trainer:
    values = {**SMALL, "round_episodes": 3, "epochs": 2, "minibatch_size": 5, "warmup_rounds": 1,
              "actor_lr": 1e-3, "target_kl": 0.0, **settings}
    schedule = {"offline_steps": 4, "offline_objective": "bc", "online_steps": 10_000,
                "sync_lag": 0, **(train or {})}
    demonstrations = [random_episode(n, 9, 2, 1, terminated=True) for n in range(2)]
    return Trainer(settings_for(algorithm, **values), TrainConfig(**schedule),
                   signature(2, 1, "reach"), 7, demonstrations)


def work(trainer: Trainer) -> list[dict[str, float]]:
    done = []
    while trainer.work_due():
        done.append(trainer.work())
    return done


def let_run(trainer: Trainer, episodes: int, actors: int = 1, updates: int = 10 ** 9
            ) -> list[Episode]:
    """Act with up to ``actors`` episodes in flight, learn when there is work; return all."""
    made: list[Episode] = []
    flying: list[Episode] = []
    while trainer.updates < updates:
        while len(flying) < actors:
            number = trainer.episodes_added + len(flying)
            policy = trainer.acting_policy(number)
            if policy is None or number >= episodes:
                break
            flying.append(reached(policy, 7, number))
        if trainer.work_due():
            trainer.work()
        elif flying:
            made.append(flying.pop(0))
            trainer.add_episode(made[-1])
        elif trainer.episodes_added >= episodes:
            break
    return made
