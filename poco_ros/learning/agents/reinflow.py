"""ReinFlow (arXiv 2505.22094): PPO over a flow whose noise is learned beside it.

A network gives the deviation of every entry, its logarithm kept within bounds::

    log std(s, m) = middle + reach tanh(noise(s, m)),   exp of it in [noise_min, noise_max]

The whole way from noise to a chunk has one ratio, that of the mean log-probability of its steps.
An entropy bonus keeps the noise from shrinking. Judged, the policy is the flow without noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from poco_ros.learning.agents.ppo import LOG_2_PI, PPO
from poco_ros.learning.config import ReinFlowConfig
from poco_ros.learning.networks import Mlp


class ReinFlow(PPO):
    """See the module."""

    config: ReinFlowConfig
    METRICS = (*PPO.METRICS, "reinflow/noise_std", "reinflow/entropy")

    def build_noise(self) -> None:
        """Add the network of the noise."""
        config = self.config
        self.noise = Mlp(self.inputs + 1, config.noise_hidden_dim,
                         config.noise_layers, self.chunk_size, config.activation).to(self.device)

    def modules(self) -> dict[str, nn.Module]:
        """Add the noise."""
        return super().modules() | {"noise": self.noise}

    def acting_modules(self) -> dict[str, nn.Module]:
        """The flow and the noise."""
        return {"actor": self.actor, "noise": self.noise}

    def noise_options(self) -> dict[str, float]:
        """Bounds and size."""
        config = self.config
        return {"noise_min": config.noise_min, "noise_max": config.noise_max,
                "noise_hidden_dim": config.noise_hidden_dim, "noise_layers": config.noise_layers}

    def log_std(self, observations: Tensor, times: Tensor) -> Tensor:
        """The network's, within the bounds, (B, C)."""
        low, high = math.log(self.config.noise_min), math.log(self.config.noise_max)
        squashed = self.noise(observations, times).tanh()
        return (low + high) / 2 + (high - low) / 2 * squashed

    def factors(self, log_ratios: Tensor) -> Tensor:
        """One ratio for the way, (B, 1)."""
        return log_ratios.mean(dim=1, keepdim=True)

    @property
    def clips(self) -> Tensor:
        """The same for all, (1,)."""
        return torch.tensor([self.config.clip], device=self.device)

    @property
    def discounts(self) -> Tensor:
        """None, (1,)."""
        return torch.ones(1, device=self.device)

    def extra_loss(self, log_std: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Minus the weighted entropy of an entry of a step."""
        entropy = 0.5 * (1.0 + LOG_2_PI) + log_std.mean()
        return -self.config.entropy_weight * entropy, {
            "reinflow/entropy": entropy.detach(),
            "reinflow/noise_std": log_std.detach().exp().mean()}
