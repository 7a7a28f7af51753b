"""Flow matching on chunks.

With noise a_0 ~ N(0, I), action a_1 and flow time m ~ U(0, 1) the path is
``a_m = (1 - m) a_0 + m a_1``, its velocity ``a_1 - a_0``, and the loss of one chunk is the mean
over its valid entries of ``(v(s, a_m, m) - (a_1 - a_0))^2``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poco_ros.learning.config import FLOW
from poco_ros.learning.generative import GenerativePolicy, masked_mean, normal
from poco_ros.learning.networks import ChunkField, Fuse


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

    def losses(self, observations: Tensor, chunks: Tensor, generator: torch.Generator,
               valid: Tensor | None = None) -> Tensor:
        """Return the flow loss of each chunk, (B,), with fresh noise and times."""
        noise = FlowNoise.draw(chunks, generator)
        return self._losses(observations, chunks, noise.a_0, noise.times, valid)

    def _losses(self, observations: Tensor, a_1: Tensor, a_0: Tensor, times: Tensor,
                valid: Tensor | None) -> Tensor:
        return flow_losses(self, observations, a_1, FlowNoise(a_0, times), valid)

    def fuse(self, compiled: Fuse) -> None:
        """Have the element-wise work of the loss compiled too."""
        super().fuse(compiled)
        self._losses = compiled(self._losses)  # type: ignore[method-assign]

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

        def euler(index: int, block: Tensor, velocities: Tensor) -> None:
            block.add_(velocities, alpha=1.0 / steps)

        times = [index / steps for index in range(steps)]
        return self.walk(observations, noise, times, euler).clamp_(-1.0, 1.0)


def flow_losses(field: FlowField, observations: Tensor, a_1: Tensor, noise: FlowNoise,
                valid: Tensor | None = None) -> Tensor:
    """Return the flow loss of each chunk, (B,), for observations (B, O) and a_1 (B, C).

    ``valid`` (B, C) in {0, 1} leaves entries out of the mean; None takes all.
    """
    a_m = torch.lerp(noise.a_0, a_1, noise.times)
    squared = (field(observations, a_m, noise.times) - (a_1 - noise.a_0)).square()
    return masked_mean(squared, valid)
