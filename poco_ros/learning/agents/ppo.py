"""What DPPO and ReinFlow share: PPO over the steps by which a flow goes from noise to a chunk.

Exploring, every Euler step is a Gaussian, so a chunk's way has a likelihood::

    a_{k+1} = a_k + v(s, a_k, k/K) / K + std z_k        log p_k = mean over C of log N(a_{k+1})

A round of whole episodes acts with one policy. Then, with A the advantage of a chunk (GAE over
chunks, normalised in a minibatch) and r the ratio of new to old likelihood,

    L_pi = - mean [ discount * min(r A, clip(r, 1 - clip, 1 + clip) A) ]
    L_V  = mean (V(s) - return)^2 / 2

Which ratios there are, and with which clips and discounts, an algorithm says in :meth:`factors`,
:attr:`clips` and :attr:`discounts`.

Chains are not sent around: all that is random in a chunk is a function of its seed and the
weights, so the learner goes the way again with the weights that acted. A chunk that does not come
out as it was executed (a safety filter held it, or others made it) is left out and counted.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from poco_ros.core.episode import Episode
from poco_ros.core.seeding import chunk_generator, chunk_seed, seed_of_episode
from poco_ros.learning.agents.base import Batch, Phase
from poco_ros.learning.agents.parts import WithFlow
from poco_ros.learning.config import PPOConfig, TrainConfig
from poco_ros.learning.experience import Experience, RoundExperience
from poco_ros.learning.networks import Value
from poco_ros.learning.policies import EXPLORE, PolicySpec
from poco_ros.learning.policies.noisy_flow import NoisyFlow
from poco_ros.learning.rounds import EpisodeChunks, Round, RoundBatch, advantages

LOG_PROB_MIN, LOG_PROB_MAX = -5.0, 2.0
"""Bounds of the log-probability of one entry in one step."""
TOLERANCE = 1e-5
"""Between a chunk that was executed and the same one made again."""
LOG_2_PI = math.log(2.0 * math.pi)


class RewardScale(nn.Module):
    """The deviation of the discounted sum of rewards so far, over all rounds: a running scale."""

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "mean", "squares"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    def take(self, rewards: Sequence[np.ndarray], gamma: float) -> None:
        """Take the rewards (n,) of the chunks of each episode of a round."""
        sums = []
        for episode in rewards:
            total = 0.0
            for reward in episode:
                total = gamma * total + float(reward)
                sums.append(total)
        found = torch.tensor(sums, dtype=torch.float64, device=self.mean.device)
        both = self.count + len(found)
        shift = found.mean() - self.mean
        self.squares += (found - found.mean()).square().sum() \
            + shift.square() * self.count * len(found) / both
        self.mean += shift * len(found) / both
        self.count.copy_(both)

    def __call__(self) -> float:
        """Return what rewards are divided by; 1 while all sums were the same."""
        deviation = math.sqrt(float(self.squares) / max(1.0, float(self.count)))
        return deviation if deviation > 1e-8 else 1.0


class PPO(WithFlow):
    """See the module. In the clone phase the flow is cloned as in behaviour cloning."""

    config: PPOConfig
    METRICS: ClassVar[tuple[str, ...]] = (
        *WithFlow.METRICS, "value/loss", "value/mean", "ppo/policy_loss", "ppo/kl", "ppo/ratio",
        "ppo/clip_fraction", "ppo/left_out")

    def build(self) -> None:
        """Add the value, the scale of rewards, and the optimisers of the online stage."""
        super().build()
        config = self.config
        self.value = Value(self.inputs, config.hidden_dim, config.num_layers,
                           config.activation).to(self.device)
        self.reward_scale = RewardScale().to(self.device)
        self.build_noise()
        self.value_optimizer = self.adam(self.value, config.value_lr)
        self.policy_optimizer = self.adam(nn.ModuleDict(self.acting_modules()), config.actor_lr)

    def build_noise(self) -> None:
        """Add what the noise needs; called before the optimisers are made."""

    def modules(self) -> dict[str, nn.Module]:
        """Add value and scale of rewards."""
        return super().modules() | {"value": self.value, "reward_scale": self.reward_scale}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Add the value's, and that of the flow in the online stage: cloning has its own."""
        return super().optimizers() | {"value": self.value_optimizer,
                                       "policy": self.policy_optimizer}

    def policy_spec(self) -> PolicySpec:
        """The noisy flow acts while it learns, and is judged without the noise."""
        config = self.config
        return self.spec_of("noisy_flow", flow_steps=config.flow_steps,
                            noise_clip=config.noise_clip, **self.noise_options())

    # -- what an algorithm says ---------------------------------------------------------------

    @abstractmethod
    def noise_options(self) -> dict[str, float]:
        """Return what the acting policy must know of the noise."""

    @abstractmethod
    def log_std(self, observations: Tensor, times: Tensor) -> Tensor:
        """Return the log deviation, (B, C) or (1,), for normalised (B, O) and times (B, 1)."""

    @abstractmethod
    def factors(self, log_ratios: Tensor) -> Tensor:
        """Return the log ratios (B, F) that are clipped, for those of the steps (B, K)."""

    @property
    @abstractmethod
    def clips(self) -> Tensor:
        """How far each ratio may go from 1, (F,)."""

    @property
    @abstractmethod
    def discounts(self) -> Tensor:
        """What the advantage counts for each ratio, (F,)."""

    def extra_loss(self, log_std: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what else is descended, for log deviations (B, K, C), and metrics."""
        return log_std.new_zeros(()), {}

    # -- a round ------------------------------------------------------------------------------

    def experience(self, train: TrainConfig, demonstrations: Sequence[Episode]) -> Experience:
        """Rounds of episodes, studied when they are complete."""
        return RoundExperience(self.signature, self.config, train, demonstrations, self.study)

    def tensors(self, drawn: Any) -> Batch | RoundBatch:
        """Demonstrations to clone, or chunks of a round."""
        if isinstance(drawn, Round):
            return RoundBatch.of(drawn, self.normalizer)
        return super().tensors(drawn)

    def study(self, episodes: Sequence[Episode]) -> Round:
        """Return the round of ``episodes``, which the weights of this moment have acted."""
        config = self.config
        cut = [EpisodeChunks.of(episode, config.chunk_horizon) for episode in episodes]
        if config.scale_rewards and cut:
            self.reward_scale.take([chunks.rewards for chunks in cut], config.gamma)
        scale = self.reward_scale() if config.scale_rewards else 1.0
        policy = self.policy(0, EXPLORE)
        assert isinstance(policy, NoisyFlow)
        found = [Round.empty(self.signature.observation.size, config.flow_steps, self.chunk_size)]
        for episode, chunks in zip(episodes, cut, strict=True):
            chains, same = self._followed(policy, episode, chunks)
            values = self.values(chunks.observations)
            gained = advantages(chunks.rewards / scale, values, chunks.terminated, config.gamma,
                                config.gae_lambda)
            observations = chunks.observations[:-1]
            whole = Round(observations, chains, self._log_probs_of(observations, chains), gained,
                          gained + values[:-1])
            found.append(whole.rows(np.flatnonzero(same)))
        made, kept = sum(map(len, cut)), sum(map(len, found))
        if made and not kept:
            warnings.warn(f"none of the {made} chunks of episodes {episodes[0].id} to"
                          f" {episodes[-1].id} was executed as the weights of their round made it;"
                          f" nothing is learned from them. {config.algorithm} needs lock-step:"
                          " one policy a round, and nobody who holds or limits its actions",
                          RuntimeWarning, stacklevel=2)
        return Round.joined(found, left_out=1.0 - kept / max(1, made))

    def _log_probs_of(self, observations: np.ndarray, chains: np.ndarray) -> np.ndarray:
        """Return log-probabilities (n, K) of chains at (n, O) as measured, no gradient."""
        with torch.no_grad():
            found, _ = self.log_probs(self._normalised(observations),
                                      torch.from_numpy(chains).to(self.device))
        return found.cpu().numpy()

    def _followed(self, policy: NoisyFlow, episode: Episode,
                  chunks: EpisodeChunks) -> tuple[np.ndarray, np.ndarray]:
        """Return the chains (n, K+1, C) of an episode, and which end in what was executed (n,)."""
        seed = seed_of_episode(episode.id)
        if seed is None:  # nobody of ours made it
            size = (len(chunks), self.config.flow_steps + 1, self.chunk_size)
            return np.zeros(size, np.float32), np.zeros(len(chunks), bool)
        noise = np.stack([policy.chain_noise(chunk_generator(chunk_seed(seed, index)))
                          for index in range(len(chunks))])
        chains = policy.chains(policy.normalised(chunks.observations[:-1]), noise)
        made = np.clip(chains[:, -1], -1.0, 1.0).reshape(chunks.executed.shape)
        apart = np.abs(made - chunks.executed).max(axis=2)
        return chains, (apart <= TOLERANCE).all(axis=1, where=chunks.played)

    def _normalised(self, observations: np.ndarray) -> Tensor:
        return self.normalizer(torch.from_numpy(observations).float().to(self.device))

    @torch.no_grad()
    def values(self, observations: np.ndarray) -> np.ndarray:
        """Return V (n,) for observations (n, O) as measured."""
        return self.value(self._normalised(observations)).cpu().numpy()

    def log_probs(self, observations: Tensor, chains: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities of the steps (B, K) and log deviations (B, K, C).

        For normalised (B, O) and chains (B, K+1, C); at the very flow times of acting, k/K.
        """
        batch, steps, size = len(chains), chains.shape[1] - 1, chains.shape[2]
        rows = observations.repeat_interleave(steps, dim=0)
        times = torch.arange(steps, device=self.device, dtype=torch.float32).div_(steps)
        times = times.repeat(batch).unsqueeze(1)
        before, after = chains[:, :-1].reshape(-1, size), chains[:, 1:].reshape(-1, size)
        mean = before + self.actor(rows, before, times) / steps
        log_std = self.log_std(rows, times).expand(len(rows), size)
        entries = -0.5 * (((after - mean) / log_std.exp()).square() + LOG_2_PI) - log_std
        found = entries.clamp(LOG_PROB_MIN, LOG_PROB_MAX).mean(dim=1)
        return found.view(batch, steps), log_std.view(batch, steps, size)

    # -- updates ------------------------------------------------------------------------------

    def update(self, batch: Batch | RoundBatch, phase: Phase) -> dict[str, Tensor]:
        """Clone demonstrations; of a round, fit the value (CRITIC, FULL) and the flow (FULL)."""
        if isinstance(batch, Batch):
            return self.update_clone(batch)
        metrics = self.update_value(batch) | {"ppo/left_out": batch.left_out}
        if phase is Phase.FULL:
            metrics |= self.update_policy(batch)
        return metrics

    def update_value(self, batch: RoundBatch) -> dict[str, Tensor]:
        """One step of the value towards the returns."""
        values = self.value(batch.observations)
        loss = 0.5 * (values - batch.returns).square().mean()
        self.descend(self.value_optimizer, loss)
        return {"value/loss": loss.detach(), "value/mean": values.detach().mean()}

    def update_policy(self, batch: RoundBatch) -> dict[str, Tensor]:
        """One step of the flow, and of the noise if it is learned, up the clipped advantage."""
        log_probs, log_std = self.log_probs(batch.observations, batch.chains)
        log_ratios = self.factors(log_probs - batch.log_probs)
        ratios, clips = log_ratios.exp(), self.clips
        gained = batch.advantages
        gained = (gained - gained.mean()) / (gained.std(correction=0) + 1e-8)
        gained = gained.unsqueeze(1) * self.discounts
        clipped = torch.clamp(ratios, 1.0 - clips, 1.0 + clips)
        policy_loss = -torch.minimum(ratios * gained, clipped * gained).mean()
        extra, metrics = self.extra_loss(log_std)
        self.descend(self.policy_optimizer, policy_loss + extra)
        with torch.no_grad():
            return metrics | {
                "ppo/policy_loss": policy_loss.detach(), "ppo/ratio": ratios.mean(),
                "ppo/kl": (ratios - 1.0 - log_ratios).mean(),
                "ppo/clip_fraction": ((ratios - 1.0).abs() > clips).float().mean()}
