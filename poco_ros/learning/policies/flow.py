"""Flow policies: one sample of the flow, the best of several, one step of a distilled actor."""

from __future__ import annotations

import numpy as np

from poco_ros.learning.policies.base import Policy, PolicySpec, Shapes
from poco_ros.learning.policies.mlp import (
    CriticEnsemble,
    Mlp,
    ensemble_shapes,
    mlp_shapes,
    widths,
)


def flow_shapes(spec: PolicySpec, name: str = "actor") -> Shapes:
    """Return the tensors of the velocity field: observation, flat chunk and flow time go in."""
    inputs = spec.observation.size + spec.chunk_size + 1
    return mlp_shapes(name, widths(inputs, spec.hidden_dim, spec.num_layers, spec.chunk_size))


class FlowSampler:
    """Euler's way from noise to chunks: a <- a + v(s, a, m) / M for m = 0, 1/M, ..."""

    def __init__(self, spec: PolicySpec, tensors: dict[str, np.ndarray],
                 name: str = "actor") -> None:
        self._steps = spec.option("flow_steps")
        self._field = Mlp(tensors, name, (spec.observation.size, spec.chunk_size, 1),
                          spec.activation)
        times = np.arange(self._steps, dtype=np.float32)[:, None] / np.float32(self._steps)
        self._times = self._field.part(2, times)

    def __call__(self, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return chunks (..., C) in [-1, 1] for normalised (O,) and noise a_0 (..., C)."""
        field, chunk = self._field, noise
        fixed = field.fixed(observation)
        step = np.float32(1.0 / self._steps)
        for time in self._times:
            chunk = chunk + step * field.behind(fixed + field.part(1, chunk) + time)
        return np.clip(chunk, -1.0, 1.0)


def draw_noise(spec: PolicySpec, generator: np.random.Generator, *count: int) -> np.ndarray:
    """Return standard normal noise (*count, C) float32."""
    return generator.standard_normal((*count, spec.chunk_size), dtype=np.float32)


class FlowPolicy(Policy):
    """One sample of the flow: POCO and behaviour cloning."""

    kind = "flow"

    @classmethod
    def shapes(cls, spec: PolicySpec) -> Shapes:
        """The velocity field, ``actor``."""
        return flow_shapes(spec)

    def prepare(self) -> None:
        """Make the sampler."""
        self._flow = FlowSampler(self.spec, self.tensors)

    def chunk(self, observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Carry one noise to a chunk."""
        return self._flow(observation, draw_noise(self.spec, generator))

    def act_from_noise(self, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return the chunk (T, A) to which the flow carries ``noise`` a_0 (T, A) from (O,)."""
        flat = self._flow(self.normalised(observation), noise.astype(np.float32).reshape(-1))
        return flat.reshape(noise.shape)


class BestOfN(Policy):
    """The candidate of the flow with the highest mean Q: Q-chunking."""

    kind = "best_of_n"

    @classmethod
    def shapes(cls, spec: PolicySpec) -> Shapes:
        """The velocity field ``actor`` and the ensemble ``critic``."""
        inputs = spec.observation.size + spec.chunk_size
        sizes = widths(inputs, spec.hidden_dim, spec.num_layers, 1)
        return flow_shapes(spec) | ensemble_shapes("critic", spec.option("num_critics"), sizes)

    def prepare(self) -> None:
        """Make sampler and critic."""
        self._count = self.spec.option("num_candidates")
        self._flow = FlowSampler(self.spec, self.tensors)
        self._critic = CriticEnsemble(self.tensors, "critic", self.spec.activation)

    def chunk(self, observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Carry N noises to chunks and take the best."""
        chunks = self._flow(observation, draw_noise(self.spec, generator, self._count))
        return chunks[int(np.argmax(self._critic.mean(observation, chunks)))]


class OneStep(Policy):
    """A distilled actor that goes from noise to a chunk in one step: flow Q-learning."""

    kind = "one_step"

    @classmethod
    def shapes(cls, spec: PolicySpec) -> Shapes:
        """The network ``one_step``: observation and noise go in, a flat chunk comes out."""
        inputs = spec.observation.size + spec.chunk_size
        return mlp_shapes("one_step", widths(inputs, spec.hidden_dim, spec.num_layers,
                                             spec.chunk_size))

    def prepare(self) -> None:
        """Make the network."""
        spec = self.spec
        self._actor = Mlp(self.tensors, "one_step", (spec.observation.size, spec.chunk_size),
                          spec.activation)

    def chunk(self, observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Map one noise to a chunk; the caller clips it."""
        return self._actor(observation, draw_noise(self.spec, generator))
