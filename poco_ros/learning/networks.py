"""Networks that the algorithms share: MLPs, fields over chunks, the ensemble of chunk critics.

The critics, like the fields over chunks, have a training form, for autograd, and two forms without
gradients. On the CPU all candidates are done in blocks: at the paper's size they are 8,192 rows,
one hidden layer of them is 16 MiB, larger than a core's cache, so the activation would wait for
memory. In blocks of a few hundred rows a whole network runs inside the cache. A GPU wants the
opposite, one big batch with all members side by side; that is the form ``whole``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from poco_ros.learning.fast_linear import FastLinear, activate
from poco_ros.learning.policies.gaussian import LOG_STD_MAX, LOG_STD_MIN

Fuse = Callable[[Callable[..., Any]], Callable[..., Any]]
"""What compiles a function: ``torch.compile`` with its options."""
BLOCK_ELEMENTS = 1 << 18
"""Elements of one hidden layer in a block: 1 MiB of float32, what a core's cache holds."""


ALIGNED = 8
"""Columns of which a GPU's products want a multiple: else they take kernels of half the speed."""


def aligned(x: Tensor, dim: int = -1) -> Tensor:
    """Return x with zeros behind it in ``dim`` up to a multiple of :data:`ALIGNED`."""
    behind = x.dim() - 1 - dim % x.dim()
    return F.pad(x, (0, 0) * behind + (0, -x.shape[dim] % ALIGNED))


def block_rows(width: int) -> int:
    """Return how many rows of a layer of this width make a block."""
    return max(64, BLOCK_ELEMENTS // width)


def mlp_layers(inputs: int, hidden_dim: int, num_layers: int, outputs: int) -> nn.ModuleList:
    """Return the linear layers of an MLP from input to output."""
    widths = [inputs, *[hidden_dim] * num_layers, outputs]
    return nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))


def linear_layers(layers: nn.ModuleList) -> list[nn.Linear]:
    """Return the layers of :func:`mlp_layers`, typed."""
    return [layer for layer in layers if isinstance(layer, nn.Linear)]


