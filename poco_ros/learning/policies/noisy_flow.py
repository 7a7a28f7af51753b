"""A flow whose every step is a Gaussian: DPPO and ReinFlow.

It explores along a chain from noise a_0 to a chunk a_K::

    a_{k+1} = a_k + v(s, a_k, k/K) / K + std(s, k/K) z_k,   z_k ~ N(0, I) within the clip

and is judged without the noise z_k. The deviation std is one number (DPPO) or a network's
(ReinFlow). The chain is a function of seed and weights, so whoever has both can follow it again.
"""

from __future__ import annotations

import numpy as np

from poco_ros.learning.policies.base import EXPLORE, Policy, PolicySpec, Shapes
from poco_ros.learning.policies.flow import FlowSampler
from poco_ros.learning.policies.mlp import Mlp, mlp_shapes, widths
from poco_ros.learning.policies.sampling import draw_noise


class LearnedNoise:
    """std(s, m) of every entry: the network's log variance, squashed into its bounds."""

    def __init__(self, spec: PolicySpec, tensors: dict[str, np.ndarray]) -> None:
        self._network = Mlp(tensors, "noise", (spec.inputs, 1), spec.activation)
        low, high = np.log(spec.number("noise_min")), np.log(spec.number("noise_max"))
        self._middle, self._reach = np.float32((low + high) / 2), np.float32((high - low) / 2)

    @staticmethod
    def shapes(spec: PolicySpec) -> Shapes:
        """The network ``noise``: observation and flow time go in."""
        return mlp_shapes("noise", widths(spec.inputs + 1,
                                          spec.option("noise_hidden_dim"),
                                          spec.option("noise_layers"), spec.chunk_size))

    def __call__(self, observation: np.ndarray, time: float) -> np.ndarray:
        """Return the deviation (..., C) for normalised observations (..., O) at a flow time."""
        found = self._network(observation, np.array([time], np.float32))
        return np.exp(self._middle + self._reach * np.tanh(found))


class NoisyFlow(Policy):
    """See the module. Drawn are a_0 and then z_0, z_1, ...: one row (C,) each."""

    kind = "noisy_flow"

    @classmethod
    def shapes(cls, spec: PolicySpec) -> Shapes:
        """The velocity field ``actor``, and the network ``noise`` where the noise is learned."""
        learned = "noise_std" not in spec.options
        return FlowSampler.shapes(spec) | (LearnedNoise.shapes(spec) if learned else {})

    def prepare(self) -> None:
        """Make flow and noise."""
        spec = self.spec
        self._flow = FlowSampler(spec, self.tensors)
        self._clip = np.float32(spec.number("noise_clip"))
        self._noise: LearnedNoise | None = None
        if "noise_std" in spec.options:
            self._constant = np.float32(spec.number("noise_std"))
        else:
            self._noise = LearnedNoise(spec, self.tensors)

    def chunk(self, observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Follow a chain to its end; judged, carry a_0 alone."""
        if self.mode == EXPLORE:
            return self.chains(observation, self.chain_noise(generator))[-1]
        return self._flow(observation, draw_noise(self.spec, generator))

    def chain_noise(self, generator: np.random.Generator) -> np.ndarray:
        """Return what is random in a chain: a_0, z_0, z_1, ..., (K+1, C)."""
        return draw_noise(self.spec, generator, self._flow.steps + 1)

    def chains(self, observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return chains (..., K+1, C) for normalised (..., O) and their noise (..., K+1, C).

        The last entry is the chunk before it is clipped to [-1, 1].
        """
        flow, fixed = self._flow, self._flow.fixed(observations)
        chain = [noise[..., 0, :]]
        for index in range(flow.steps):
            std = self._constant if self._noise is None \
                else self._noise(observations, index / flow.steps)
            pushed = np.clip(noise[..., index + 1, :], -self._clip, self._clip)
            chain.append(flow.step(fixed, chain[-1], index) + std * pushed)
        return np.stack(chain, axis=-2)
