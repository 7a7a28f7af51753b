"""What observations are turned into before networks see them, learned from the demonstrations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from poco_ros.core.observation import ObservationLayout

MINIMUM_STD = 1e-4
"""What varies less than this in the demonstrations is left unscaled."""
PREFIX = "normalizer."
"""Of its tensors in a policy and in a checkpoint."""


class Normalizer:
    """x = (s - mean) / std, and with ``components`` (O, I) x = ((s - mean) / std) @ components.

    Its tensors stay where they are in memory, for an update that was captured as a graph.
    """

    def __init__(self, layout: ObservationLayout, components: int = 0,
                 device: torch.device | str = "cpu") -> None:
        """Change nothing yet, or with ``components`` take the first entries of each part."""
        self.layout, self.count = layout, components
        size = layout.size
        self.mean = torch.zeros(size, device=device)
        self.std = torch.ones(size, device=device)
        self.components: Tensor | None = None
        if components:
            self.components = torch.from_numpy(_blocks(layout, components, {})).to(device)

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.mean.device

    def __call__(self, observations: Tensor) -> Tensor:
        """Return (..., I) for observations (..., O)."""
        scaled = (observations - self.mean) / self.std
        return scaled if self.components is None else scaled @ self.components

    def tensors(self) -> dict[str, Tensor]:
        """Return its tensors by their names in a file."""
        found = {f"{PREFIX}mean": self.mean, f"{PREFIX}std": self.std}
        if self.components is not None:
            found[f"{PREFIX}components"] = self.components
        return found

    def take(self, tensors: Mapping[str, Tensor] | Mapping[str, np.ndarray]) -> None:
        """Take over :meth:`tensors` of another; whatever else there is, is left alone."""
        for name, own in self.tensors().items():
            own.copy_(torch.as_tensor(tensors[name], dtype=torch.float32))

    def learn(self, rows: np.ndarray, scale: bool) -> None:
        """Learn from observations (n, O).

        Args:
            rows: of the demonstrations.
            scale: whether entries are scaled to mean 0 and deviation 1. The principal components
                of a part always are, by one factor for all of them.
        """
        mean, std = np.zeros(self.layout.size), np.ones(self.layout.size)
        if scale:
            mean, std = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
            std = np.where(std < MINIMUM_STD, 1.0, std)
        blocks: dict[str, np.ndarray] = {}
        first = 0
        for name, size in self.layout.parts:
            part = slice(first, first + size)
            first += size
            if self.count and size > self.count:
                mean[part], std[part] = rows[:, part].mean(axis=0, dtype=np.float64), 1.0
                blocks[name] = principal_components(rows[:, part] - mean[part], self.count)
        found = {f"{PREFIX}mean": mean, f"{PREFIX}std": std}
        if self.count:
            found[f"{PREFIX}components"] = _blocks(self.layout, self.count, blocks)
        self.take(found)


def principal_components(centred: np.ndarray, count: int) -> np.ndarray:
    """Return (D, count): directions of the largest variance of rows (n, D), largest first.

    All are scaled alike, so that their mean variance is 1 and the noise in the last ones stays as
    small as it is beside the first. The entry of largest magnitude of each is positive.
    """
    variances, directions = np.linalg.eigh(centred.T.astype(np.float64) @ centred / len(centred))
    variances, directions = variances[::-1][:count], directions[:, ::-1][:, :count]
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(count)])
    deviation = np.sqrt(max(variances.mean(), 0.0))
    return directions / (deviation if deviation >= MINIMUM_STD else 1.0)


def _blocks(layout: ObservationLayout, count: int, blocks: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return (O, I): for each part its block, or the identity, along the diagonal."""
    found = np.zeros((layout.size, layout.reduced(count).size), np.float32)
    row = column = 0
    for (name, size), (_, kept) in zip(layout.parts, layout.reduced(count).parts, strict=True):
        block = blocks[name] if name in blocks else np.eye(size, kept)
        found[row:row + size, column:column + kept] = block
        row, column = row + size, column + kept
    return found
