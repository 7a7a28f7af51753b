"""DPPO (arXiv 2409.00588), on a flow: PPO over every step from noise to a chunk.

Each step has a ratio of its own. The clip is tight where the chain begins and wider towards the
chunk, and early steps have less of the advantage::

    clip_k     = base + (clip - base) (e^{rate k / (K-1)} - 1) / (e^rate - 1)
    discount_k = denoising_gamma^{K-1-k}

The noise has one deviation for all, that below which the publication never lets its own sampler
go.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from poco_ros.learning.agents.ppo import PPO
from poco_ros.learning.config import DPPOConfig


class DPPO(PPO):
    """See the module."""

    config: DPPOConfig

    def noise_options(self) -> dict[str, float]:
        """The deviation."""
        return {"noise_std": self.config.noise_std}

    def log_std(self, observations: Tensor, times: Tensor) -> Tensor:
        """The logarithm of ``noise_std``, (1,)."""
        return times.new_full((1,), math.log(self.config.noise_std))

    def factors(self, log_ratios: Tensor) -> Tensor:
        """Every step for itself."""
        return log_ratios

    @property
    def clips(self) -> Tensor:
        """Growing along the chain, (K,)."""
        config, steps = self.config, self.config.flow_steps
        if steps == 1:
            return torch.tensor([config.clip], device=self.device)
        place = torch.arange(steps, device=self.device) / (steps - 1)
        grown = torch.expm1(config.clip_rate * place) / math.expm1(config.clip_rate)
        return config.clip_base + (config.clip - config.clip_base) * grown

    @property
    def discounts(self) -> Tensor:
        """``denoising_gamma`` for each step that lies between this one and the chunk, (K,)."""
        left = torch.arange(self.config.flow_steps - 1, -1, -1, device=self.device)
        return self.config.denoising_gamma ** left
