"""Flow matching on chunks.

With noise a_0 ~ N(0, I), action a_1 and flow time m ~ U(0, 1) the path is
``a_m = (1 - m) a_0 + m a_1``, its velocity ``a_1 - a_0``, and the loss of one chunk is the mean
over its valid entries of ``(v(s, a_m, m) - (a_1 - a_0))^2``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from poco_ros.learning.config import FLOW
from poco_ros.learning.fast_linear import activate
from poco_ros.learning.generative import GenerativePolicy, masked_mean, normal
from poco_ros.learning.networks import ChunkField, Fuse, linear_layers


@dataclass(frozen=True, eq=False)
class FlowNoise:
    """What is random in the loss of a batch of chunks: each has noise and time of its own."""

    a_0: Tensor
    """(B, C) standard normal."""
    times: Tensor
    """(B, 1) uniform in [0, 1)."""

    @classmethod
    def draw(cls, chunks: Tensor, generator: torch.Generator) -> FlowNoise:
        """Draw for chunks (B, C)."""
        return cls(normal(chunks.shape, generator, chunks.device),
                   torch.rand(len(chunks), 1, generator=generator, device=chunks.device))


class FlowField(ChunkField, GenerativePolicy):
    """v(s, a_m, m): the velocity that carries noise a_0 to an action a_1."""

    kind = FLOW

    def __init__(self, observation_size: int, chunk_size: int, hidden_dim: int, num_layers: int,
                 activation: str, steps: int) -> None:
        super().__init__(observation_size, chunk_size, hidden_dim, num_layers, activation)
        self.steps = steps

    @property
    def options(self) -> dict[str, float | str]:
        """Euler steps with which it acts."""
        return {"flow_steps": self.steps}

    def forward(self, observations: Tensor, chunks: Tensor, times: Tensor) -> Tensor:
        """Return velocities (B, C) for (B, O), (B, C) and flow times (B, 1) in [0, 1]."""
        with self.products(chunks.device):
            return super().forward(observations, chunks, times)

    def losses(self, observations: Tensor, chunks: Tensor, generator: torch.Generator,
               valid: Tensor | None = None) -> Tensor:
        """Return the flow loss of each chunk, (B,), with fresh noise and times."""
        return flow_losses(self, observations, chunks, FlowNoise.draw(chunks, generator), valid)

    def sample(self, observations: Tensor, count: int, generator: torch.Generator,
               steps: int = 0) -> Tensor:
        """Return ``count`` chunks a state, (B, N, C), from fresh noise."""
        size = (len(observations), count, self.chunk_size)
        return self.carry(observations, normal(size, generator, observations.device), steps)

    @torch.no_grad()
    def carry(self, observations: Tensor, noise: Tensor, steps: int = 0) -> Tensor:
        """Return chunks (B, N, C) in [-1, 1] for (B, O) and noise a_0 (B, N, C).

        ``steps`` Euler steps of a <- a + v / steps.
        """
        steps = steps or self.steps
        if self.whole or noise.device.type != "cpu":
            return self._carry_whole(observations, noise, steps)

        def euler(index: int, block: Tensor, velocities: Tensor) -> None:
            block.add_(velocities, alpha=1.0 / steps)

        times = [index / steps for index in range(steps)]
        return self.walk(observations, noise, times, euler).clamp_(-1.0, 1.0)

    def _carry_whole(self, observations: Tensor, noise: Tensor, steps: int) -> Tensor:
        dtype = self.product_dtype or noise.dtype
        first, *behind = [(layer.weight.to(dtype), layer.bias.to(dtype))
                          for layer in linear_layers(self.layers)]
        sizes = self.observation_size, noise.shape[2], 1
        w_observation, w_chunk, w_time = first[0].split(sizes, dim=1)
        fixed = F.linear(observations.to(dtype), w_observation, first[1])
        moved = noise
        for index in range(steps):
            base = fixed + w_time.t() * (index / steps)
            moved = self._euler_step(moved, base, w_chunk, behind, 1.0 / steps)
        return moved.clamp(-1.0, 1.0)

    def _euler_step(self, moved: Tensor, base: Tensor, w_chunk: Tensor,
                    behind: list[tuple[Tensor, Tensor]], share: float) -> Tensor:
        """Return chunks (B, N, C) one step on.

        ``base`` (B, width) is what observation and time give to the first layer, ``behind`` are
        weight and bias of the others.
        """
        x = F.linear(moved.to(base.dtype), w_chunk) + base.unsqueeze(1)
        for weight, bias in behind:
            x = F.linear(activate(x, self.activation, in_place=True), weight, bias)
        return moved + share * x

    def fuse(self, compiled: Fuse) -> None:
        """Have the element-wise work of training and of an Euler step compiled."""
        self.forward = compiled(self.forward)  # type: ignore[method-assign]
        self._euler_step = compiled(self._euler_step)  # type: ignore[method-assign]


def flow_losses(field: FlowField, observations: Tensor, a_1: Tensor, noise: FlowNoise,
                valid: Tensor | None = None) -> Tensor:
    """Return the flow loss of each chunk, (B,), for observations (B, O) and a_1 (B, C).

    ``valid`` (B, C) in {0, 1} leaves entries out of the mean; None takes all.
    """
    a_m = torch.lerp(noise.a_0, a_1, noise.times)
    squared = (field(observations, a_m, noise.times) - (a_1 - noise.a_0)).square()
    return masked_mean(squared, valid)
