"""Drawing chunks from a generative model: what every sampler shares, and a sample that acts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from poco_ros.learning.policies.base import Policy, PolicySpec, Shapes
from poco_ros.learning.policies.mlp import Mlp, mlp_shapes, widths


def field_shapes(spec: PolicySpec, name: str) -> Shapes:
    """Return the tensors of a network of observation, flat chunk and time that gives a chunk."""
    inputs = spec.inputs + spec.chunk_size + 1
    return mlp_shapes(name, widths(inputs, spec.hidden_dim, spec.num_layers, spec.chunk_size))


def field_of(spec: PolicySpec, tensors: dict[str, np.ndarray], name: str) -> Mlp:
    """Return the network of :func:`field_shapes`: its parts are observation, chunk, time."""
    return Mlp(tensors, name, (spec.inputs, spec.chunk_size, 1), spec.activation)


def draw_noise(spec: PolicySpec, generator: np.random.Generator, *count: int) -> np.ndarray:
    """Return standard normal noise (*count, C) float32."""
    return generator.standard_normal((*count, spec.chunk_size), dtype=np.float32)


class Sampler(ABC):
    """Draws chunks from a generative model with fixed weights."""

    def __init__(self, spec: PolicySpec, tensors: dict[str, np.ndarray]) -> None:
        """Take the tensors of :meth:`shapes`."""
        self.spec = spec

    @classmethod
    @abstractmethod
    def shapes(cls, spec: PolicySpec) -> Shapes:
        """Return the shapes of the model's tensors, by name."""

    @abstractmethod
    def sample(self, observation: np.ndarray, generator: np.random.Generator,
               *count: int) -> np.ndarray:
        """Return chunks (*count, C) in [-1, 1] for a normalised observation (O,)."""


class OneSample(Policy):
    """A policy that acts with one sample of a generative model."""

    SAMPLER: ClassVar[type[Sampler]]
    sampler: Sampler

    @classmethod
    def shapes(cls, spec: PolicySpec) -> Shapes:
        """Those of the model."""
        return cls.SAMPLER.shapes(spec)

    def prepare(self) -> None:
        """Make the sampler."""
        self.sampler = self.SAMPLER(self.spec, self.tensors)

    def chunk(self, observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw one chunk."""
        return self.sampler.sample(observation, generator)
