"""The contract of a policy that acts: an observation and a seed in, a chunk of actions out.

The side that acts never imports torch: the policy server, the environment workers and the robot
start in a moment and stay small. A policy is one safetensors file that holds all that it needs to
act; its header says of which kind it is. A test holds the numbers equal to those of torch.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from safetensors.numpy import save as save_tensors

from poco_ros.core.errors import CheckpointError
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.seeding import chunk_generator
from poco_ros.learning.config import FLOW, GENERATIVE

FORMAT = "poco-policy-2"

EXPLORE, EVALUATE, RANDOM = "explore", "evaluate", "random"
"""How a policy acts: as it learns, as it is judged, or at random in [-1, 1]."""
MODES = (EXPLORE, EVALUATE, RANDOM)


@dataclass(frozen=True)
class Signature:
    """What goes in and out of every policy for a task."""

    task: str
    observation: ObservationLayout
    action_dim: int


@dataclass(frozen=True)
class PolicySpec:
    """What a policy is for and how it is built; it travels inside the weights' file."""

    kind: str
    """Which class acts: ``flow``, ``best_of_n``, ..."""
    task: str
    observation: ObservationLayout
    action_dim: int
    chunk_horizon: int
    hidden_dim: int
    num_layers: int
    activation: str
    options: Mapping[str, float | str] = dataclasses.field(default_factory=dict)
    """What this kind knows besides, such as ``flow_steps``."""
    observation_components: int = 0
    """Principal components that networks see of a part of the observation; 0 = all values."""

    @property
    def inputs(self) -> int:
        """I, length of an observation as networks see it."""
        return self.observation.reduced(self.observation_components).size

    @property
    def chunk_size(self) -> int:
        """Length T * A of a flattened chunk."""
        return self.chunk_horizon * self.action_dim

    @property
    def generative(self) -> str:
        """Of :data:`GENERATIVE`: what the samples are drawn from, where the kind draws any."""
        return self.kind if self.kind in GENERATIVE else str(self.options.get("policy", FLOW))

    def option(self, name: str) -> int:
        """Return an option that counts something.

        Raises:
            CheckpointError: it is missing or no count.
        """
        value = self.options.get(name)
        if not isinstance(value, (int, float)) or value != int(value) or value < 1:
            raise CheckpointError(f"policy of kind {self.kind}: option {name} is {value!r},"
                                  " expected a whole number of at least 1")
        return int(value)

    def number(self, name: str) -> float:
        """Return an option that is a number.

        Raises:
            CheckpointError: it is missing or none.
        """
        value = self.options.get(name)
        if not isinstance(value, (int, float)):
            raise CheckpointError(f"policy of kind {self.kind}: option {name} is {value!r},"
                                  " expected a number")
        return float(value)

    def to_json(self) -> dict[str, object]:
        """Return the specification as JSON values."""
        words = {**dataclasses.asdict(self), "observation": self.observation.to_json()}
        if not self.observation_components:
            del words["observation_components"]  # as in files from before there was the setting
        return words

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> PolicySpec:
        """Read :meth:`to_json` back; TypeError or DataError on anything else."""
        return cls(**{**values, "observation":  # type: ignore[arg-type]
                      ObservationLayout.from_json(values.get("observation"))})


Shapes = dict[str, tuple[int, ...]]


class Policy(ABC):
    """A policy with fixed weights. Calls are stateless: noise is a function of the seed."""

    kind: ClassVar[str]

    def __init__(self, spec: PolicySpec, tensors: Mapping[str, np.ndarray], version: int = 0,
                 mode: str = EVALUATE, source: str = "policy") -> None:
        """Hold ``tensors``, float32: those of :meth:`shapes`, ``normalizer.mean`` and
        ``normalizer.std`` (O,), and with observation components ``normalizer.components`` (O, I).

        Raises:
            CheckpointError: a tensor is missing, unknown, of another shape or not finite; the
                mode is unknown.
        """
        if mode not in MODES:
            raise CheckpointError(f"{source}: mode {mode!r} is not one of {', '.join(MODES)}")
        self.spec, self.version, self.mode = spec, int(version), mode
        size = spec.observation.size
        shapes = {"normalizer.mean": (size,), "normalizer.std": (size,), **self.shapes(spec)}
        if spec.observation_components:
            shapes["normalizer.components"] = (size, spec.inputs)
        check_tensors(tensors, shapes, source)
        self.tensors = {name: np.ascontiguousarray(tensors[name], np.float32) for name in shapes}
        self._mean, self._std = self.tensors["normalizer.mean"], self.tensors["normalizer.std"]
        self._components = self.tensors.get("normalizer.components")
        self.prepare()

    @classmethod
    @abstractmethod
    def shapes(cls, spec: PolicySpec) -> Shapes:
        """Return the shapes of the networks' tensors, by name."""

    @abstractmethod
    def prepare(self) -> None:
        """Bring the tensors into the form in which :meth:`chunk` wants them."""

    @abstractmethod
    def chunk(self, observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return a flat chunk (C,) for a normalised observation (I,) float32.

        All that is random comes from ``generator``, in an order that is part of the kind.
        """

    def act(self, observation: np.ndarray, seed: int) -> np.ndarray:
        """Return a chunk (T, A) float32 in [-1, 1] for ``observation`` (O,).

        Raises:
            DataError: the observation has another size or is not finite.
        """
        spec = self.spec
        spec.observation.check(observation)
        generator = chunk_generator(seed)
        if self.mode == RANDOM:
            flat = generator.uniform(-1.0, 1.0, spec.chunk_size).astype(np.float32)
        else:
            flat = self.chunk(self.normalised(observation), generator)
        return np.clip(flat, -1.0, 1.0).reshape(spec.chunk_horizon, spec.action_dim)

    def normalised(self, observation: np.ndarray) -> np.ndarray:
        """Return what networks see of observations (..., O): (..., I) float32."""
        scaled = (observation.astype(np.float32) - self._mean) / self._std
        return scaled if self._components is None else scaled @ self._components

    def to_bytes(self) -> bytes:
        """Return safetensors bytes; specification, version and mode are JSON in the header."""
        words = {"format": FORMAT, "version": self.version, "mode": self.mode,
                 "spec": self.spec.to_json()}
        return save_tensors(self.tensors, metadata={"policy": json.dumps(words)})


def check_tensors(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]],
                  source: str) -> None:
    """Raise CheckpointError unless ``tensors`` has exactly these names, shapes, and is finite."""
    for name, shape in shapes.items():
        if name not in tensors:
            raise CheckpointError(f"{source}: tensor {name!r} is missing")
        if tuple(tensors[name].shape) != tuple(shape):
            raise CheckpointError(f"{source}: tensor {name!r} has shape"
                                  f" {tuple(tensors[name].shape)}, this architecture has {shape}")
        if not np.isfinite(tensors[name]).all():
            raise CheckpointError(f"{source}: tensor {name!r} holds values that are not finite")
    extra = sorted(set(tensors) - set(shapes))
    if extra:
        raise CheckpointError(f"{source}: unknown tensors {extra[:4]}; another architecture?")
