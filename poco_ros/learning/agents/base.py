"""The contract of a learning algorithm.

An algorithm is one file: a class that says which networks it has, how one update changes them and
which policy acts. Saving, resuming, the trainer, the command line and the ROS graph follow.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from poco_ros.core.episode import Episode
from poco_ros.core.errors import CheckpointError
from poco_ros.learning.config import AgentConfig, TrainConfig
from poco_ros.learning.experience import Experience, ReplayExperience
from poco_ros.learning.networks import Fuse
from poco_ros.learning.normalizer import Normalizer
from poco_ros.learning.policies import (
    EVALUATE,
    EXPLORE,
    Policy,
    PolicySpec,
    Signature,
    make_policy,
)
from poco_ros.learning.policies.base import check_tensors
from poco_ros.learning.replay import ChunkBatch
from poco_ros.learning.side import InTurn, Side


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
    def of(cls, chunks: ChunkBatch[Any], normalizer: Normalizer) -> Batch:
        """Move a sampled batch to the device of ``normalizer`` and normalise its observations."""

        def tensor(array: np.ndarray | Tensor) -> Tensor:
            return torch.as_tensor(array, device=normalizer.device)

        count, horizon, action_dim = chunks.actions.shape
        valid = tensor(chunks.valid)[:, :, None].expand(-1, -1, action_dim)
        return cls(
            observations=normalizer(tensor(chunks.observations)),
            chunks=tensor(chunks.actions).reshape(count, horizon * action_dim),
            valid=valid.reshape(count, horizon * action_dim),
            rewards=tensor(chunks.rewards),
            next_observations=normalizer(tensor(chunks.next_observations)),
            bootstrap=tensor(chunks.bootstrap),
            critic_valid=tensor(chunks.critic_valid),
        )


class Agent(ABC):
    """Networks, optimisers and one update. The order of MRO is the order of construction.

    Subclasses list their networks in :meth:`modules` and optimisers in :meth:`optimizers`; saving
    and resuming follow from these two.
    """

    METRICS: ClassVar[tuple[str, ...]] = ()
    """Every metric that :meth:`update` may report."""
    OFFLINE: ClassVar[Phase] = Phase.CLONE
    """What the algorithm's source does with demonstrations before the first episode."""
    STARTS_FROM: ClassVar[tuple[str, ...]] = ("actor",)
    """Networks that a policy must bring if the online stage is to begin from it."""
    static_shapes = False
    """Whether :meth:`update` is to have the same shapes whatever the data: for a captured graph.
    An update must then read no value on the host and take no constant from it."""
    side: Side = InTurn()
    """Where :meth:`beside` works."""

    def __init__(self, config: AgentConfig, signature: Signature, seed: int,
                 device: str = "cpu") -> None:
        self.config, self.signature, self.device = config, signature, torch.device(device)
        self.chunk_size = config.chunk_horizon * signature.action_dim
        self.generator = torch.Generator(device=self.device)
        self.generator.manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.build()
        self.normalizer = Normalizer(signature.observation, config.observation_components,
                                     self.device)

    @property
    def inputs(self) -> int:
        """I, length of an observation as networks see it."""
        return self.signature.observation.reduced(self.config.observation_components).size

    def build(self) -> None:  # noqa: B027
        """Make networks and optimisers; called with torch seeded."""

    def adam(self, module: torch.nn.Module, lr: float | None = None) -> torch.optim.Adam:
        """Return an Adam of its own for ``module``; its learning rate is ``lr`` or ``config.lr``.

        Optimisers are never shared: a step count that advanced for one network makes the first
        updates of another several times too large.
        """
        rate = self.config.lr if lr is None else lr
        return torch.optim.Adam(module.parameters(), lr=rate, fused=True)

    @staticmethod
    def descend(optimizer: torch.optim.Optimizer, loss: Tensor, onto: bool = False) -> None:
        """Do one step of ``optimizer`` down ``loss``, plus ``onto`` the gradients there are."""
        if not onto:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def fuse(self, compiled: Fuse) -> None:  # noqa: B027
        """Have own functions of tensors compiled; the networks' are their own matter."""

    def beside(self) -> AbstractContextManager[object]:
        """Return a context whose work may run beside what follows it, until :meth:`together`.

        Neither may need or change what the other changes. What is drawn is the same as in turn.
        """
        return self.side.begin()

    def together(self) -> None:
        """Have what follows see what was done :meth:`beside`."""
        self.side.join()

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return all networks by name."""
        return {}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimisers by the name of the network that they drive."""
        return {}

    def experience(self, train: TrainConfig, demonstrations: Sequence[Episode]) -> Experience:
        """Return from which episodes it learns and how often, with ``demonstrations`` alone in it.

        Raises:
            DataError: a demonstration has other sizes.
            ConfigError: the schedule asks for what the algorithm cannot do.
        """
        return ReplayExperience(self.signature, self.config, train, demonstrations)

    def tensors(self, drawn: Any) -> Any:
        """Return what its experience has drawn as tensors, observations normalised."""
        return Batch.of(drawn, self.normalizer)

    @abstractmethod
    def update(self, batch: Any, phase: Phase) -> dict[str, Tensor]:
        """Do one gradient update; return scalar metrics by name, as tensors without gradient."""

    # -- acting -------------------------------------------------------------------------------

    @abstractmethod
    def acting_modules(self) -> dict[str, torch.nn.Module]:
        """Return the networks that the policy takes along, by their names in its file."""

    @abstractmethod
    def policy_spec(self) -> PolicySpec:
        """Return what the policy is that acts; see :meth:`spec_of`."""

    def spec_of(self, kind: str, **options: float | str) -> PolicySpec:
        """Return the specification of a policy of ``kind`` with this agent's sizes."""
        config, signature = self.config, self.signature
        return PolicySpec(kind, signature.task, signature.observation, signature.action_dim,
                          config.chunk_horizon, config.hidden_dim, config.num_layers,
                          config.activation, options, config.observation_components)

    def policy(self, version: int, mode: str = EVALUATE) -> Policy:
        """Return the policy with the current weights (a copy), as it is judged."""
        tensors = {f"{name}.{key}": value.detach().cpu().numpy().copy()
                   for name, module in self.acting_modules().items()
                   for key, value in module.state_dict().items()}
        tensors |= {name: value.cpu().numpy().copy()
                    for name, value in self.normalizer.tensors().items()}
        return make_policy(self.policy_spec(), tensors, version, mode)

    def exploring_policy(self, version: int, steps: int) -> Policy:
        """Return the policy that makes the next episode, after ``steps`` online steps."""
        return self.policy(version, EXPLORE)

    def load_policy(self, policy: Policy, source: str) -> None:
        """Take over the networks and the normaliser that ``policy`` brings.

        Raises:
            CheckpointError: another task, observation, action or architecture, or a network of
                :attr:`STARTS_FROM` is not in it; the difference is named, nothing has changed.
        """
        ours, theirs = self.policy_spec().to_json(), policy.spec.to_json()
        differing = [f"{key}: {theirs.get(key)} (expected {ours.get(key)})"
                     for key in {**ours, **theirs} if key not in ("kind", "options")
                     and ours.get(key) != theirs.get(key)]
        if differing:
            raise CheckpointError(f"{source}: weights of another policy: {'; '.join(differing)}")
        brought = {name: module for name, module in self.modules().items()
                   if any(key.startswith(f"{name}.") for key in policy.tensors)}
        missing = [name for name in self.STARTS_FROM if name not in brought]
        if missing:
            remedy = "go on with its run (--resume)" if policy.spec.kind == ours["kind"] else \
                "give a policy of that algorithm"
            raise CheckpointError(
                f"{source}: a policy of kind {policy.spec.kind} has no {' and no '.join(missing)},"
                f" which {self.config.algorithm} starts from; {remedy}, or have an offline stage")
        targets = {f"{name}.{key}": value for name, module in brought.items()
                   for key, value in module.state_dict().items()}
        check_tensors({key: policy.tensors[key] for key in targets if key in policy.tensors},
                      {key: tuple(value.shape) for key, value in targets.items()}, source)
        with torch.no_grad():
            for key, value in targets.items():
                value.copy_(torch.from_numpy(policy.tensors[key]))
        self.normalizer.take(policy.tensors)

    # -- state --------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Return everything that an update changes, by name: networks, optimisers, generator."""
        tensors = {**self.normalizer.tensors(), "generator": self.generator.get_state()}
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
        shapes |= {name: tuple(value.shape) for name, value in self.normalizer.tensors().items()}
        plain = {name: value.numpy() for name, value in tensors.items()
                 if not name.startswith(("optimizer.", "generator"))}
        check_tensors(plain, shapes, source)
        if "generator" not in tensors:
            raise CheckpointError(f"{source}: tensor 'generator' is missing")
        if tensors["generator"].shape != self.generator.get_state().shape:
            raise CheckpointError(
                f"{source}: its random state is that of another kind of device than"
                f" {self.device.type}, so the run cannot go on exactly; resume with the"
                " train.device of the run, or begin a new run from its policy (--checkpoint)")
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
        self.normalizer.take(tensors)
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
