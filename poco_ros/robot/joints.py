"""Joints are known by name: what a person writes per joint becomes an array here, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from poco_ros.core.errors import ConfigError, DataError


def in_order(values: Mapping[str, float], joint_names: Sequence[str], what: str) -> np.ndarray:
    """Return the values by name as an array in the order of ``joint_names``, (J,) float64.

    Raises:
        ConfigError: a joint is missing, unknown or not finite; ``what`` and the joint are named.
    """
    missing = [name for name in joint_names if name not in values]
    unknown = [name for name in values if name not in joint_names]
    if missing or unknown:
        raise ConfigError(f"{what}: missing joints {missing}, unknown joints {unknown}; expected"
                          f" exactly {list(joint_names)}")
    array = np.array([values[name] for name in joint_names], np.float64)
    if not np.isfinite(array).all():
        raise ConfigError(f"{what}: {dict(values)} is not finite")
    return array


def reorder(names: Sequence[str], values: Sequence[float] | np.ndarray,
            joint_names: Sequence[str]) -> np.ndarray:
    """Return ``values``, given in the order of ``names``, in the order of ``joint_names``.

    Raises:
        DataError: a joint is missing, named twice or unknown, or the lengths differ.
    """
    if len(names) != len(values):
        raise DataError(f"{len(values)} joint values beside {len(names)} names {list(names)}")
    if sorted(names) != sorted(joint_names):
        raise DataError(f"joint names {list(names)}, expected exactly {list(joint_names)}")
    by_name = dict(zip(names, values, strict=True))
    return np.array([by_name[name] for name in joint_names], np.float64)
