"""Policies that act, by kind. numpy only. See ``base`` for the contract."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from poco_ros.core.episode import safetensors_metadata
from poco_ros.core.errors import CheckpointError, DataError
from poco_ros.learning.policies.base import (
    EVALUATE,
    EXPLORE,
    FORMAT,
    RANDOM,
    Policy,
    PolicySpec,
    Signature,
)
from poco_ros.learning.policies.best_of_n import BestOfN
from poco_ros.learning.policies.consistency import ConsistencyPolicy
from poco_ros.learning.policies.diffusion import DiffusionPolicy
from poco_ros.learning.policies.flow import FlowPolicy, OneStep
from poco_ros.learning.policies.gaussian import Gaussian, SteeredFlow
from poco_ros.learning.policies.noisy_flow import NoisyFlow

POLICIES: dict[str, type[Policy]] = {
    cls.kind: cls for cls in (FlowPolicy, DiffusionPolicy, ConsistencyPolicy, BestOfN, OneStep,
                              Gaussian, SteeredFlow, NoisyFlow)}


def make_policy(spec: PolicySpec, tensors: Mapping[str, np.ndarray], version: int = 0,
                mode: str = EVALUATE, source: str = "policy") -> Policy:
    """Return the policy of ``spec.kind``.

    Raises:
        CheckpointError: an unknown kind, or as :class:`Policy`.
    """
    if spec.kind not in POLICIES:
        raise CheckpointError(f"{source}: kind {spec.kind!r} is not one of {', '.join(POLICIES)}")
    return POLICIES[spec.kind](spec, tensors, version, mode, source)


def policy_from_bytes(content: bytes, source: str = "policy") -> Policy:
    """Read :meth:`Policy.to_bytes` back.

    Raises:
        CheckpointError: truncated, foreign, of inconsistent shapes or not finite; ``source`` is
            named.
    """
    try:
        tensors = load_tensors(content)
        words = json.loads(safetensors_metadata(content)["policy"])
        if words["format"] != FORMAT:
            raise CheckpointError(f"{source}: format {words['format']!r}, expected {FORMAT}")
        spec, version = PolicySpec.from_json(words["spec"]), int(words["version"])
        mode = str(words["mode"])
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, AttributeError,
            DataError) as error:
        raise CheckpointError(
            f"{source}: not a policy file, or truncated ({error}); expected safetensors"
            " written by poco_ros") from error
    return make_policy(spec, tensors, version, mode, source)


__all__ = ["EVALUATE", "EXPLORE", "POLICIES", "RANDOM", "FlowPolicy", "Policy", "PolicySpec",
           "Signature", "make_policy", "policy_from_bytes"]
