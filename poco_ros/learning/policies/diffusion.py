"""Diffusion policies: the noise schedule, and the way from noise to a chunk in few steps.

The schedule is the cosine one (arXiv 2102.09672) in T steps; a_t = sqrt(abar_t) a + sqrt(1 -
abar_t) e. Sampling visits K of the T steps. Going from t to u < t, with the network's guess of the
noise, it guesses the clean chunk, keeps that in [-1, 1], and mixes::

    a   = clip((a_t - sqrt(1 - abar_t) e(s, a_t, t)) / sqrt(abar_t))
    a_u = sqrt(abar_u) a + sqrt(1 - abar_u - sigma^2) e' + sigma z,   e' from a_t and a

sigma is 0 for DDIM (arXiv 2010.02502) and that of the posterior for DDPM (arXiv 2006.11239).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from poco_ros.learning.config import DIFFUSION
from poco_ros.learning.policies.base import PolicySpec, Shapes
from poco_ros.learning.policies.sampling import (
    OneSample,
    Sampler,
    draw_noise,
    field_of,
    field_shapes,
)

OFFSET = 0.008
"""Keeps the first steps of the cosine schedule from being too small."""
MAX_BETA = 0.999


def alpha_bars(steps: int) -> np.ndarray:
    """Return abar_t for t = 0..T, (T+1,) float64: the share of the signal that is left, squared.

    abar_0 is 1: no noise.
    """
    angles = (np.arange(steps + 1) / steps + OFFSET) / (1.0 + OFFSET) * np.pi / 2.0
    left = np.cos(angles) ** 2
    betas = np.minimum(1.0 - left[1:] / left[:-1], MAX_BETA)
    return np.concatenate([[1.0], np.cumprod(1.0 - betas)])


@dataclass(frozen=True)
class DenoisingStep:
    """a_u = keep a_t + clean a + sigma z, with a = clip(signal a_t - noise e(s, a_t, time))."""

    time: float
    """t / T, what the network is told."""
    signal: float
    noise: float
    keep: float
    clean: float
    sigma: float
    """0 for DDIM, and in the last step."""


def denoising_steps(training_steps: int, count: int, stochastic: bool) -> list[DenoisingStep]:
    """Return ``count`` steps from noise to a chunk, evenly spaced over ``training_steps``."""
    abar = alpha_bars(training_steps)
    count = min(count, training_steps)
    visited = [index * training_steps // count + 1 for index in reversed(range(count))] + [0]
    steps = []
    for t, u in pairwise(visited):
        now, then = float(abar[t]), float(abar[u])
        variance = (1.0 - then) / (1.0 - now) * (1.0 - now / then) if stochastic else 0.0
        keep = math.sqrt((1.0 - then - variance) / (1.0 - now))
        steps.append(DenoisingStep(
            t / training_steps, 1.0 / math.sqrt(now), math.sqrt((1.0 - now) / now), keep,
            math.sqrt(then) - keep * math.sqrt(now), math.sqrt(variance)))
    return steps


class DiffusionSampler(Sampler):
    """The way of :func:`denoising_steps`. Drawn are the first noise, then that of each step."""

    def __init__(self, spec: PolicySpec, tensors: dict[str, np.ndarray]) -> None:
        super().__init__(spec, tensors)
        self._field = field_of(spec, tensors, "actor")
        steps = denoising_steps(spec.option("diffusion_steps"), spec.option("flow_steps"),
                                spec.options.get("diffusion_sampler") == "ddpm")
        times = np.array([[step.time] for step in steps], np.float32)
        self._steps = list(zip(steps, self._field.part(2, times), strict=True))

    @classmethod
    def shapes(cls, spec: PolicySpec) -> Shapes:
        """The network that guesses the noise, ``actor``."""
        return field_shapes(spec, "actor")

    def sample(self, observation: np.ndarray, generator: np.random.Generator,
               *count: int) -> np.ndarray:
        """Denoise fresh noise."""
        field, chunk = self._field, draw_noise(self.spec, generator, *count)
        fixed = field.fixed(observation)
        for step, time in self._steps:
            guess = field.behind(fixed + field.part(1, chunk) + time)
            clean = np.clip(np.float32(step.signal) * chunk - np.float32(step.noise) * guess,
                            -1.0, 1.0)
            chunk = np.float32(step.keep) * chunk + np.float32(step.clean) * clean
            if step.sigma:
                chunk = chunk + np.float32(step.sigma) * draw_noise(self.spec, generator, *count)
        return np.clip(chunk, -1.0, 1.0)


class DiffusionPolicy(OneSample):
    """One sample of a diffusion model."""

    kind = DIFFUSION
    SAMPLER = DiffusionSampler
