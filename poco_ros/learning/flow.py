"""Flow matching on chunks.

With noise a_0 ~ N(0, I), action a_1 and flow time m ~ U(0, 1) the path is
``a_m = (1 - m) a_0 + m a_1``, its velocity ``a_1 - a_0``, and the loss of one chunk is the mean
over its valid entries of ``(v(s, a_m, m) - (a_1 - a_0))^2``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poco_ros.learning.networks import FlowField


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


def normal(shape: tuple[int, ...] | torch.Size, generator: torch.Generator,
           device: torch.device) -> Tensor:
    """Return standard normal noise from ``generator``."""
    return torch.randn(shape, generator=generator, device=device)


def flow_losses(field: FlowField, observations: Tensor, a_1: Tensor, noise: FlowNoise,
                valid: Tensor | None = None) -> Tensor:
    """Return the flow loss of each chunk, (B,), for observations (B, O) and a_1 (B, C).

    ``valid`` (B, C) in {0, 1} leaves entries out of the mean; None takes all.
    """
    a_m = torch.lerp(noise.a_0, a_1, noise.times)
    squared = (field(observations, a_m, noise.times) - (a_1 - noise.a_0)).square()
    if valid is None:
        return squared.mean(dim=1)
    return (squared * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1.0)
