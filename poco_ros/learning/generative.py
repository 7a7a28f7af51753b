"""What POCO asks of a policy: samples, and a supervised loss a sample. Nothing else.

No likelihood, no score, no gradient through the sampler: a flow (``flow``), a diffusion model
(``diffusion``) or a consistency model (``consistency``) is one class with these two methods.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import ClassVar

import torch
from torch import Tensor, nn


def normal(shape: tuple[int, ...] | torch.Size, generator: torch.Generator,
           device: torch.device) -> Tensor:
    """Return standard normal noise from ``generator``."""
    return torch.randn(shape, generator=generator, device=device)


class GenerativePolicy(nn.Module, ABC):
    """A distribution over flat chunks (C,) given a normalised observation (O,)."""

    whole = False
    """Whether samples are made in one big batch: always on a GPU, elsewhere where set."""
    product_dtype: torch.dtype | None = None
    """Type in which the network's products are done; None = that of its weights, float32."""

    def products(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which the network is to run for :attr:`product_dtype`."""
        if self.product_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(device.type, self.product_dtype, cache_enabled=False)
    kind: ClassVar[str]
    """Of what a policy that acts with one sample is called; see ``learning.policies``."""

    @property
    @abstractmethod
    def options(self) -> dict[str, float | str]:
        """What that policy must know besides the weights; see ``PolicySpec.options``."""

    @abstractmethod
    def sample(self, observations: Tensor, count: int, generator: torch.Generator,
               steps: int = 0) -> Tensor:
        """Return ``count`` chunks a state, (B, N, C) in [-1, 1], for (B, O); no gradient.

        ``steps`` of the sampler; 0 = as many as it acts with.
        """

    @abstractmethod
    def losses(self, observations: Tensor, chunks: Tensor, generator: torch.Generator,
               valid: Tensor | None = None) -> Tensor:
        """Return the supervised loss of each chunk, (B,), for (B, O) and (B, C).

        A mean over the entries for which ``valid`` (B, C) is 1; None takes all.
        """


def masked_mean(squared: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean (B,) of (B, C) over the entries for which ``valid`` (B, C) is 1."""
    if valid is None:
        return squared.mean(dim=1)
    return (squared * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1.0)
