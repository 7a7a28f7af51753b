"""The candidate with the highest mean Q: Q-chunking."""

from __future__ import annotations

import numpy as np

from poco_ros.core.errors import CheckpointError
from poco_ros.learning.config import CONSISTENCY, DIFFUSION, FLOW
from poco_ros.learning.policies.base import Policy, PolicySpec, Shapes
from poco_ros.learning.policies.consistency import ConsistencySampler
from poco_ros.learning.policies.diffusion import DiffusionSampler
from poco_ros.learning.policies.flow import FlowSampler
from poco_ros.learning.policies.mlp import CriticEnsemble, ensemble_shapes, widths
from poco_ros.learning.policies.sampling import Sampler

SAMPLERS: dict[str, type[Sampler]] = {
    FLOW: FlowSampler, DIFFUSION: DiffusionSampler, CONSISTENCY: ConsistencySampler}


def sampler_of(spec: PolicySpec) -> type[Sampler]:
    """Return what draws from ``spec.generative``; CheckpointError when there is no such model."""
    if spec.generative not in SAMPLERS:
        raise CheckpointError(f"policy of kind {spec.kind}: option policy is"
                              f" {spec.generative!r}, expected one of {', '.join(SAMPLERS)}")
    return SAMPLERS[spec.generative]


class BestOfN(Policy):
    """Draws N candidates from a generative model and takes the one with the highest mean Q."""

    kind = "best_of_n"

    @classmethod
    def shapes(cls, spec: PolicySpec) -> Shapes:
        """The generative model, the ensemble ``critic``, and whether it chooses yet."""
        inputs = spec.inputs + spec.chunk_size
        sizes = widths(inputs, spec.hidden_dim, spec.num_layers, 1)
        critic = ensemble_shapes("critic", spec.option("num_critics"), sizes)
        return sampler_of(spec).shapes(spec) | critic | {"choice.trained": (1,)}

    def prepare(self) -> None:
        """Make sampler and critic."""
        self._count = self.spec.option("num_candidates")
        self._sampler = sampler_of(self.spec)(self.spec, self.tensors)
        self._critic = CriticEnsemble(self.tensors, "critic", self.spec.activation)
        self._chooses = bool(self.tensors["choice.trained"][0])

    def chunk(self, observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw N candidates and take the best; before the critic has learned, draw one."""
        if not self._chooses:
            return self._sampler.sample(observation, generator)
        chunks = self._sampler.sample(observation, generator, self._count)
        return chunks[int(np.argmax(self._critic.mean(observation, chunks)))]
