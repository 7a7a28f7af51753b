"""Consistency policies: a jump from noise to a chunk, and jumps from where noise is put in again.

The network F gives the jump f(s, a, m) = a + (1 - m) F(s, a, m) from a point on the way at flow
time m to its end. A further jump begins on the straight way from fresh noise to the chunk found so
far, the later ones nearer to its end: they take away what the first, long one left blurred.
"""

from __future__ import annotations

import numpy as np

from poco_ros.learning.config import CONSISTENCY
from poco_ros.learning.policies.base import PolicySpec, Shapes
from poco_ros.learning.policies.sampling import (
    OneSample,
    Sampler,
    draw_noise,
    field_of,
    field_shapes,
)


def jump_times(jumps: int) -> list[float]:
    """Return the flow times at which ``jumps`` jumps begin: 0, then denser towards 1."""
    return [1.0 - (1.0 - index / jumps) ** 2 for index in range(jumps)]


class ConsistencySampler(Sampler):
    """Jumps. Drawn are the first noise, then that of each further jump."""

    def __init__(self, spec: PolicySpec, tensors: dict[str, np.ndarray]) -> None:
        super().__init__(spec, tensors)
        self._times = jump_times(spec.option("consistency_steps"))
        self._field = field_of(spec, tensors, "actor.student")

    @classmethod
    def shapes(cls, spec: PolicySpec) -> Shapes:
        """The network F ``actor.student``, and the flow ``actor.teacher`` that learning needs."""
        return field_shapes(spec, "actor.student") | field_shapes(spec, "actor.teacher")

    def sample(self, observation: np.ndarray, generator: np.random.Generator,
               *count: int) -> np.ndarray:
        """Jump from fresh noise."""
        field, chunk = self._field, draw_noise(self.spec, generator, *count)
        fixed = field.fixed(observation)
        for time in self._times:
            m = np.array([time], np.float32)
            if time:
                chunk = (1 - m) * draw_noise(self.spec, generator, *count) + m * chunk
            guess = field.behind(fixed + field.part(1, chunk) + field.part(2, m))
            chunk = np.clip(chunk + (1 - m) * guess, -1.0, 1.0)
        return chunk


class ConsistencyPolicy(OneSample):
    """One sample of a consistency model."""

    kind = CONSISTENCY
    SAMPLER = ConsistencySampler
