"""DSRL, noise-aliased (arXiv 2506.15799): reinforcement learning on the noise of a frozen flow.

The flow stays as it was cloned. Its initial noise w is what an actor chooses, within a bound. A
critic of chunks learns by TD from all data; a critic of noises is distilled from it, and SAC's
actor climbs that one, so no gradient passes through the flow::

    y    = sum_k gamma^k r + gamma^n [ min_e Q'_e(s', flow(s', w')) - alpha log pi(w'|s') ]
    L_W  = mean_e (Q_W,e(s, w) - Q_e(s, flow(s, w)))^2,   w ~ N(0, I)
    L_pi = mean [ alpha log pi(w|s) - min_e Q_W,e(s, w) ],   w, w' ~ pi

Until its actor has been trained the policy is not steered: its noise is N(0, I).
"""

from __future__ import annotations

import torch
from torch import Tensor

from poco_ros.learning.agents.base import Batch, Phase
from poco_ros.learning.agents.parts import CRITIC_METRICS, WithCritic, WithFlow
from poco_ros.learning.config import DSRLConfig
from poco_ros.learning.generative import normal
from poco_ros.learning.networks import ChunkCritic, SteeringActor, Temperature
from poco_ros.learning.policies import PolicySpec


class DSRL(WithCritic, WithFlow):
    """See the module."""

    config: DSRLConfig
    METRICS = (*WithFlow.METRICS, *CRITIC_METRICS, "dsrl/distillation_loss", "sac/actor_loss",
               "sac/entropy", "sac/alpha")

    def build(self) -> None:
        """Add the noise actor, the critic of noises and the temperature."""
        super().build()
        config = self.config
        self.noise_actor = SteeringActor(self.inputs, self.chunk_size,
                                         config.noise_hidden_dim, config.noise_layers,
                                         config.activation).to(self.device)
        self.noise_critic = self.make_critic()
        self.temperature = Temperature(config.initial_temperature).to(self.device)
        self._added = {"noise_actor": self.noise_actor, "noise_critic": self.noise_critic,
                       "temperature": self.temperature}
        self._optimizers = {name: self.adam(module) for name, module in self._added.items()}

    def make_critic(self) -> ChunkCritic:
        """Return a critic as wide as the noise actor."""
        config = self.config
        return ChunkCritic(self.inputs, self.chunk_size,
                           config.noise_hidden_dim, config.noise_layers, config.num_critics,
                           config.activation).to(self.device)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Add noise actor, noise critic and temperature."""
        return super().modules() | self._added

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Add theirs."""
        return super().optimizers() | self._optimizers

    def acting_modules(self) -> dict[str, torch.nn.Module]:
        """The flow and what steers it."""
        return {"actor": self.actor, "noise_actor": self.noise_actor}

    def policy_spec(self) -> PolicySpec:
        """The steered flow acts: noise is drawn while it learns, its mode taken when judged."""
        config = self.config
        return self.spec_of("steered_flow", flow_steps=config.flow_steps,
                            noise_hidden_dim=config.noise_hidden_dim,
                            noise_layers=config.noise_layers, noise_bound=config.noise_bound)

    def update(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Clone (CLONE); update both critics (CRITIC, FULL), actor and temperature (FULL)."""
        if phase is Phase.CLONE:
            return self.update_clone(batch)
        metrics = self.update_critic(batch)
        for _ in range(self.config.distillation_steps):
            metrics |= self.update_noise_critic(batch.observations)
        if phase is Phase.FULL:
            metrics |= self.update_actor(batch.observations)
        return metrics

    def noise_for(self, observations: Tensor) -> Tensor:
        """Return fresh standard normal noise, (B, C)."""
        return normal((len(observations), self.chunk_size), self.generator, self.device)

    def steer(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return noises w (B, C) of the actor, in the bound, and their log densities (B,)."""
        unit, log_density = self.noise_actor.sample(observations, self.noise_for(observations))
        return self.config.noise_bound * unit, log_density

    @torch.no_grad()
    def carried(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Return the flow's chunks (B, C) for noise w (B, C)."""
        return self.actor.carry(observations, noise.unsqueeze(1),
                                self.config.steps_for_targets).squeeze(1)

    @torch.no_grad()
    def next_q(self, batch: Batch) -> Tensor:
        """Return the least Q' (B,) of flow(s', w'), less the price of w', w' of what acts."""
        observations, trained = batch.next_observations, self.noise_actor.trained > 0
        steered, log_density = self.steer(observations)
        noise = torch.where(trained, steered, self.noise_for(observations))
        q = self.judged(self.target_critic(observations, self.carried(observations, noise)))
        if not self.config.entropy_backup:
            return q
        return q - torch.where(trained, self.temperature() * log_density, 0.0)

    def judged(self, q: Tensor) -> Tensor:
        """Return what the members' Q (E, B) stand for, (B,)."""
        least = self.config.critic_aggregate == "min"
        return q.min(dim=0).values if least else q.mean(dim=0)

    def update_noise_critic(self, observations: Tensor) -> dict[str, Tensor]:
        """One step of distillation at observations (B, O), each member from its own."""
        noise = self.noise_for(observations)
        with torch.no_grad():
            wanted = self.critic(observations, self.carried(observations, noise))
        loss = (self.noise_critic(observations, noise) - wanted).square().mean()
        self.descend(self._optimizers["noise_critic"], loss)
        return {"dsrl/distillation_loss": loss.detach()}

    def update_actor(self, observations: Tensor) -> dict[str, Tensor]:
        """One step of the noise actor at observations (B, O), then one of the temperature."""
        noise, log_density = self.steer(observations)
        q = self.judged(self.noise_critic(observations, noise))
        alpha = self.temperature().detach()
        loss = (alpha * log_density - q).mean()
        self.descend(self._optimizers["noise_actor"], loss)
        self.noise_actor.trained.fill_(1.0)
        entropy = -log_density.detach().mean()
        wanted = -self.config.target_entropy_scale * self.chunk_size
        self.descend(self._optimizers["temperature"],
                     (self.temperature() * (entropy - wanted)).sum())
        return {"sac/actor_loss": loss.detach(), "sac/entropy": entropy,
                "sac/alpha": alpha.squeeze()}
