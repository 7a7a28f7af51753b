"""The policy that acts: flow weights in, a chunk of actions out. numpy only.

The side that acts never imports torch: the policy server, the environment workers and the robot
start in a moment and stay small. A test holds the numbers equal to the torch sampler's.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from poco_ros.core.episode import safetensors_metadata
from poco_ros.core.errors import CheckpointError, DataError
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.seeding import chunk_noise

FORMAT = "poco-policy-1"


@dataclass(frozen=True)
class PolicySpec:
    """What a policy is for and how it is built; it travels inside the weights' file."""

    task: str
    observation: ObservationLayout
    action_dim: int
    chunk_horizon: int
    hidden_dim: int
    num_layers: int
    activation: str
    flow_steps: int

    @property
    def chunk_size(self) -> int:
        """Length T * A of a flattened chunk."""
        return self.chunk_horizon * self.action_dim

    @property
    def layer_sizes(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of every layer; the inputs are observation, flat chunk, flow time."""
        widths = [self.observation.size + self.chunk_size + 1]
        widths += [self.hidden_dim] * self.num_layers + [self.chunk_size]
        return list(pairwise(widths))

    def to_json(self) -> dict[str, object]:
        """Return the specification as JSON values."""
        return {**dataclasses.asdict(self), "observation": self.observation.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> PolicySpec:
        """Read :meth:`to_json` back; TypeError or DataError on anything else."""
        return cls(**{**values, "observation":  # type: ignore[arg-type]
                      ObservationLayout.from_json(values.get("observation"))})


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1.0 + np.exp(-x))


def _gelu(x: np.ndarray) -> np.ndarray:  # the tanh form, as torch's approximate="tanh"
    return 0.5 * x * (1.0 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "silu": _silu, "gelu": _gelu, "relu": _relu}


class Policy:
    """A flow policy with fixed weights. Calls are stateless: noise is a function of the seed."""

    def __init__(self, spec: PolicySpec, tensors: Mapping[str, np.ndarray], version: int = 0,
                 source: str = "policy") -> None:
        """Hold ``tensors``: ``layers.<i>.weight`` (out, in), ``layers.<i>.bias`` (out,), and
        ``normalizer.mean``, ``normalizer.std`` (O,), all float32.

        Raises:
            CheckpointError: a tensor is missing, unknown, of another shape or not finite.
        """
        if spec.activation not in ACTIVATIONS:
            raise CheckpointError(f"{source}: unknown activation {spec.activation!r}")
        self.spec, self.version = spec, int(version)
        shapes: dict[str, tuple[int, ...]] = {"normalizer.mean": (spec.observation.size,),
                                              "normalizer.std": (spec.observation.size,)}
        for index, (inputs, outputs) in enumerate(spec.layer_sizes):
            shapes[f"layers.{index}.weight"] = (outputs, inputs)
            shapes[f"layers.{index}.bias"] = (outputs,)
        check_tensors(tensors, shapes, source)
        self.tensors = {name: np.ascontiguousarray(tensors[name], np.float32) for name in shapes}
        size = spec.observation.size
        first = self.tensors["layers.0.weight"]
        self._observation_weight = np.ascontiguousarray(first[:, :size].T)
        self._chunk_weight = np.ascontiguousarray(first[:, size:-1].T)
        self._time_weight = np.ascontiguousarray(first[:, -1])
        self._layers = [(np.ascontiguousarray(self.tensors[f"layers.{i}.weight"].T),
                         self.tensors[f"layers.{i}.bias"])
                        for i in range(1, len(spec.layer_sizes))]
        self._activation = ACTIVATIONS[spec.activation]

    def act(self, observation: np.ndarray, seed: int) -> np.ndarray:
        """Return a chunk (T, A) float32 in [-1, 1] for ``observation`` (O,).

        Raises:
            DataError: the observation has another size or is not finite.
        """
        self.spec.observation.check(observation)
        noise = chunk_noise(seed, self.spec.chunk_horizon, self.spec.action_dim)
        return self.act_from_noise(observation, noise)

    def act_from_noise(self, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return the chunk (T, A) to which the flow carries ``noise`` a_0 (T, A).

        a <- a + v(s, a, m) / M for m = 0, 1/M, ..., then clipped to [-1, 1].
        """
        spec, act = self.spec, self._activation
        mean, std = self.tensors["normalizer.mean"], self.tensors["normalizer.std"]
        scaled = (observation.astype(np.float32) - mean) / std
        fixed = scaled @ self._observation_weight + self.tensors["layers.0.bias"]
        chunk = noise.astype(np.float32).reshape(-1)
        step = np.float32(1.0 / spec.flow_steps)
        last_weight, last_bias = self._layers[-1]
        for index in range(spec.flow_steps):
            hidden = act(fixed + chunk @ self._chunk_weight
                         + np.float32(index / spec.flow_steps) * self._time_weight)
            for weight, bias in self._layers[:-1]:
                hidden = act(hidden @ weight + bias)
            chunk = chunk + step * (hidden @ last_weight + last_bias)
        return np.clip(chunk, -1.0, 1.0).reshape(spec.chunk_horizon, spec.action_dim)

    def to_bytes(self) -> bytes:
        """Return safetensors bytes; specification and version are JSON in the header."""
        words = {"format": FORMAT, "version": self.version, "spec": self.spec.to_json()}
        return save_tensors(self.tensors, metadata={"policy": json.dumps(words)})

    @classmethod
    def from_bytes(cls, content: bytes, source: str = "policy") -> Policy:
        """Read :meth:`to_bytes` back.

        Raises:
            CheckpointError: truncated, foreign, of inconsistent shapes or not finite; ``source``
                is named.
        """
        try:
            tensors = load_tensors(content)
            words = json.loads(safetensors_metadata(content)["policy"])
            if words["format"] != FORMAT:
                raise CheckpointError(f"{source}: format {words['format']!r}, expected {FORMAT}")
            spec, version = PolicySpec.from_json(words["spec"]), int(words["version"])
        except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, AttributeError,
                DataError) as error:
            raise CheckpointError(
                f"{source}: not a policy file, or truncated ({error}); expected safetensors"
                " written by poco_ros") from error
        return cls(spec, tensors, version, source)


def check_tensors(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]],
                  source: str) -> None:
    """Raise CheckpointError unless ``tensors`` has exactly these names, shapes, and is finite."""
    for name, shape in shapes.items():
        if name not in tensors:
            raise CheckpointError(f"{source}: tensor {name!r} is missing")
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(f"{source}: tensor {name!r} has shape"
                                  f" {tuple(tensors[name].shape)}, this architecture has {shape}")
        if not np.isfinite(tensors[name]).all():
            raise CheckpointError(f"{source}: tensor {name!r} holds values that are not finite")
    extra = sorted(set(tensors) - set(shapes))
    if extra:
        raise CheckpointError(f"{source}: unknown tensors {extra[:4]}; another architecture?")
