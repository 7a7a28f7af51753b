"""Tanh-Gaussian policies: over chunks (SAC, RLPD), and over the noise of a flow (DSRL)."""

from __future__ import annotations

import numpy as np

from poco_ros.learning.policies.base import EXPLORE, Policy, PolicySpec, Shapes
from poco_ros.learning.policies.flow import FlowSampler
from poco_ros.learning.policies.mlp import Mlp, mlp_shapes, widths
from poco_ros.learning.policies.sampling import draw_noise

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
"""Range of the logarithm of the deviation, as in SAC."""


def gaussian_shapes(spec: PolicySpec, name: str, hidden_dim: int, num_layers: int) -> Shapes:
    """Return the tensors of a network that gives mean and log deviation of every entry."""
    return mlp_shapes(name, widths(spec.inputs, hidden_dim, num_layers,
                                   2 * spec.chunk_size))


class TanhGaussian:
    """tanh(mean + std * noise); without noise, tanh(mean)."""

    def __init__(self, spec: PolicySpec, tensors: dict[str, np.ndarray], name: str) -> None:
        self._spec = spec
        self._network = Mlp(tensors, name, (spec.inputs,), spec.activation)

    def __call__(self, observation: np.ndarray,
                 generator: np.random.Generator | None) -> np.ndarray:
        """Return a sample (C,) in (-1, 1) for normalised (O,), or with None the mode."""
        mean, log_std = np.split(self._network(observation), 2)
        if generator is not None:
            std = np.exp(np.clip(log_std, LOG_STD_MIN, LOG_STD_MAX))
            mean = mean + std * draw_noise(self._spec, generator)
        return np.tanh(mean)


class Gaussian(Policy):
    """A tanh-Gaussian over chunks. It explores with a sample and is judged by its mode."""

    kind = "gaussian"

    @classmethod
    def shapes(cls, spec: PolicySpec) -> Shapes:
        """The network ``actor``."""
        return gaussian_shapes(spec, "actor", spec.hidden_dim, spec.num_layers)

    def prepare(self) -> None:
        """Make the network."""
        self._actor = TanhGaussian(self.spec, self.tensors, "actor")

    def chunk(self, observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw a chunk, or take the mode."""
        return self._actor(observation, generator if self.mode == EXPLORE else None)


class SteeredFlow(Policy):
    """A frozen flow whose initial noise a tanh-Gaussian chooses: DSRL."""

    kind = "steered_flow"

    @classmethod
    def shapes(cls, spec: PolicySpec) -> Shapes:
        """The velocity field ``actor``, the network ``noise_actor``, and whether it is trained."""
        steering = gaussian_shapes(spec, "noise_actor", spec.option("noise_hidden_dim"),
                                   spec.option("noise_layers"))
        return FlowSampler.shapes(spec) | steering | {"noise_actor.trained": (1,)}

    def prepare(self) -> None:
        """Make flow and noise actor."""
        self._flow = FlowSampler(self.spec, self.tensors)
        self._steer = TanhGaussian(self.spec, self.tensors, "noise_actor")
        self._bound = np.float32(self.spec.number("noise_bound"))
        self._steered = bool(self.tensors["noise_actor.trained"][0])

    def chunk(self, observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Choose a noise within the bound and carry it; before that is learned, draw one."""
        if not self._steered:
            return self._flow(observation, draw_noise(self.spec, generator))
        noise = self._steer(observation, generator if self.mode == EXPLORE else None)
        return self._flow(observation, self._bound * noise)
