"""Which head sees best: the linear probe's error for each way from feature map to features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from poco_ros.robot.encoder import Encoder
from poco_ros.robot.linear_probe import ProbeResult, probe
from poco_ros.robot.vision_config import EncoderConfig, HeadConfig

CANDIDATES = (
    HeadConfig(kind="mean", block=3, channels=0),
    HeadConfig(kind="grid", block=3, channels=32, grid=4),
    HeadConfig(kind="spatial_softmax", block=3, channels=0),
    HeadConfig(kind="mean", block=2, channels=0),
    HeadConfig(kind="grid", block=2, channels=32, grid=4),
    HeadConfig(kind="grid", block=2, channels=16, grid=8),
    HeadConfig(kind="spatial_softmax", block=2, channels=0),
)
"""Heads that are worth comparing."""
_BATCH = 64


@dataclass(frozen=True)
class HeadReport:
    """What one head's features know."""

    head: HeadConfig
    feature_dim: int
    result: ProbeResult


def compare_heads(weights: str, pictures: np.ndarray, targets: np.ndarray,
                  groups: np.ndarray | None = None, heads: Sequence[HeadConfig] = CANDIDATES
                  ) -> list[HeadReport]:
    """Probe every head on the same pictures; the best is first.

    Args:
        weights: file of encoder weights; empty = random ones.
        pictures: (N, H, W, 3) uint8 RGB of one camera, none of which the weights were fitted to.
        targets: (N, S) what is to be known, such as the object's position [m].
        groups: (N,) episode of each picture.
        heads: the heads to compare; the one that the weights were fitted with is always added.

    Raises:
        CheckpointError: the weights cannot be used.
        DataError: pictures and targets do not fit together.
    """
    fitted = Encoder(EncoderConfig(weights=weights)).head_config
    reports = []
    for head in dict.fromkeys((fitted, *heads)):
        encoder = Encoder(EncoderConfig(weights=weights, head=head))
        features = np.concatenate([encoder.encode(list(pictures[first:first + _BATCH]))
                                   for first in range(0, len(pictures), _BATCH)])
        reports.append(HeadReport(head, encoder.feature_dim, probe(features, targets, groups)))
    return sorted(reports, key=lambda report: report.result.median_error)


def table(reports: Sequence[HeadReport]) -> str:
    """Return the reports as a table in plain text, errors in thousandths of the targets' unit."""
    lines = ["head             block  channels  grid  values  median  mean error  explained"]
    for report in reports:
        head, result = report.head, report.result
        grid = str(head.grid) if head.kind == "grid" else "-"
        lines.append(f"{head.kind:<16} {head.block:>5}  {head.channels or 'all':>8}  {grid:>4}"
                     f"  {report.feature_dim:>6}  {result.median_error * 1e3:>6.1f}"
                     f"  {result.mean_error * 1e3:>10.1f}  {result.explained:>9.1%}")
    chance = reports[0].result.chance_error * 1e3 if reports else 0.0
    lines.append(f"without looking: {chance:.1f}")
    return "\n".join(lines)
