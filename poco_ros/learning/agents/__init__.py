"""Learning algorithms, one a file, behind the contract in ``base``."""

from __future__ import annotations

from poco_ros.learning.agents.base import Agent, Batch, Phase
from poco_ros.learning.agents.bc import BehaviourCloning
from poco_ros.learning.agents.poco import Poco
from poco_ros.learning.config import AgentConfig
from poco_ros.learning.policy import PolicySpec

AGENTS: dict[str, type[Agent]] = {"poco": Poco, "bc": BehaviourCloning}


def make_agent(config: AgentConfig, spec: PolicySpec, seed: int, device: str = "cpu") -> Agent:
    """Return a fresh agent of ``config.algorithm``, initialised from ``seed``."""
    return AGENTS[config.algorithm](config, spec, seed, device)


__all__ = ["AGENTS", "Agent", "Batch", "BehaviourCloning", "Phase", "Poco", "make_agent"]
