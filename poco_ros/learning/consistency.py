"""A consistency policy over chunks, distilled in the same run from a flow that learns beside it.

The teacher is a flow v. The student jumps from any point of the flow's way to its end,

    f(s, a_m, m) = a_m + (1 - m) F(s, a_m, m),

and learns that two points which lie one Euler step of the teacher apart have the same end. With k
uniform in 0..K-1, m = k/K, m' = (k+1)/K, and a_m on the straight way from noise to the chunk::

    loss(s, a) = flow(s, a) + mean (F(s, a_m, m) - (end - a_m) / (1 - m))^2
    end        = f(s, a_m + v(s, a_m, m) / K, m')

without gradient through ``end``: the teacher's step, and the student of this moment behind it. In
F's own units, those of a velocity, the late points count as much as the early ones. Both parts are
losses of one chunk. The first is large for a chunk that is unlike the policy's own, so a clip on
the sum holds the teacher, and through it the student, just as it holds a flow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poco_ros.learning.config import CONSISTENCY
from poco_ros.learning.flow import FlowField, FlowNoise, flow_losses
from poco_ros.learning.generative import GenerativePolicy, masked_mean, normal
from poco_ros.learning.networks import ChunkField
from poco_ros.learning.policies.consistency import jump_times


class ConsistencyModel(GenerativePolicy):
    """See the module: ``teacher`` is the flow, ``student`` the network F that acts."""

    kind = CONSISTENCY

    def __init__(self, observation_size: int, chunk_size: int, hidden_dim: int, num_layers: int,
                 activation: str, teacher_steps: int, jumps: int) -> None:
        """Distil ``teacher_steps`` Euler steps; sample in ``jumps``."""
        super().__init__()
        sizes = observation_size, chunk_size, hidden_dim, num_layers
        self.teacher = FlowField(*sizes, activation, teacher_steps)
        self.student = ChunkField(*sizes, activation)
        self.chunk_size, self.jumps = chunk_size, jumps

    @property
    def options(self) -> dict[str, float | str]:
        """How it acts."""
        return {"consistency_steps": self.jumps}

    def jump(self, observations: Tensor, chunks: Tensor, times: Tensor) -> Tensor:
        """Return f(s, a_m, m), (B, C), for (B, O), (B, C) and flow times (B, 1)."""
        return chunks + (1.0 - times) * self.student(observations, chunks, times)

    def losses(self, observations: Tensor, chunks: Tensor, generator: torch.Generator,
               valid: Tensor | None = None) -> Tensor:
        """Return flow loss plus distillation loss of each chunk, (B,)."""
        noise = FlowNoise.draw(chunks, generator)
        steps = self.teacher.steps
        times = torch.randint(steps, (len(chunks), 1), generator=generator,
                              device=chunks.device) / steps
        here = torch.lerp(noise.a_0, chunks, times)
        with torch.no_grad():
            there = here + self.teacher(observations, here, times) / steps
            end = self.jump(observations, there, times + 1.0 / steps)
            wanted = (end - here) / (1.0 - times)
        distillation = (self.student(observations, here, times) - wanted).square()
        return flow_losses(self.teacher, observations, chunks, noise, valid) \
            + masked_mean(distillation, valid)

    @torch.no_grad()
    def sample(self, observations: Tensor, count: int, generator: torch.Generator,
               steps: int = 0) -> Tensor:
        """Return ``count`` chunks a state, (B, N, C), in ``jumps`` jumps, or fewer."""
        size = (len(observations), count, self.chunk_size)
        noise = normal(size, generator, observations.device)
        return self.leap(observations, noise, generator, min(steps or self.jumps, self.jumps))

    @torch.no_grad()
    def leap(self, observations: Tensor, noise: Tensor, generator: torch.Generator,
             jumps: int) -> Tensor:
        """Return chunks (B, N, C) in [-1, 1] for (B, O) and noise a_0 (B, N, C)."""

        def land(index: int, block: Tensor, guess: Tensor) -> None:
            block.add_(guess, alpha=1.0 - times[index]).clamp_(-1.0, 1.0)
            if index + 1 < jumps:  # back onto the way, where the next jump begins
                m = times[index + 1]
                block.mul_(m).add_(normal(block.shape, generator, block.device), alpha=1.0 - m)

        times = jump_times(jumps)
        return self.student.walk(observations, noise, times, land)
