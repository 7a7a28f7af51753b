"""ResNet-10 with group normalisation, in the published layout of SERL and HIL-SERL.

Module names are the published parameter names, so ``ResNetBlock_1/conv_proj/kernel`` there is
``ResNetBlock_1.conv_proj.weight`` here. Kernels there are (height, width, in, out), here (out, in,
height, width). 4,905,792 parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (64, 128, 256, 512)
"""Channels of the four blocks."""
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_GROUPS = 4


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_GROUPS, channels, eps=1e-5)


def _same(x: Tensor, value: float = 0.0) -> Tensor:
    """Pad as "SAME" does for a 3 × 3 window with stride 2 on an even size: behind only."""
    return functional.pad(x, (0, 1, 0, 1), value=value)


class ResNetBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut; the first and the shortcut may have stride 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self._stride = stride
        first = nn.Conv2d(inputs, outputs, 3, stride, padding=1 if stride == 1 else 0, bias=False)
        self.add_module("Conv_0", first)
        self.add_module("MyGroupNorm_0", _norm(outputs))
        self.add_module("Conv_1", nn.Conv2d(outputs, outputs, 3, 1, padding=1, bias=False))
        self.add_module("MyGroupNorm_1", _norm(outputs))
        self._projects = stride != 1 or inputs != outputs
        if self._projects:
            self.conv_proj = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.norm_proj = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H / stride, W / stride) for ``x`` (B, inputs, H, W)."""
        y = self.get_submodule("Conv_0")(x if self._stride == 1 else _same(x))
        y = functional.relu(self.get_submodule("MyGroupNorm_0")(y))
        y = self.get_submodule("MyGroupNorm_1")(self.get_submodule("Conv_1")(y))
        if self._projects:
            x = self.norm_proj(self.conv_proj(x))
        return functional.relu(x + y)


class ResNet10(nn.Module):
    """Pictures to the feature map of one of the four blocks."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, block: int = 3) -> None:
        """Build; ``block`` (0 to 3) is the last block that is run, all four have parameters."""
        super().__init__()
        if not 0 <= block < len(WIDTHS):
            raise ValueError(f"block {block}: expected 0 to {len(WIDTHS) - 1}")
        self.block = block
        self.conv_init = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.norm_init = _norm(64)
        inputs = 64
        for index, width in enumerate(WIDTHS):
            self.add_module(f"ResNetBlock_{index}",
                            ResNetBlock(inputs, width, 1 if index == 0 else 2))
            inputs = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1) * 255.0,
                             persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1) * 255.0,
                             persistent=False)

    def map_shape(self, image_size: int) -> tuple[int, int]:
        """Return channels and edge of the feature map for pictures of ``image_size`` [px]."""
        return WIDTHS[self.block], image_size // (4 << self.block)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the feature map (B, C, S, S).

        Args:
            pictures: (B, 3, H, W), RGB, 0 to 255, any type; H and W are multiples of 32.
        """
        x = (pictures.float() - self.mean) / self.deviation
        x = functional.relu(self.norm_init(self.conv_init(x)))
        x = functional.max_pool2d(_same(x, float("-inf")), 3, 2)
        for index in range(self.block + 1):
            x = self.get_submodule(f"ResNetBlock_{index}")(x)
        return x
