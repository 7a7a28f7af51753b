"""Flow policies: one sample of the flow, one step of an actor that was distilled from it."""

from __future__ import annotations

import numpy as np

from poco_ros.learning.config import FLOW
from poco_ros.learning.policies.base import Policy, PolicySpec, Shapes
from poco_ros.learning.policies.mlp import Mlp, mlp_shapes, widths
from poco_ros.learning.policies.sampling import (
    OneSample,
    Sampler,
    draw_noise,
    field_of,
    field_shapes,
)


class FlowSampler(Sampler):
    """Euler's way from noise to chunks: a <- a + v(s, a, m) / M for m = 0, 1/M, ..."""

    def __init__(self, spec: PolicySpec, tensors: dict[str, np.ndarray]) -> None:
        super().__init__(spec, tensors)
        self.steps = spec.option("flow_steps")
        self._field = field_of(spec, tensors, "actor")
        times = np.arange(self.steps, dtype=np.float32)[:, None] / np.float32(self.steps)
        self._times = self._field.part(2, times)
        self._step = np.float32(1.0 / self.steps)

    @classmethod
    def shapes(cls, spec: PolicySpec) -> Shapes:
        """The velocity field, ``actor``."""
        return field_shapes(spec, "actor")

    def sample(self, observation: np.ndarray, generator: np.random.Generator,
               *count: int) -> np.ndarray:
        """Carry fresh noise; the noise is all that is drawn."""
        return self(observation, draw_noise(self.spec, generator, *count))

    def fixed(self, observation: np.ndarray) -> np.ndarray:
        """Return what :meth:`step` wants to know of normalised observations (..., O)."""
        return self._field.fixed(observation)

    def step(self, fixed: np.ndarray, chunk: np.ndarray, index: int) -> np.ndarray:
        """Return a + v(s, a, index / M) / M for chunks a (..., C) on the way."""
        first = fixed + self._field.part(1, chunk) + self._times[index]
        return chunk + self._step * self._field.behind(first)

    def __call__(self, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return chunks (..., C) in [-1, 1] for normalised (O,) and noise a_0 (..., C)."""
        fixed, chunk = self.fixed(observation), noise
        for index in range(self.steps):
            chunk = self.step(fixed, chunk, index)
        return np.clip(chunk, -1.0, 1.0)


class FlowPolicy(OneSample):
    """One sample of the flow: POCO and behaviour cloning."""

    kind = FLOW
    SAMPLER = FlowSampler
    sampler: FlowSampler

    def act_from_noise(self, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return the chunk (T, A) to which the flow carries ``noise`` a_0 (T, A) from (O,)."""
        flat = self.sampler(self.normalised(observation), noise.astype(np.float32).reshape(-1))
        return flat.reshape(noise.shape)


class OneStep(Policy):
    """A distilled actor that goes from noise to a chunk in one step: flow Q-learning."""

    kind = "one_step"

    @classmethod
    def shapes(cls, spec: PolicySpec) -> Shapes:
        """The network ``one_step``: observation and noise go in, a flat chunk comes out."""
        inputs = spec.inputs + spec.chunk_size
        return mlp_shapes("one_step", widths(inputs, spec.hidden_dim, spec.num_layers,
                                             spec.chunk_size))

    def prepare(self) -> None:
        """Make the network."""
        spec = self.spec
        self._actor = Mlp(self.tensors, "one_step", (spec.inputs, spec.chunk_size),
                          spec.activation)

    def chunk(self, observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Map one noise to a chunk; the caller clips it."""
        return self._actor(observation, draw_noise(self.spec, generator))
