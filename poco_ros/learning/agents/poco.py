"""POCO: posterior optimisation with a clipped objective (arXiv 2604.01860).

E-step: for each state draw N candidate chunks from the current policy and weigh them,
``w_i = softmax_i(Q(s, a_i) / eta)``, without gradient. M-step: fit the policy to the weighted
candidates with a loss that is clipped at zeta, beside behaviour cloning on the data::

    L = mean_s [ loss(s, a) + beta * sum_i w_i * min(loss(s, a_i), zeta) ]

The policy is a flow in the publication; any generative model will do that can be sampled and has a
supervised loss a sample. A candidate whose loss exceeds zeta is far from what the policy does; the
clip takes its gradient away, so a false peak of the critic cannot drag the policy there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poco_ros.learning.agents.base import Batch, Phase
from poco_ros.learning.agents.parts import CRITIC_METRICS, WithCritic, WithGenerative, mean_q
from poco_ros.learning.config import PocoConfig
from poco_ros.learning.networks import Fuse


def posterior_weights(q: Tensor, eta: float) -> Tensor:
    """Return softmax(Q / eta) over the candidates, (B, N) for Q (B, N)."""
    return torch.softmax(q / eta, dim=1)


def drawn_from(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Return an index (B,) of each row of ``weights`` (B, N), drawn in proportion to them.

    The first of N exponential clocks that run at these rates; ``torch.multinomial`` draws the same
    way, to the bit, but reads its weights on the host.
    """
    return (weights / torch.empty_like(weights).exponential_(generator=generator)).argmax(dim=1)


def clip_loss(losses: Tensor, zeta: float) -> Tensor:
    """Return min(loss, zeta); 0 means no clip. The gradient is zero beyond zeta."""
    return losses if zeta == 0.0 else losses.clamp(max=zeta)


class Poco(WithCritic, WithGenerative):
    """See the module. Actor and critic have optimisers of their own."""

    config: PocoConfig
    METRICS = (*WithGenerative.METRICS, *CRITIC_METRICS, "poco/posterior_loss",
               "poco/unclipped_loss", "poco/clip_fraction", "poco/effective_candidates",
               "poco/q_gain", "poco/q_spread")

    def update(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Update critic and target (CRITIC, FULL) and actor (CLONE, FULL)."""
        if phase is Phase.CLONE:
            return self.update_clone(batch)
        if phase is Phase.CRITIC:
            return self.update_critic(batch)
        with self.beside():  # meanwhile candidates are drawn, to be weighed by this critic
            metrics = self.update_critic(batch)
        return metrics | self.update_actor(batch)

    def update_actor(self, batch: Batch) -> dict[str, Tensor]:
        """One step on behaviour cloning plus beta times the clipped E-M loss."""
        self.actor_optimizer.zero_grad(set_to_none=True)
        with self.beside():
            clone_loss = self.clone_losses(batch).mean()
            clone_loss.backward()
            clone_loss = clone_loss.detach()
        count = self.config.posterior_batch or len(batch.observations)
        posterior_loss, metrics = self.posterior_loss(batch.observations[:count])
        self.descend(self.actor_optimizer, self.config.beta * posterior_loss, onto=True)
        return {"actor/clone_loss": clone_loss} | metrics

    @torch.no_grad()
    def next_q(self, batch: Batch) -> Tensor:
        """Return mean_e Q'_e(s', a'), (B,), one fresh a' ~ policy a state."""
        chunks = self.actor.sample(batch.next_observations, 1, self.generator,
                                   self.config.steps_for_targets).squeeze(1)
        return mean_q(self.target_critic, batch.next_observations, chunks)

    def posterior_loss(self, observations: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return mean_s sum_i w_i min(loss_i, zeta) for observations (B, O), and metrics."""
        config = self.config
        candidates, weights, q = self.weighted_candidates(observations)
        batch, count, _ = candidates.shape
        if config.posterior == "draw":
            states = torch.arange(batch, device=self.device)
            picked = candidates[states, drawn_from(weights, self.generator)]
            shares = weights.new_full((batch,), 1.0)
        elif self.static_shapes:
            # All of them, whatever their weights: those left out below have a share of zero here.
            states = torch.arange(batch * count, device=self.device) // count
            picked = candidates.flatten(0, 1)
            shares = (weights * (weights >= config.weight_floor)).flatten()
        else:
            # A weight of exactly zero adds nothing to the sum, so it costs nothing either.
            keep = (weights > 0.0) & (weights >= config.weight_floor)
            states, slots = torch.nonzero(keep, as_tuple=True)
            picked, shares = candidates[states, slots], weights[states, slots]
        losses = self.actor.losses(observations[states], picked, self.generator)
        return self._weighted(losses, shares, weights, q)

    def _weighted(self, losses: Tensor, shares: Tensor, weights: Tensor,
                  q: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of clipped ``losses`` (n,) in ``shares`` (n,) a state, and metrics.

        Of weights (B, N) and Q (B, N) only metrics are made.
        """
        zeta, (batch, count) = self.config.zeta, q.shape
        posterior_loss = (shares * clip_loss(losses, zeta)).sum() / batch
        with torch.no_grad():
            beyond = losses > zeta if zeta else torch.zeros_like(losses)
            metrics = {
                "poco/posterior_loss": posterior_loss.detach(),
                "poco/unclipped_loss": (shares * losses).sum() / batch,
                "poco/clip_fraction": (shares * beyond).sum() / batch,
                "poco/effective_candidates": (1.0 / weights.square().sum(dim=1)).mean(),
                "poco/q_gain": ((weights * q).sum(dim=1) - q.mean(dim=1)).mean(),
                "poco/q_spread": q.std(dim=1).mean() if count > 1 else q.new_zeros(()),
            }
        return posterior_loss, metrics

    def fuse(self, compiled: Fuse) -> None:
        """Have the weighted sum and the metrics compiled."""
        self._weighted = compiled(self._weighted)  # type: ignore[method-assign]

    @torch.no_grad()
    def weighted_candidates(self, observations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """E-step: return candidates (B, N, C), their weights (B, N) and Q (B, N)."""
        config = self.config
        candidates = self.actor.sample(observations, config.num_candidates, self.generator,
                                       config.steps_for_candidates)
        self.together()
        critic = self.target_critic if config.weight_critic == "target" else self.critic
        q = critic.mean_of_candidates(observations, candidates)
        return candidates, posterior_weights(q, config.eta), q