class Mlp(nn.Module):
    """An MLP of several inputs side by side, without LayerNorm."""

    def __init__(self, inputs: int, hidden_dim: int, num_layers: int, outputs: int,
                 activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.layers = mlp_layers(inputs, hidden_dim, num_layers, outputs)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return (B, outputs) for inputs (B, ...)."""
        x = torch.cat(inputs, dim=1)
        for layer in self.layers[:-1]:
            x = activate(layer(x), self.activation)
        return self.layers[-1](x)


class ChunkField(nn.Module):
    """An MLP of observation, flat chunk and time that gives a flat chunk. No LayerNorm.

    Observations are normalised already. Chunks are flat: (B, C) with C = T * A.
    """

    whole = False
    """Whether chunks are led in one big batch: always on a GPU, elsewhere where set."""
    product_dtype: torch.dtype | None = None
    """Type in which the network's products are done; None = that of its weights, float32."""

    def __init__(self, observation_size: int, chunk_size: int, hidden_dim: int, num_layers: int,
                 activation: str) -> None:
        super().__init__()
        self.observation_size, self.chunk_size = observation_size, chunk_size
        self.hidden_dim, self.activation = hidden_dim, activation
        self.layers = mlp_layers(observation_size + chunk_size + 1, hidden_dim, num_layers,
                                 chunk_size)
        self._times: dict[tuple[torch.device, tuple[float, ...]], Tensor] = {}

    def products(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which the network is to run for :attr:`product_dtype`."""
        if self.product_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(device.type, self.product_dtype, cache_enabled=False)

    def forward(self, observations: Tensor, chunks: Tensor, times: Tensor) -> Tensor:
        """Return (B, C) for (B, O), (B, C) and times (B, 1) in [0, 1]."""
        with self.products(chunks.device):
            x = torch.cat((observations, chunks, times), dim=1)
            for layer in self.layers[:-1]:
                x = activate(layer(x), self.activation, in_place=not torch.is_grad_enabled())
            return self.layers[-1](x)

    @torch.no_grad()
    def walk(self, observations: Tensor, chunks: Tensor, times: Sequence[float],
             step: Callable[[int, Tensor, Tensor], object]) -> Tensor:
        """Lead chunks (B, N, C) of observations (B, O) through ``times``; return where they end.

        ``step(index, block, output)`` moves a block of chunks (..., C) in place, by the field's
        output (..., C) for it at ``times[index]``; it may change the output too. The part of the
        first layer that sees the observation is computed once a state, not once a chunk and step.
        """
        if self.whole or chunks.device.type != "cpu":
            return self._walk_whole(observations, chunks, times, step)
        batch, count, size = chunks.shape
        first, *hidden_layers, last = linear_layers(self.layers)
        w_observation, w_chunk, w_time = first.weight.split((self.observation_size, size, 1),
                                                            dim=1)
        fixed = torch.addmm(first.bias, observations, w_observation.t())
        enter = FastLinear(w_chunk, None)
        hidden = [FastLinear(layer.weight, layer.bias, self.activation)
                  for layer in hidden_layers]
        leave = FastLinear(last.weight, last.bias)
        moved = chunks.reshape(batch * count, size).clone()
        states = max(1, block_rows(self.hidden_dim) // count)
        for begin in range(0, batch, states):
            base = fixed[begin:begin + states].repeat_interleave(count, dim=0)
            block = moved[begin * count:(begin + states) * count]
            for index, time in enumerate(times):
                x = enter(block).add_(base).add_(w_time.t(), alpha=time)
                x = activate(x, self.activation, in_place=True)
                for layer in hidden:
                    x = layer(x)
                step(index, block, leave(x))
        return moved.view(batch, count, size)

    def _walk_whole(self, observations: Tensor, chunks: Tensor, times: Sequence[float],
                    step: Callable[[int, Tensor, Tensor], object]) -> Tensor:
        size, dtype = chunks.shape[2], self.product_dtype or chunks.dtype
        first, *behind = [(layer.weight.to(dtype), layer.bias.to(dtype))
                          for layer in linear_layers(self.layers)]
        w_observation, w_chunk, w_time = first[0].split((self.observation_size, size, 1), dim=1)
        fixed = F.linear(observations.to(dtype), w_observation, first[1])
        w_chunk = aligned(w_chunk)
        behind[-1] = aligned(behind[-1][0], 0), aligned(behind[-1][1])
        bases = (fixed + self._times_on(chunks.device, tuple(times)) * w_time.t()).to(dtype)
        wide = aligned(chunks)
        moved = wide[..., :size]
        for index, base in enumerate(bases):
            step(index, moved, self._output(wide, base, w_chunk, behind)[..., :size])
        return moved.contiguous()

    def _times_on(self, device: torch.device, times: tuple[float, ...]) -> Tensor:
        """Return ``times`` as (S, 1, 1); made once, and never from memory of the host."""
        key = device, times
        if key not in self._times:
            self._times[key] = torch.cat([torch.full((1, 1, 1), time, device=device)
                                          for time in times])
        return self._times[key]

    def _output(self, moved: Tensor, base: Tensor, w_chunk: Tensor,
                behind: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the field's output for chunks (B, N, C), in their type.

        ``base`` (B, width) is what observation and time give to the first layer, ``behind`` are
        weight and bias of the others.
        """
        x = F.linear(moved.to(base.dtype), w_chunk) + base.unsqueeze(1)
        for weight, bias in behind:
            x = F.linear(activate(x, self.activation, in_place=True), weight, bias)
        return x.to(moved.dtype)

    def fuse(self, compiled: Fuse) -> None:
        """Have the element-wise work of training and of a step compiled."""
        self.forward = compiled(self.forward)  # type: ignore[method-assign]
        self._output = compiled(self._output)  # type: ignore[method-assign]


class TanhGaussian(nn.Module):
    """A tanh-Gaussian over chunks, whose mean and log deviation are an MLP's of the observation.
    """

    def __init__(self, observation_size: int, chunk_size: int, hidden_dim: int, num_layers: int,
                 activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.layers = mlp_layers(observation_size, hidden_dim, num_layers, 2 * chunk_size)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log deviation before the tanh, (B, C) each, for (B, O)."""
        x = observations
        for layer in self.layers[:-1]:
            x = activate(layer(x), self.activation)
        mean, log_std = self.layers[-1](x).chunk(2, dim=1)
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def sample(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return chunks (B, C) in (-1, 1) and their log densities (B,) for noise (B, C)."""
        mean, log_std = self(observations)
        before = mean + log_std.exp() * noise
        gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
        # log(1 - tanh(x)^2), in a form that stays finite.
        squash = 2.0 * (math.log(2.0) - before - F.softplus(-2.0 * before))
        return before.tanh(), (gaussian - squash).sum(dim=1)


class Trained(nn.Module):
    """Whether what goes by its name has been trained: a flag that travels with the weights."""

    trained: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("trained", torch.zeros(1))


class SteeringActor(TanhGaussian, Trained):
    """A tanh-Gaussian over the noise of a flow, and whether it has been trained."""


class Temperature(nn.Module):
    """alpha = exp(log_alpha), the price of entropy that SAC learns."""

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.tensor([math.log(initial)]))

    def forward(self) -> Tensor:
        """Return alpha, (1,)."""
        return self.log_alpha.exp()


class ChunkCritic(nn.Module):
    """Q_e(s, a_{t:t+T}) for E members at once: an MLP with LayerNorm after each activation."""

    def __init__(self, observation_size: int, chunk_size: int, hidden_dim: int, num_layers: int,
                 members: int, activation: str) -> None:
        super().__init__()
        self.observation_size, self.hidden_dim = observation_size, hidden_dim
        self.activation, self.members = activation, members
        widths = [observation_size + chunk_size] + [hidden_dim] * num_layers + [1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for inputs, outputs in pairwise(widths):
            bound = 1.0 / math.sqrt(inputs)  # as nn.Linear
            self.weights.append(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
            self.biases.append(torch.empty(members, 1, outputs).uniform_(-bound, bound))
        self.scales = nn.ParameterList(torch.ones(members, 1, hidden_dim)
                                       for _ in range(num_layers))
        self.shifts = nn.ParameterList(torch.zeros(members, 1, hidden_dim)
                                       for _ in range(num_layers))

    whole = False
    """Whether candidates are done in one big batch: always on a GPU, elsewhere where set."""

    def _normalise(self, x: Tensor, index: int) -> Tensor:
        x = F.layer_norm(x, (self.hidden_dim,))
        return torch.addcmul(self.shifts[index], x, self.scales[index])

    def forward(self, observations: Tensor, chunks: Tensor) -> Tensor:
        """Return Q (E, B) for observations (B, O) and flat chunks (B, C)."""
        x = torch.cat((observations, chunks), dim=1).expand(self.members, -1, -1)
        for index in range(len(self.scales)):
            x = torch.baddbmm(self.biases[index], x, self.weights[index])
            x = self._normalise(activate(x, self.activation), index)
        return torch.baddbmm(self.biases[-1], x, self.weights[-1]).squeeze(-1)

    @torch.no_grad()
    def mean_of_candidates(self, observations: Tensor, candidates: Tensor) -> Tensor:
        """Return the members' mean Q (B, N) for (B, O) and candidates (B, N, C)."""
        batch, count, size = candidates.shape
        if self.whole or candidates.device.type != "cpu":
            return self._mean_of_whole(observations, candidates)
        rows = candidates.reshape(batch * count, size)
        total = rows.new_zeros(batch * count)
        states = max(1, block_rows(self.hidden_dim) // count)
        for member in range(self.members):
            w_observation, w_chunk = self.weights[0][member].split((self.observation_size, size))
            fixed = torch.addmm(self.biases[0][member], observations, w_observation)
            enter = FastLinear(w_chunk.t(), None)
            behind = [FastLinear(weight[member].t(), bias[member, 0])
                      for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True)]
            for begin in range(0, batch, states):
                part = slice(begin * count, (begin + states) * count)
                x = enter(rows[part]).add_(
                    fixed[begin:begin + states].repeat_interleave(count, dim=0))
                for layer, scale, shift in zip(behind, self.scales, self.shifts, strict=True):
                    x = F.layer_norm(activate(x, self.activation, True), (self.hidden_dim,),
                                     scale[member, 0], shift[member, 0])
                    x = layer(x)
                total[part] += x.squeeze(-1)
        return (total / self.members).view(batch, count)

    def _mean_of_whole(self, observations: Tensor, candidates: Tensor) -> Tensor:
        batch, count, size = candidates.shape
        w_observation, w_chunk = self.weights[0].split((self.observation_size, size), dim=1)
        fixed = torch.baddbmm(self.biases[0], observations.expand(self.members, -1, -1),
                              w_observation)
        rows = aligned(candidates.reshape(batch * count, size)).expand(self.members, -1, -1)
        x = torch.bmm(rows, aligned(w_chunk, 1)).unflatten(1, (batch, count)) + fixed.unsqueeze(2)
        x = x.flatten(1, 2)
        for index in range(len(self.scales)):
            x = self._normalise(activate(x, self.activation), index)
            x = torch.bmm(x, self.weights[index + 1]) + self.biases[index + 1]
        return x.squeeze(-1).mean(dim=0).view(batch, count)

    def fuse(self, compiled: Fuse) -> None:
        """Have the element-wise work of both forms that a GPU uses compiled."""
        self.forward = compiled(self.forward)  # type: ignore[method-assign]
        self._mean_of_whole = compiled(self._mean_of_whole)  # type: ignore[method-assign]


class Value(nn.Module):
    """V(s): an MLP with LayerNorm after each activation, as the critics.

    A time limit is bootstrapped from a state that lies behind all that the value was fitted to,
    and a plain MLP goes on rising there: its targets then rise with it, without end. LayerNorm
    keeps it bounded.
    """

    def __init__(self, observation_size: int, hidden_dim: int, num_layers: int,
                 activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.layers = mlp_layers(observation_size, hidden_dim, num_layers, 1)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim) for _ in range(num_layers))

    def forward(self, observations: Tensor) -> Tensor:
        """Return V (B,) for observations (B, O)."""
        x = observations
        for layer, norm in zip(self.layers, self.norms, strict=False):
            x = norm(activate(layer(x), self.activation))
        return self.layers[-1](x).squeeze(1)
