"""POCO: posterior optimisation with a clipped objective (arXiv 2604.01860).

E-step: for each state draw N candidate chunks from the current flow and weigh them,
``w_i = softmax_i(Q(s, a_i) / eta)``, without gradient. M-step: fit the flow to the weighted
candidates with a loss that is clipped at zeta, beside behaviour cloning on the data::

    L = mean_s [ flow(s, a) + beta * sum_i w_i * min(flow(s, a_i), zeta) ]

A candidate whose flow loss exceeds zeta is far from what the policy does; the clip takes its
gradient away, so a false peak of the critic cannot drag the policy there.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from poco_ros.learning.agents.base import Agent, Batch, Phase
from poco_ros.learning.flow import FlowNoise, flow_losses, normal
from poco_ros.learning.networks import ChunkCritic


def posterior_weights(q: Tensor, eta: float) -> Tensor:
    """Return softmax(Q / eta) over the candidates, (B, N) for Q (B, N)."""
    return torch.softmax(q / eta, dim=1)


def clip_loss(losses: Tensor, zeta: float) -> Tensor:
    """Return min(loss, zeta); 0 means no clip. The gradient is zero beyond zeta."""
    return losses if zeta == 0.0 else losses.clamp(max=zeta)


class Poco(Agent):
    """See the module. Actor and critic have optimisers of their own."""

    def build(self) -> None:
        """Add the critic ensemble and its target to the actor."""
        super().build()
        config = self.config
        self.critic = ChunkCritic(self.spec.observation.size, self.spec.chunk_size,
                                  config.hidden_dim, config.num_layers, config.num_critics,
                                  config.activation).to(self.device)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.critic_optimizer = self.adam(self.critic)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Actor, critic and target critic."""
        return {"actor": self.actor, "critic": self.critic, "target_critic": self.target_critic}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One for the actor, one for the critic."""
        return {"actor": self.actor_optimizer, "critic": self.critic_optimizer}

    def update(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Update critic and target (CRITIC, FULL) and actor (CLONE, FULL)."""
        metrics: dict[str, Tensor] = {}
        if phase is not Phase.CLONE:
            metrics |= self.update_critic(batch)
        if phase is not Phase.CRITIC:
            metrics |= self.update_actor(batch, with_posterior=phase is Phase.FULL)
        return metrics

    def update_critic(self, batch: Batch) -> dict[str, Tensor]:
        """One TD step of all members, then of the target: target <- target + tau (Q - target)."""
        targets = self.td_targets(batch)
        q = self.critic(batch.observations, batch.chunks)
        squared = (q - targets).square() * batch.critic_valid
        loss = squared.sum() / (batch.critic_valid.sum().clamp(min=1.0) * self.critic.members)
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()
        torch._foreach_lerp_(list(self.target_critic.parameters()),
                             [p.detach() for p in self.critic.parameters()], self.config.tau)
        return {"critic/loss": loss.detach(), "critic/q": q.detach().mean(),
                "critic/target": targets.mean()}

    @torch.no_grad()
    def td_targets(self, batch: Batch) -> Tensor:
        """Return sum_k gamma^k r + gamma^n * mean_e Q'_e(s', a'), (B,), one fresh a' ~ policy."""
        size = (len(batch.observations), 1, self.spec.chunk_size)
        chunks = self.actor.sample(batch.next_observations,
                                   normal(size, self.generator, self.device),
                                   self.config.steps_for_targets)
        q = self.target_critic.mean_of_candidates(batch.next_observations, chunks).squeeze(1)
        return batch.rewards + batch.bootstrap * q

    def update_actor(self, batch: Batch, with_posterior: bool) -> dict[str, Tensor]:
        """One step on behaviour cloning plus, with_posterior, beta times the clipped E-M loss."""
        clone_loss = self.clone_losses(batch).mean()
        loss, metrics = clone_loss, {"actor/clone_loss": clone_loss.detach()}
        if with_posterior:
            count = self.config.posterior_batch or len(batch.observations)
            posterior_loss, found = self.posterior_loss(batch.observations[:count])
            loss = clone_loss + self.config.beta * posterior_loss
            metrics |= found
        self.actor_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.actor_optimizer.step()
        return metrics

    def posterior_loss(self, observations: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return mean_s sum_i w_i min(flow loss_i, zeta) for observations (B, O), and metrics."""
        config = self.config
        candidates, weights, q = self.weighted_candidates(observations)
        batch, count, _ = candidates.shape
        if config.posterior == "draw":
            chosen = torch.multinomial(weights, 1, generator=self.generator)
            states = torch.arange(batch, device=self.device)
            picked = candidates[states, chosen.squeeze(1)]
            shares = weights.new_full((batch,), 1.0)
        else:
            # A weight of exactly zero adds nothing to the sum, so it costs nothing either.
            keep = (weights > 0.0) & (weights >= config.weight_floor)
            states, slots = torch.nonzero(keep, as_tuple=True)
            picked, shares = candidates[states, slots], weights[states, slots]
        noise = FlowNoise.draw(picked, self.generator)
        losses = flow_losses(self.actor, observations[states], picked, noise)
        posterior_loss = (shares * clip_loss(losses, config.zeta)).sum() / batch
        with torch.no_grad():
            beyond = losses > config.zeta if config.zeta else torch.zeros_like(losses)
            metrics = {
                "poco/posterior_loss": posterior_loss.detach(),
                "poco/unclipped_loss": (shares * losses).sum() / batch,
                "poco/clip_fraction": (shares * beyond).sum() / batch,
                "poco/effective_candidates": (1.0 / weights.square().sum(dim=1)).mean(),
                "poco/q_gain": ((weights * q).sum(dim=1) - q.mean(dim=1)).mean(),
                "poco/q_spread": q.std(dim=1).mean() if count > 1 else q.new_zeros(()),
            }
        return posterior_loss, metrics

    @torch.no_grad()
    def weighted_candidates(self, observations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """E-step: return candidates (B, N, C), their weights (B, N) and Q (B, N)."""
        config = self.config
        size = (len(observations), config.num_candidates, self.spec.chunk_size)
        candidates = self.actor.sample(observations, normal(size, self.generator, self.device),
                                       config.steps_for_candidates)
        critic = self.target_critic if config.weight_critic == "target" else self.critic
        q = critic.mean_of_candidates(observations, candidates)
        return candidates, posterior_weights(q, config.eta), q
