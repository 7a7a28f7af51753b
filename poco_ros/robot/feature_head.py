"""How a feature map becomes a vector: the mean, a coarse grid, or where each channel looks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poco_ros.robot.vision_config import HeadConfig


class FeatureHead(nn.Module):
    """(B, C, S, S) to (B, F)."""

    grid_x: Tensor
    grid_y: Tensor

    def __init__(self, config: HeadConfig, channels: int, size: int) -> None:
        """Build for a map of ``channels`` × ``size`` × ``size``."""
        super().__init__()
        self.config = config
        reduced = min(config.channels, channels)
        if reduced:
            # A rotation keeps distances; the same seed everywhere keeps features comparable.
            generator = torch.Generator().manual_seed(0)
            rotation, _ = torch.linalg.qr(torch.randn(channels, channels, generator=generator))
            self.mixing: nn.Parameter | None = nn.Parameter(rotation[:, :reduced].T.contiguous())
        else:
            self.mixing = None
        self._channels = reduced or channels
        self._cells = min(config.grid, size)
        line = torch.linspace(-1.0, 1.0, size)
        self.register_buffer("grid_x", line.repeat(size), persistent=False)
        self.register_buffer("grid_y", line.repeat_interleave(size), persistent=False)

    @property
    def feature_dim(self) -> int:
        """F, values of a feature vector."""
        per_channel = {"mean": 1, "grid": self._cells**2, "spatial_softmax": 2}
        return self._channels * per_channel[self.config.kind]

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return the features (B, F) of ``feature_map`` (B, C, S, S)."""
        kind = self.config.kind
        if kind == "mean":
            feature_map = feature_map.mean((2, 3), keepdim=True)
        elif kind == "grid":
            feature_map = nn.functional.adaptive_avg_pool2d(feature_map, self._cells)
        flat = feature_map.flatten(2)
        if self.mixing is not None:
            flat = torch.einsum("kc,bcs->bks", self.mixing, flat)
        if kind != "spatial_softmax":
            return flat.flatten(1)
        weights = torch.softmax(flat / self.config.temperature, dim=-1)
        return torch.cat([(weights * self.grid_x).sum(-1), (weights * self.grid_y).sum(-1)], dim=1)
