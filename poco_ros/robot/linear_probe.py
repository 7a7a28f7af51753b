"""What features know: how well a linear readout tells, say, where the cube is.

The head of the encoder is chosen by this number, not by taste.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poco_ros.core.errors import DataError

_REGULARISATION = tuple(10.0**power for power in range(-4, 5))
_BLOCKS = 10


@dataclass(frozen=True)
class ProbeResult:
    """Errors of the best linear readout on pictures that it has not seen."""

    median_error: float
    """Median Euclidean distance to the truth, in the unit of the targets."""
    mean_error: float
    """Mean Euclidean distance to the truth, in the unit of the targets."""
    chance_error: float
    """Median distance when the mean of the targets is always answered."""
    explained: float
    """Share of the targets' variance that is explained, R²; 1 = all, 0 = none."""
    held_out: int
    """Pictures that the errors are measured on."""


def probe(features: np.ndarray, targets: np.ndarray, groups: np.ndarray | None = None
          ) -> ProbeResult:
    """Fit a ridge regression from features to targets and measure it on what it has not seen.

    Neighbouring pictures are almost equal, so whole groups are held out: one fifth for the errors,
    one fifth of the rest to choose the regularisation.

    Args:
        features: (N, F).
        targets: (N, S), such as positions [m].
        groups: (N,) episode of each picture; None = ten blocks in the given order.

    Raises:
        DataError: shapes do not fit together, a value is not finite, or there are too few groups.
    """
    features, targets = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets):
        raise DataError(f"features {features.shape} and targets {targets.shape}: expected (N, F)"
                        " and (N, S)")
    if not (np.isfinite(features).all() and np.isfinite(targets).all()):
        raise DataError("features or targets are not finite")
    if groups is None:
        groups = np.arange(len(features)) * _BLOCKS // len(features)
    names = np.random.default_rng(0).permutation(np.unique(groups))
    if len(names) < 5:
        raise DataError(f"{len(names)} episodes are too few to hold some out; give 5 at least")
    fifth = max(1, len(names) // 5)
    test, choose, train = (np.isin(groups, part) for part in
                           (names[:fifth], names[fifth:2 * fifth], names[2 * fifth:]))
    chosen = min(_REGULARISATION, key=lambda strength: _errors(
        features, targets, train, choose, strength).mean())
    errors = _errors(features, targets, train | choose, test, chosen)
    deviation = targets[test] - targets[train | choose].mean(axis=0)
    chance = np.linalg.norm(deviation, axis=1)
    unexplained = float((errors**2).sum() / max((chance**2).sum(), 1e-30))
    return ProbeResult(float(np.median(errors)), float(errors.mean()), float(np.median(chance)),
                       1.0 - unexplained, int(test.sum()))


def _errors(features: np.ndarray, targets: np.ndarray, train: np.ndarray, test: np.ndarray,
            strength: float) -> np.ndarray:
    """Return the distance to the truth of each held-out picture, (M,)."""
    centre, spread = features[train].mean(axis=0), features[train].std(axis=0) + 1e-8
    inputs = (features - centre) / spread
    origin = targets[train].mean(axis=0)
    x, y = inputs[train], targets[train] - origin
    if len(x) >= x.shape[1]:
        gram = x.T @ x + strength * len(x) * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, x.T @ y)
    else:  # fewer pictures than features: the same solution by the smaller system
        gram = x @ x.T + strength * len(x) * np.eye(len(x))
        weights = x.T @ np.linalg.solve(gram, y)
    return np.linalg.norm(inputs[test] @ weights + origin - targets[test], axis=1)
