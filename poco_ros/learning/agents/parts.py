"""What several algorithms are made of: a generative actor, and an ensemble of chunk critics.

An algorithm inherits the parts that it has; each adds its networks to :meth:`Agent.modules` and
its optimisers to :meth:`Agent.optimizers`, so that saving and resuming follow.
"""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
from torch import Tensor

from poco_ros.core.errors import CheckpointError
from poco_ros.learning.agents.base import Agent, Batch
from poco_ros.learning.config import CONSISTENCY, DIFFUSION, GenerativeConfig
from poco_ros.learning.consistency import ConsistencyModel
from poco_ros.learning.diffusion import DiffusionField
from poco_ros.learning.flow import FlowField
from poco_ros.learning.generative import GenerativePolicy
from poco_ros.learning.networks import ChunkCritic
from poco_ros.learning.policies import Policy, PolicySpec

CRITIC_METRICS = ("critic/loss", "critic/q", "critic/target")


class WithGenerative(Agent):
    """An agent with a generative policy that can be cloned from data."""

    config: GenerativeConfig
    actor: GenerativePolicy
    METRICS: ClassVar[tuple[str, ...]] = ("actor/clone_loss",)

    def build(self) -> None:
        """Add the actor and its optimiser."""
        super().build()
        self.actor = self.make_actor().to(self.device)
        self.actor_optimizer = self.adam(self.actor)

    def make_actor(self) -> GenerativePolicy:
        """Return a fresh model of the kind ``config.policy``."""
        config = self.config
        sizes = (self.inputs, self.chunk_size, config.hidden_dim,
                 config.num_layers)
        if config.policy == DIFFUSION:
            return DiffusionField(*sizes, config.activation, config.flow_steps,
                                  config.diffusion_steps, config.diffusion_sampler)
        if config.policy == CONSISTENCY:
            return ConsistencyModel(*sizes, config.activation, config.flow_steps,
                                    config.consistency_steps)
        return FlowField(*sizes, config.activation, config.flow_steps)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Add the actor."""
        return super().modules() | {"actor": self.actor}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Add the actor's."""
        return super().optimizers() | {"actor": self.actor_optimizer}

    def acting_modules(self) -> dict[str, torch.nn.Module]:
        """The actor."""
        return {"actor": self.actor}

    def policy_spec(self) -> PolicySpec:
        """One sample acts."""
        return self.spec_of(self.actor.kind, **self.actor.options)

    def load_policy(self, policy: Policy, source: str) -> None:
        """Take over the actor too; a model of another kind is refused."""
        ours, theirs = self.policy_spec(), policy.spec
        mine, yours = ((spec.generative, spec.options.get("diffusion_steps", 0))
                       for spec in (ours, theirs))
        if mine != yours:
            raise CheckpointError(
                f"{source}: weights of another model: {_model(*yours)} (expected {_model(*mine)})")
        super().load_policy(policy, source)

    def clone_losses(self, batch: Batch) -> Tensor:
        """Return the supervised loss (B,) of the batch's own chunks, masked by validity."""
        return self.actor.losses(batch.observations, batch.chunks, self.generator, batch.valid)

    def update_clone(self, batch: Batch) -> dict[str, Tensor]:
        """One step of behaviour cloning."""
        loss = self.clone_losses(batch).mean()
        self.descend(self.actor_optimizer, loss)
        return {"actor/clone_loss": loss.detach()}


def _model(kind: str, diffusion_steps: float | str) -> str:
    return f"{kind} of {diffusion_steps} diffusion_steps" if diffusion_steps else kind


class WithFlow(WithGenerative):
    """An agent whose generative policy is a flow, and that works on its map from noise to chunk.
    """

    actor: FlowField


class WithCritic(Agent):
    """An agent with an ensemble of chunk critics and their target."""

    def build(self) -> None:
        """Add the critics, their target and their optimiser."""
        super().build()
        self.critic = self.make_critic()
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.critic_optimizer = self.adam(self.critic)

    def make_critic(self) -> ChunkCritic:
        """Return a fresh ensemble."""
        config = self.config
        return ChunkCritic(self.inputs, self.chunk_size, config.hidden_dim,
                           config.num_layers, config.num_critics, config.activation
                           ).to(self.device)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Add the critics and their target."""
        return super().modules() | {"critic": self.critic, "target_critic": self.target_critic}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Add the critics'."""
        return super().optimizers() | {"critic": self.critic_optimizer}

    def load_policy(self, policy: Policy, source: str) -> None:
        """Have the target be that of the critics, if the policy brings some."""
        super().load_policy(policy, source)
        if any(key.startswith("critic.") for key in policy.tensors):
            self.target_critic.load_state_dict(self.critic.state_dict())

    def next_q(self, batch: Batch) -> Tensor:
        """Return Q (B,) of a chunk of the policy at s', by the target critics; no gradient."""
        raise NotImplementedError

    @torch.no_grad()
    def td_targets(self, batch: Batch) -> Tensor:
        """Return sum_k gamma^k r + gamma^n * alive * :meth:`next_q`, (B,)."""
        return batch.rewards + batch.bootstrap * self.next_q(batch)

    def update_critic(self, batch: Batch) -> dict[str, Tensor]:
        """One TD step of all members, then of the target: target <- target + tau (Q - target)."""
        targets = self.td_targets(batch)
        q = self.critic(batch.observations, batch.chunks)
        squared = (q - targets).square() * batch.critic_valid
        loss = squared.sum() / (batch.critic_valid.sum().clamp(min=1.0) * self.critic.members)
        self.descend(self.critic_optimizer, loss)
        torch._foreach_lerp_(list(self.target_critic.parameters()),
                             [p.detach() for p in self.critic.parameters()], self.config.tau)
        return {"critic/loss": loss.detach(), "critic/q": q.detach().mean(),
                "critic/target": targets.mean()}


def mean_q(critic: ChunkCritic, observations: Tensor, chunks: Tensor) -> Tensor:
    """Return the members' mean Q (B,) of one chunk a state, (B, O) and (B, C); no gradient."""
    return critic.mean_of_candidates(observations, chunks.unsqueeze(1)).squeeze(1)
