"""The contract of a learning algorithm, and what every flow agent shares."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from poco_ros.core.errors import CheckpointError
from poco_ros.learning.config import AgentConfig
from poco_ros.learning.flow import FlowNoise, flow_losses
from poco_ros.learning.networks import FlowField
from poco_ros.learning.policy import Policy, PolicySpec, check_tensors
from poco_ros.learning.replay import ChunkBatch


class Phase(enum.Enum):
    """Which part of the objective an update optimises."""

    CLONE = "clone"
    """Behaviour cloning only."""
    CRITIC = "critic"
    """The critic alone, the actor frozen (the warm-up)."""
    FULL = "full"
    """The whole objective."""


@dataclass(frozen=True, eq=False)
class Batch:
    """:class:`ChunkBatch` as tensors: chunks flat (B, C), validity an entry (B, C)."""

    observations: Tensor
    chunks: Tensor
    valid: Tensor
    rewards: Tensor
    next_observations: Tensor
    bootstrap: Tensor
    critic_valid: Tensor

    @classmethod
    def of(cls, chunks: ChunkBatch, mean: Tensor, std: Tensor) -> Batch:
        """Move a sampled batch to the device of ``mean`` and normalise its observations."""

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(mean.device)

        count, horizon, action_dim = chunks.actions.shape
        valid = tensor(chunks.valid)[:, :, None].expand(-1, -1, action_dim)
        return cls(
            observations=(tensor(chunks.observations) - mean) / std,
            chunks=tensor(chunks.actions).reshape(count, horizon * action_dim),
            valid=valid.reshape(count, horizon * action_dim),
            rewards=tensor(chunks.rewards),
            next_observations=(tensor(chunks.next_observations) - mean) / std,
            bootstrap=tensor(chunks.bootstrap),
            critic_valid=tensor(chunks.critic_valid),
        )


class Agent(ABC):
    """A flow actor and whatever the algorithm adds to it.

    Subclasses list their networks in :meth:`modules` and optimisers in :meth:`optimizers`; saving
    and resuming follow from these two.
    """

    def __init__(self, config: AgentConfig, spec: PolicySpec, seed: int,
                 device: str = "cpu") -> None:
        self.config, self.spec, self.device = config, spec, torch.device(device)
        self.generator = torch.Generator(device=self.device)
        self.generator.manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.build()
        size = spec.observation.size
        self.mean = torch.zeros(size, device=self.device)
        self.std = torch.ones(size, device=self.device)

    def build(self) -> None:
        """Make networks and optimisers; called with torch seeded."""
        self.actor = FlowField(self.spec).to(self.device)
        self.actor_optimizer = self.adam(self.actor)

    def adam(self, module: torch.nn.Module) -> torch.optim.Adam:
        """Return an Adam of its own for ``module``.

        Optimisers are never shared: a step count that advanced for one network makes the first
        updates of another several times too large.
        """
        return torch.optim.Adam(module.parameters(), lr=self.config.lr, fused=True)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return all networks by name."""
        return {"actor": self.actor}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimisers by the name of the network that they drive."""
        return {"actor": self.actor_optimizer}

    @abstractmethod
    def update(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Do one gradient update; return scalar metrics by name, as tensors without gradient."""

    def clone_losses(self, batch: Batch) -> Tensor:
        """Return the flow loss (B,) of the batch's own chunks, masked by validity."""
        noise = FlowNoise.draw(batch.chunks, self.generator)
        return flow_losses(self.actor, batch.observations, batch.chunks, noise, batch.valid)

    def set_normalizer(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Scale observations by (s - mean) / std, (O,) each, from here on."""
        self.mean = torch.as_tensor(mean, dtype=torch.float32, device=self.device)
        self.std = torch.as_tensor(std, dtype=torch.float32, device=self.device)

    def policy(self, version: int) -> Policy:
        """Return the acting policy with the current weights (a copy)."""
        tensors = {name: value.detach().cpu().numpy().copy()
                   for name, value in self.actor.state_dict().items()}
        tensors["normalizer.mean"] = self.mean.cpu().numpy().copy()
        tensors["normalizer.std"] = self.std.cpu().numpy().copy()
        return Policy(self.spec, tensors, version)

    def load_policy(self, policy: Policy, source: str) -> None:
        """Take over the actor's weights and normaliser of ``policy``.

        Raises:
            CheckpointError: another architecture, observation or task; the difference is named.
        """
        ours, theirs = self.spec.to_json(), policy.spec.to_json()
        differing = [f"{key}: {theirs[key]} (expected {ours[key]})" for key in ours
                     if ours[key] != theirs[key] and key not in ("flow_steps",)]
        if differing:
            raise CheckpointError(f"{source}: weights of another policy: {'; '.join(differing)}")
        with torch.no_grad():
            for name, value in self.actor.state_dict().items():
                value.copy_(torch.from_numpy(policy.tensors[name]))
        self.set_normalizer(policy.tensors["normalizer.mean"], policy.tensors["normalizer.std"])

    def state(self) -> dict[str, Tensor]:
        """Return everything that an update changes, by name: networks, optimisers, generator."""
        tensors = {"normalizer.mean": self.mean, "normalizer.std": self.std,
                   "generator": self.generator.get_state()}
        for owner, module in self.modules().items():
            tensors |= {f"{owner}.{name}": value for name, value in module.state_dict().items()}
        for owner, optimizer in self.optimizers().items():
            for index, slots in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{owner}.{index}.{slot}": value
                            for slot, value in slots.items()}
        return {name: value.detach().clone().contiguous() for name, value in tensors.items()}

    def load_state(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Restore :meth:`state`; all is checked before the first change.

        Raises:
            CheckpointError: a tensor is missing, of another shape or not finite.
        """
        networks = {f"{owner}.{name}": value for owner, module in self.modules().items()
                    for name, value in module.state_dict().items()}
        shapes = {name: tuple(value.shape) for name, value in networks.items()}
        shapes |= {"normalizer.mean": tuple(self.mean.shape),
                   "normalizer.std": tuple(self.std.shape)}
        plain = {name: value.numpy() for name, value in tensors.items()
                 if not name.startswith(("optimizer.", "generator"))}
        check_tensors(plain, shapes, source)
        if "generator" not in tensors:
            raise CheckpointError(f"{source}: tensor 'generator' is missing")
        slots: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in self.optimizers()}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, owner, index, slot = name.split(".")
                if owner not in slots:
                    raise CheckpointError(f"{source}: {name!r} belongs to no optimiser of"
                                          f" {self.config.algorithm}")
                slots[owner].setdefault(int(index), {})[slot] = value.clone()
        for owner, optimizer in self.optimizers().items():
            self._check_slots(optimizer, slots[owner], f"{source}: optimizer.{owner}")
        with torch.no_grad():
            for name, value in networks.items():
                value.copy_(tensors[name])
        for owner, optimizer in self.optimizers().items():
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": slots[owner], "param_groups": groups})
        self.mean = tensors["normalizer.mean"].to(self.device).clone()
        self.std = tensors["normalizer.std"].to(self.device).clone()
        self.generator.set_state(tensors["generator"].cpu().clone())

    @staticmethod
    def _check_slots(optimizer: torch.optim.Optimizer, slots: Mapping[int, Mapping[str, Tensor]],
                     source: str) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for index, entry in slots.items():
            if index >= len(parameters):
                raise CheckpointError(f"{source} has more slots than parameters")
            for slot, value in entry.items():
                if slot != "step" and value.shape != parameters[index].shape:
                    raise CheckpointError(f"{source}.{index}.{slot} has shape"
                                          f" {tuple(value.shape)}, expected"
                                          f" {tuple(parameters[index].shape)}")
                if not torch.isfinite(value).all():
                    raise CheckpointError(f"{source}.{index}.{slot} is not finite")
