"""Episodes run in other processes: evaluation, and rollouts while the learner learns.

Each worker holds one environment. A job names a policy and a seed; its result is the whole
episode. An episode is a function of its seed and its policy, so the results are the same whatever
the number of workers, and they come in the order of the jobs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from poco_ros.core import config
from poco_ros.core.episode import Episode
from poco_ros.core.rollout import ChunkPolicy, run_episode
from poco_ros.core.task import TaskConfig
from sim_bridge.factory import make_environment
from sim_bridge.processes import Handler, ProcessPool, resolve

POLICY_LOADER = "poco_ros.learning.policies:policy_from_bytes"
"""Called with the policy's bytes and their source; returns what acts."""


@dataclass(frozen=True)
class EpisodeJob:
    """One episode to be run."""

    policy: bytes | Path
    """A policy's safetensors bytes, or the file that holds them."""
    seed: int
    """Seed of the reset and of all noise."""
    episode_id: str
    source: str = "online"


class EpisodeWorkers:
    """Processes that run episodes of one task; use it as a context manager."""

    def __init__(self, task: TaskConfig, workers: int, load_policy: str = POLICY_LOADER) -> None:
        """Start ``workers`` processes for ``task``.

        ``load_policy`` names what turns bytes into a policy, as ``module:function``.
        """
        arguments = {"task": config.to_dict(task), "load_policy": load_policy}
        self._pool = ProcessPool(f"{__name__}:episode_handler", arguments, workers)

    @property
    def waiting(self) -> int:
        """Jobs whose episodes :meth:`next_episode` has not returned yet."""
        return self._pool.waiting

    def submit(self, job: EpisodeJob) -> None:
        """Queue a job; a file is read now, so it may change afterwards.

        Raises:
            OSError: the policy's file cannot be read.
            WorkerError: a worker has died.
        """
        content = job.policy if isinstance(job.policy, bytes) else Path(job.policy).read_bytes()
        words = {"seed": job.seed, "episode_id": job.episode_id, "source": job.source}
        self._pool.submit(json.dumps(words).encode(), content)

    def ready(self, timeout: float = 0.0) -> bool:
        """Return whether the episode of the oldest job is there; wait up to ``timeout`` [s].

        Raises:
            WorkerError: as :meth:`next_episode`.
        """
        return self._pool.ready(timeout)

    def next_episode(self) -> Episode:
        """Wait for the episode of the oldest job that is out, and return it.

        Raises:
            WorkerError: a worker died, or the policy or the environment raised; all workers are
                closed then.
            IndexError: no job is out.
        """
        return Episode.from_bytes(self._pool.next_result(), "a worker's episode")

    def run(self, jobs: Iterable[EpisodeJob]) -> Iterator[Episode]:
        """Yield the episodes of ``jobs`` in their order."""
        for job in jobs:
            self.submit(job)
        while self.waiting:
            yield self.next_episode()

    def close(self) -> None:
        """End all workers; no process is left behind."""
        self._pool.close()

    def __enter__(self) -> EpisodeWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def episode_handler(task: dict[str, object], load_policy: str) -> Handler:
    """Return what a worker runs: questions are jobs, the shared part is the policy."""
    environment = make_environment(config.from_dict(TaskConfig, task, "worker's task"))
    load = resolve(load_policy)
    policy: ChunkPolicy | None = None
    loaded: bytes | None = None

    def handle(payload: bytes, shared: bytes) -> bytes:
        nonlocal policy, loaded
        job = json.loads(payload)
        if policy is None or shared is not loaded:
            policy, loaded = load(shared, f"policy of episode {job['episode_id']}"), shared
        return run_episode(environment, policy, job["seed"], job["episode_id"],
                           job["source"]).to_bytes()

    return handle
