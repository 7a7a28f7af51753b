"""Flow Q-learning (arXiv 2502.02538), over single actions or chunks (QC-FQL).

A flow clones the data; a one-step actor mu(s, z) is distilled from it and climbs the critic, so no
gradient passes through the sampler::

    L_mu = alpha * mean (mu(s, z) - flow(s, z))^2 - mean_e Q_e(s, clip(mu(s, z)))
    y    = sum_k gamma^k r + gamma^n * mean_e Q'_e(s', clip(mu(s', z')))

The one-step actor acts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poco_ros.learning.agents.base import Batch, Phase
from poco_ros.learning.agents.parts import CRITIC_METRICS, WithCritic, WithFlow, mean_q
from poco_ros.learning.config import QCFQLConfig
from poco_ros.learning.generative import normal
from poco_ros.learning.networks import Mlp
from poco_ros.learning.policies import PolicySpec


class FlowQLearning(WithCritic, WithFlow):
    """See the module. In the clone phase the one-step actor is distilled without Q."""

    config: QCFQLConfig
    OFFLINE = Phase.FULL
    METRICS = (*WithFlow.METRICS, *CRITIC_METRICS, "fql/distillation_loss", "fql/q")
    STARTS_FROM = ("actor", "one_step")

    def build(self) -> None:
        """Add the one-step actor."""
        super().build()
        config = self.config
        self.one_step = Mlp(self.inputs + self.chunk_size, config.hidden_dim,
                            config.num_layers, self.chunk_size, config.activation
                            ).to(self.device)
        self.one_step_optimizer = self.adam(self.one_step)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Add the one-step actor."""
        return super().modules() | {"one_step": self.one_step}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Add the one-step actor's."""
        return super().optimizers() | {"one_step": self.one_step_optimizer}

    def acting_modules(self) -> dict[str, torch.nn.Module]:
        """The one-step actor."""
        return {"one_step": self.one_step}

    def policy_spec(self) -> PolicySpec:
        """The one-step actor acts."""
        return self.spec_of("one_step")

    def update(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Update the critic (CRITIC, FULL), clone, and update the one-step actor (CLONE, FULL)."""
        metrics: dict[str, Tensor] = {}
        if phase is not Phase.CLONE:
            metrics |= self.update_critic(batch)
        if phase is not Phase.CRITIC:
            metrics |= self.update_clone(batch)
            metrics |= self.update_one_step(batch.observations, with_q=phase is Phase.FULL)
        return metrics

    def noise_for(self, observations: Tensor) -> Tensor:
        """Return fresh noise, (B, C)."""
        return normal((len(observations), self.chunk_size), self.generator, self.device)

    @torch.no_grad()
    def next_q(self, batch: Batch) -> Tensor:
        """Return mean_e Q'_e(s', clip(mu(s', z'))), (B,)."""
        observations = batch.next_observations
        chunks = self.one_step(observations, self.noise_for(observations)).clamp(-1.0, 1.0)
        return mean_q(self.target_critic, observations, chunks)

    def update_one_step(self, observations: Tensor, with_q: bool) -> dict[str, Tensor]:
        """One step on the distillation at observations (B, O), and with_q on the mean Q."""
        loss, metrics = self.one_step_loss(observations, self.noise_for(observations), with_q)
        self.descend(self.one_step_optimizer, loss)
        return metrics

    def one_step_loss(self, observations: Tensor, noise: Tensor,
                      with_q: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the one-step actor's loss at (B, O) for noise z (B, C), and metrics."""
        carried = self.actor.carry(observations, noise.unsqueeze(1)).squeeze(1)
        chunks = self.one_step(observations, noise)
        distillation = (chunks - carried).square().mean()
        loss, metrics = self.config.alpha * distillation, {
            "fql/distillation_loss": distillation.detach()}
        if with_q:
            # The critics' own gradients are dropped: their next step clears them first.
            q = self.critic(observations, chunks.clamp(-1.0, 1.0)).mean()
            loss, metrics["fql/q"] = loss - q, q.detach()
        return loss, metrics
