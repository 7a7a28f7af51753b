"""Q-chunking (arXiv 2507.07969): the best of N candidates of a cloned policy, there a flow.

The policy clones all data, demonstrations and online episodes alike; the critic chooses among its
samples, both when acting and for the action of the TD target::

    a*(s) = argmax_i mean_e Q_e(s, a_i),   a_1..a_N ~ policy(s)
    y     = sum_k gamma^k r + gamma^n * mean_e Q'_e(s', a*(s'))

Until the first update of the whole objective one sample acts: what was only cloned is not yet at
the mercy of a critic that knows nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poco_ros.learning.agents.base import Batch, Phase
from poco_ros.learning.agents.parts import CRITIC_METRICS, WithCritic, WithGenerative, mean_q
from poco_ros.learning.config import FLOW, QCConfig
from poco_ros.learning.networks import Trained
from poco_ros.learning.policies import PolicySpec


class QChunking(WithCritic, WithGenerative):
    """See the module."""

    config: QCConfig
    OFFLINE = Phase.FULL
    METRICS = (*WithGenerative.METRICS, *CRITIC_METRICS)

    def build(self) -> None:
        """Add whether the critic chooses yet."""
        super().build()
        self.choice = Trained().to(self.device)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Add whether the critic chooses yet."""
        return super().modules() | {"choice": self.choice}

    def acting_modules(self) -> dict[str, torch.nn.Module]:
        """The actor, and the critic that chooses."""
        return {"actor": self.actor, "critic": self.critic, "choice": self.choice}

    def policy_spec(self) -> PolicySpec:
        """The best of N candidates acts."""
        config, options = self.config, self.actor.options
        if self.actor.kind != FLOW:
            options["policy"] = self.actor.kind
        return self.spec_of("best_of_n", num_candidates=config.num_candidates,
                            num_critics=config.num_critics, **options)

    def update(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Update the critic (CRITIC, FULL) and clone the batch (CLONE, FULL)."""
        metrics: dict[str, Tensor] = {}
        if phase is not Phase.CLONE:
            metrics |= self.update_critic(batch)
        if phase is not Phase.CRITIC:
            metrics |= self.update_clone(batch)
        if phase is Phase.FULL:
            self.choice.trained.fill_(1.0)
        return metrics

    @torch.no_grad()
    def next_q(self, batch: Batch) -> Tensor:
        """Return mean_e Q'_e(s', a*(s')), (B,)."""
        observations = batch.next_observations
        return mean_q(self.target_critic, observations, self.best_of_n(observations))

    @torch.no_grad()
    def best_of_n(self, observations: Tensor) -> Tensor:
        """Return the candidate with the highest mean Q of the online critics, (B, C)."""
        candidates = self.actor.sample(observations, self.config.num_candidates, self.generator,
                                       self.config.steps_for_targets)
        best = self.critic.mean_of_candidates(observations, candidates).argmax(dim=1)
        return candidates[torch.arange(len(best), device=self.device), best]
