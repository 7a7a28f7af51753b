"""Behaviour cloning: the flow loss on the data and nothing else."""

from __future__ import annotations

from torch import Tensor

from poco_ros.learning.agents.base import Agent, Batch, Phase


class BehaviourCloning(Agent):
    """Clones whatever the replay holds. In the critic phase there is nothing to do."""

    def update(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """One Adam step on the mean flow loss (phases CLONE and FULL)."""
        if phase is Phase.CRITIC:
            return {}
        loss = self.clone_losses(batch).mean()
        self.actor_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.actor_optimizer.step()
        return {"actor/clone_loss": loss.detach()}
