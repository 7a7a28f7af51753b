"""Multilayer perceptrons in numpy, with the weights that torch has learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from poco_ros.core.errors import CheckpointError

Array = np.ndarray


def _silu(x: Array) -> Array:
    return x / (1.0 + np.exp(-x))


def _gelu(x: Array) -> Array:  # the tanh form, as torch's approximate="tanh"
    return 0.5 * x * (1.0 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


def _relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"silu": _silu, "gelu": _gelu, "relu": _relu}

LAYER_NORM_EPS = 1e-5


def activation(name: str) -> Callable[[Array], Array]:
    """Return an activation by name; CheckpointError when there is none."""
    if name not in ACTIVATIONS:
        raise CheckpointError(f"unknown activation {name!r}; expected one of"
                              f" {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def widths(inputs: int, hidden_dim: int, num_layers: int, outputs: int) -> list[int]:
    """Return the sizes from input to output."""
    return [inputs, *[hidden_dim] * num_layers, outputs]


def mlp_shapes(name: str, sizes: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of :class:`Mlp` with that name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        shapes[f"{name}.layers.{index}.weight"] = (outputs, inputs)
        shapes[f"{name}.layers.{index}.bias"] = (outputs,)
    return shapes


class Mlp:
    """y = W_n act(... act(W_0 x + b_0) ...) + b_n, with the first layer split into its inputs."""

    def __init__(self, tensors: Mapping[str, Array], name: str, parts: Sequence[int],
                 activation_name: str) -> None:
        """Take the layers ``<name>.layers.<i>``; ``parts`` are the sizes of the inputs."""
        self._act = activation(activation_name)
        first = tensors[f"{name}.layers.0.weight"]
        ends = np.cumsum(parts)
        self._first = [np.ascontiguousarray(first[:, end - size:end].T)
                       for size, end in zip(parts, ends, strict=True)]
        self._bias = tensors[f"{name}.layers.0.bias"]
        self._layers: list[tuple[Array, Array]] = []
        while f"{name}.layers.{len(self._layers) + 1}.weight" in tensors:
            index = len(self._layers) + 1
            self._layers.append((np.ascontiguousarray(tensors[f"{name}.layers.{index}.weight"].T),
                                 tensors[f"{name}.layers.{index}.bias"]))

    def part(self, index: int, x: Array) -> Array:
        """Return what input number ``index`` gives to the first layer, (..., width)."""
        return x @ self._first[index]

    def fixed(self, x: Array) -> Array:
        """Return what input 0 and the bias give to the first layer, (..., width)."""
        return self.part(0, x) + self._bias

    def behind(self, first: Array) -> Array:
        """Return the outputs for the sum ``first`` in the first layer (with its bias)."""
        x = self._act(first)
        for weight, bias in self._layers[:-1]:
            x = self._act(x @ weight + bias)
        weight, bias = self._layers[-1]
        return x @ weight + bias

    def __call__(self, *inputs: Array) -> Array:
        """Return the outputs (..., out) for all inputs, each (..., its size)."""
        first = self.fixed(inputs[0])
        for index, x in enumerate(inputs[1:], 1):
            first = first + self.part(index, x)
        return self.behind(first)


def ensemble_shapes(name: str, members: int, sizes: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of an ensemble of critics with LayerNorm."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        shapes[f"{name}.weights.{index}"] = (members, inputs, outputs)
        shapes[f"{name}.biases.{index}"] = (members, 1, outputs)
    for index, size in enumerate(sizes[1:-1]):
        shapes[f"{name}.scales.{index}"] = (members, 1, size)
        shapes[f"{name}.shifts.{index}"] = (members, 1, size)
    return shapes


class CriticEnsemble:
    """The members' Q for many chunks at one observation."""

    def __init__(self, tensors: Mapping[str, Array], name: str, activation_name: str) -> None:
        """Take the tensors of :func:`ensemble_shapes`."""
        self._act = activation(activation_name)
        layers = sum(key.startswith(f"{name}.scales.") for key in tensors)
        self._weights = [tensors[f"{name}.weights.{i}"] for i in range(layers + 1)]
        self._biases = [tensors[f"{name}.biases.{i}"] for i in range(layers + 1)]
        self._norms = [(tensors[f"{name}.scales.{i}"], tensors[f"{name}.shifts.{i}"])
                       for i in range(layers)]

    def mean(self, observation: Array, chunks: Array) -> Array:
        """Return the members' mean Q (N,) for (O,) and flat chunks (N, C)."""
        known = len(observation)
        first = self._weights[0]
        x = (observation @ first[:, :known])[:, None] + chunks @ first[:, known:] + self._biases[0]
        for (scale, shift), weight, bias in zip(self._norms, self._weights[1:], self._biases[1:],
                                                strict=True):
            x = self._act(x)
            x = x - x.mean(axis=-1, keepdims=True)
            x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + LAYER_NORM_EPS)
            x = (shift + x * scale) @ weight + bias
        return x[..., 0].mean(axis=0)
