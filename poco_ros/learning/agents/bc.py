"""Behaviour cloning: the flow loss on the data and nothing else."""

from __future__ import annotations

from torch import Tensor

from poco_ros.learning.agents.base import Batch, Phase
from poco_ros.learning.agents.parts import WithGenerative


class BehaviourCloning(WithGenerative):
    """Clones whatever the replay holds. In the critic phase there is nothing to do."""

    def update(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """One Adam step on the mean flow loss (phases CLONE and FULL)."""
        return {} if phase is Phase.CRITIC else self.update_clone(batch)
