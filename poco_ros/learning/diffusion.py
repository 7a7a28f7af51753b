"""A diffusion policy over chunks: noise prediction, cosine schedule, DDIM or DDPM sampling.

With t uniform in 1..T and e ~ N(0, I), a_t = sqrt(abar_t) a + sqrt(1 - abar_t) e, and the loss of
one chunk is the mean over its valid entries of ``(e(s, a_t, t) - e)^2``. The schedule and the way
back from noise stand in ``learning.policies.diffusion``, where the policy that acts has them too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poco_ros.learning.config import DIFFUSION
from poco_ros.learning.generative import GenerativePolicy, masked_mean, normal
from poco_ros.learning.networks import ChunkField
from poco_ros.learning.policies.diffusion import alpha_bars, denoising_steps


class DiffusionField(ChunkField, GenerativePolicy):
    """e(s, a_t, t / T): the noise in a noisy chunk."""

    kind = DIFFUSION
    alpha_bars: Tensor

    def __init__(self, observation_size: int, chunk_size: int, hidden_dim: int, num_layers: int,
                 activation: str, steps: int, training_steps: int, sampler: str) -> None:
        """Sample in ``steps`` of ``training_steps`` steps with ``sampler`` ddim or ddpm."""
        super().__init__(observation_size, chunk_size, hidden_dim, num_layers, activation)
        self.steps, self.training_steps, self.sampler = steps, training_steps, sampler
        self.register_buffer("alpha_bars", torch.from_numpy(alpha_bars(training_steps)).float(),
                             persistent=False)

    @property
    def options(self) -> dict[str, float | str]:
        """The schedule, and how it acts."""
        return {"flow_steps": self.steps, "diffusion_steps": self.training_steps,
                "diffusion_sampler": self.sampler}

    def losses(self, observations: Tensor, chunks: Tensor, generator: torch.Generator,
               valid: Tensor | None = None) -> Tensor:
        """Return the loss of each chunk, (B,), with fresh noise and step t."""
        noise = normal(chunks.shape, generator, chunks.device)
        steps = torch.randint(1, self.training_steps + 1, (len(chunks), 1), generator=generator,
                              device=chunks.device)
        left = self.alpha_bars[steps]
        noisy = left.sqrt() * chunks + (1.0 - left).sqrt() * noise
        guess = self(observations, noisy, steps / self.training_steps)
        return masked_mean((guess - noise).square(), valid)

    @torch.no_grad()
    def sample(self, observations: Tensor, count: int, generator: torch.Generator,
               steps: int = 0) -> Tensor:
        """Return ``count`` chunks a state, (B, N, C), denoised from fresh noise."""
        size = (len(observations), count, self.chunk_size)
        return self.denoise(observations, normal(size, generator, observations.device), generator,
                            steps)

    @torch.no_grad()
    def denoise(self, observations: Tensor, noise: Tensor, generator: torch.Generator,
                steps: int = 0) -> Tensor:
        """Return chunks (B, N, C) in [-1, 1] for (B, O) and noise a_T (B, N, C).

        ``generator`` gives the noise that DDPM adds on the way; DDIM adds none.
        """
        way = denoising_steps(self.training_steps, steps or self.steps, self.sampler == "ddpm")

        def denoised(index: int, block: Tensor, guess: Tensor) -> None:
            step = way[index]
            clean = guess.mul_(-step.noise).add_(block, alpha=step.signal).clamp_(-1.0, 1.0)
            block.mul_(step.keep).add_(clean, alpha=step.clean)
            if step.sigma:
                block.add_(normal(block.shape, generator, block.device), alpha=step.sigma)

        times = [step.time for step in way]
        return self.walk(observations, noise, times, denoised).clamp_(-1.0, 1.0)
