"""RLPD (arXiv 2302.02948), over single actions or chunks (RLPD-AC).

SAC with a large ensemble of critics with LayerNorm; half of each batch comes from the
demonstrations, and nothing is cloned::

    y       = sum_k gamma^k r + gamma^n * mean_e Q'_e(s', a'),   a' ~ pi(s')
    L_pi    = mean [ alpha log pi(a|s) - mean_e Q_e(s, a) ]
    L_alpha = alpha * (entropy - target entropy)

The original takes the least of ``target_members`` random members in place of the mean; with
``entropy_backup`` the target also has ``- alpha log pi(a'|s')``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poco_ros.learning.agents.base import Batch, Phase
from poco_ros.learning.agents.parts import CRITIC_METRICS, WithCritic
from poco_ros.learning.config import RLPDACConfig
from poco_ros.learning.generative import normal
from poco_ros.learning.networks import TanhGaussian, Temperature
from poco_ros.learning.policies import EXPLORE, RANDOM, Policy, PolicySpec


class RLPD(WithCritic):
    """See the module. In the clone phase there is nothing to do."""

    config: RLPDACConfig
    METRICS = (*CRITIC_METRICS, "sac/actor_loss", "sac/entropy", "sac/alpha")

    def build(self) -> None:
        """Add the actor and the temperature."""
        super().build()
        config = self.config
        self.actor = TanhGaussian(self.inputs, self.chunk_size,
                                  config.hidden_dim, config.num_layers, config.activation
                                  ).to(self.device)
        self.temperature = Temperature(config.initial_temperature).to(self.device)
        self.actor_optimizer = self.adam(self.actor)
        self.temperature_optimizer = self.adam(self.temperature)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Add actor and temperature."""
        return super().modules() | {"actor": self.actor, "temperature": self.temperature}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Add the actor's and the temperature's."""
        return super().optimizers() | {"actor": self.actor_optimizer,
                                       "temperature": self.temperature_optimizer}

    def acting_modules(self) -> dict[str, torch.nn.Module]:
        """The actor."""
        return {"actor": self.actor}

    def policy_spec(self) -> PolicySpec:
        """The tanh-Gaussian acts: with a sample while it learns, with its mode when judged."""
        return self.spec_of("gaussian")

    def exploring_policy(self, version: int, steps: int) -> Policy:
        """Act at random for the first ``random_steps``."""
        return self.policy(version, RANDOM if steps < self.config.random_steps else EXPLORE)

    def update(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Update the critic (CRITIC, FULL), actor and temperature (FULL)."""
        metrics: dict[str, Tensor] = {}
        if phase is not Phase.CLONE:
            metrics |= self.update_critic(batch)
        if phase is Phase.FULL:
            metrics |= self.update_actor(batch.observations)
        return metrics

    def sample(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return chunks (B, C) of the actor and their log densities (B,)."""
        size = (len(observations), self.chunk_size)
        return self.actor.sample(observations, normal(size, self.generator, self.device))

    @torch.no_grad()
    def next_q(self, batch: Batch) -> Tensor:
        """Return the ensemble's Q' (B,) of one fresh chunk a' ~ pi(s')."""
        config, observations = self.config, batch.next_observations
        chunks, log_density = self.sample(observations)
        q = self.target_critic(observations, chunks)
        if config.target_members:
            found = q[self.order_of_members()[:config.target_members]].min(dim=0).values
        else:
            found = q.mean(dim=0)
        return found - self.temperature() * log_density if config.entropy_backup else found

    def order_of_members(self) -> Tensor:
        """Return a random order of the critics, (E,)."""
        members = self.config.num_critics
        if self.static_shapes:  # randperm is not documented to be safe in a captured graph
            return torch.rand(members, generator=self.generator, device=self.device).argsort()
        return torch.randperm(members, generator=self.generator, device=self.device)

    def update_actor(self, observations: Tensor) -> dict[str, Tensor]:
        """One step of the actor at observations (B, O), then one of the temperature."""
        chunks, log_density = self.sample(observations)
        alpha = self.temperature().detach()
        q = self.critic(observations, chunks).mean(dim=0)
        loss = (alpha * log_density - q).mean()
        self.descend(self.actor_optimizer, loss)
        entropy = -log_density.detach().mean()
        wanted = -self.config.target_entropy_scale * self.chunk_size
        self.descend(self.temperature_optimizer, (self.temperature() * (entropy - wanted)).sum())
        return {"sac/actor_loss": loss.detach(), "sac/entropy": entropy,
                "sac/alpha": alpha.squeeze()}
