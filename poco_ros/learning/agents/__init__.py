"""Learning algorithms, one a file, behind the contract in ``base``."""

from __future__ import annotations

from poco_ros.learning.agents.base import Agent, Batch, Phase
from poco_ros.learning.agents.bc import BehaviourCloning
from poco_ros.learning.agents.dppo import DPPO
from poco_ros.learning.agents.dsrl import DSRL
from poco_ros.learning.agents.fql import FlowQLearning
from poco_ros.learning.agents.poco import Poco
from poco_ros.learning.agents.qc import QChunking
from poco_ros.learning.agents.reinflow import ReinFlow
from poco_ros.learning.agents.rlpd import RLPD
from poco_ros.learning.config import AgentConfig
from poco_ros.learning.policies import Signature

AGENTS: dict[str, type[Agent]] = {
    "poco": Poco, "bc": BehaviourCloning, "qc": QChunking, "qc_fql": FlowQLearning,
    "fql": FlowQLearning, "rlpd_ac": RLPD, "rlpd": RLPD, "dsrl": DSRL, "dppo": DPPO,
    "reinflow": ReinFlow}
"""``algorithm`` of a settings class in ``learning.config`` -> what learns by it."""


def make_agent(config: AgentConfig, signature: Signature, seed: int,
               device: str = "cpu") -> Agent:
    """Return a fresh agent of ``config.algorithm``, initialised from ``seed``."""
    return AGENTS[config.algorithm](config, signature, seed, device)


__all__ = ["AGENTS", "Agent", "Batch", "Phase", "make_agent"]
