"""How good a policy is: episodes with fixed seeds, in worker processes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from poco_ros.core.episode import Episode
from poco_ros.core.errors import CheckpointError
from poco_ros.core.seeding import evaluation_seed
from poco_ros.core.task import TaskConfig
from poco_ros.learning.policies import Policy
from sim_bridge.workers import EpisodeJob, EpisodeWorkers


@dataclass(frozen=True)
class Evaluation:
    """Outcome of an evaluation."""

    successes: int
    episodes: int
    mean_steps: float
    """Mean length of the episodes."""

    @property
    def success_rate(self) -> float:
        """Share of successes, 0 to 1."""
        return self.successes / self.episodes

    @property
    def standard_error(self) -> float:
        """Standard error of the share."""
        rate = self.success_rate
        return math.sqrt(rate * (1.0 - rate) / self.episodes)

    def __str__(self) -> str:
        return (f"{100 * self.success_rate:.0f}% +- {100 * self.standard_error:.0f}"
                f" ({self.successes} of {self.episodes})")


def check_task(policy: Policy, task: TaskConfig, source: str) -> None:
    """Raise CheckpointError unless ``policy`` was made for ``task``."""
    if policy.spec.task != task.name:
        raise CheckpointError(f"{source}: is a policy for {policy.spec.task}, not for {task.name};"
                              " choose its task, or another policy")


def evaluate(workers: EpisodeWorkers, policy: Policy, episodes: int, seed: int,
             progress: Callable[[Episode], None] | None = None) -> Evaluation:
    """Run ``episodes`` episodes with the evaluation seeds of ``seed``; the same every time.

    Args:
        workers: processes with the environment.
        policy: what acts, one sample a chunk.
        episodes: how many.
        seed: evaluation seed; episode i starts from ``evaluation_seed(seed, i)``.
        progress: called with each episode as it comes in.
    """
    content = policy.to_bytes()
    jobs = [EpisodeJob(content, evaluation_seed(seed, i), f"evaluation-{i:06d}", "online")
            for i in range(episodes)]
    successes = steps = 0
    for episode in workers.run(jobs):
        successes += episode.success
        steps += len(episode)
        if progress is not None:
            progress(episode)
    return Evaluation(successes, episodes, steps / episodes)
