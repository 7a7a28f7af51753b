"""The two networks: the flow field of the actor and the ensemble of chunk critics.

Both have a training form, for autograd, and a cache-blocked form without gradients. The batch of
all candidates at the paper's size is 8,192 rows: one hidden layer of it is 16 MiB, larger than a
core's cache, so the activation would wait for memory. In blocks of a few hundred rows a whole
network runs inside the cache.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from poco_ros.learning.fast_linear import FastLinear, activate
from poco_ros.learning.policy import PolicySpec

BLOCK_ELEMENTS = 1 << 18
"""Elements of one hidden layer in a block: 1 MiB of float32, what a core's cache holds."""


def block_rows(width: int) -> int:
    """Return how many rows of a layer of this width make a block."""
    return max(64, BLOCK_ELEMENTS // width)


class FlowField(nn.Module):
    """v(s, a_m, m): the velocity that carries noise a_0 to an action a_1. An MLP, no LayerNorm.

    Observations are normalised already. Chunks are flat: (B, C) with C = T * A.
    """

    def __init__(self, spec: PolicySpec) -> None:
        super().__init__()
        self.spec = spec
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in spec.layer_sizes)

    def linear_layers(self) -> list[nn.Linear]:
        """Return the layers from input to output."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, observations: Tensor, chunks: Tensor, times: Tensor) -> Tensor:
        """Return velocities (B, C) for (B, O), (B, C) and flow times (B, 1) in [0, 1]."""
        x = torch.cat((observations, chunks, times), dim=1)
        for layer in self.layers[:-1]:
            x = activate(layer(x), self.spec.activation, in_place=not torch.is_grad_enabled())
        return self.layers[-1](x)

    @torch.no_grad()
    def sample(self, observations: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Return chunks (B, N, C) in [-1, 1] for (B, O) and noise a_0 (B, N, C).

        ``steps`` Euler steps of a <- a + v / steps. The part of the first layer that sees the
        observation is computed once a state, not once a candidate and step.
        """
        batch, candidates, size = noise.shape
        first, *hidden_layers, last = self.linear_layers()
        known = self.spec.observation.size
        w_observation, w_chunk, w_time = first.weight.split((known, size, 1), dim=1)
        fixed = torch.addmm(first.bias, observations, w_observation.t())
        act = self.spec.activation
        enter = FastLinear(w_chunk, None)
        hidden = [FastLinear(layer.weight, layer.bias, act) for layer in hidden_layers]
        leave = FastLinear(last.weight, last.bias)
        moved = noise.reshape(batch * candidates, size).clone()
        states = max(1, block_rows(self.spec.hidden_dim) // candidates)
        for begin in range(0, batch, states):
            base = fixed[begin:begin + states].repeat_interleave(candidates, dim=0)
            block = moved[begin * candidates:(begin + states) * candidates]
            for index in range(steps):
                x = enter(block).add_(base).add_(w_time.t(), alpha=index / steps)
                x = activate(x, act, in_place=True)
                for layer in hidden:
                    x = layer(x)
                block.add_(leave(x), alpha=1.0 / steps)
        return moved.clamp_(-1.0, 1.0).view(batch, candidates, size)


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
