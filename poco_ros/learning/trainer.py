"""The trainer: stages, the schedule of updates, and a state that can stop at any moment.

Episodes are trained on strictly in their order: all updates that episode k owes are done before
episode k + 1 enters the replay. So the weights after k episodes are a function of the data and the
seed, whatever the timing, and a run in the ROS graph, one in a single process and one that was
killed and resumed are the same run.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poco_ros.core.episode import Episode
from poco_ros.core.errors import CheckpointError, DataError
from poco_ros.learning.agents import Phase, make_agent
from poco_ros.learning.captured import make_updater
from poco_ros.learning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from poco_ros.learning.config import CLONE, FULL, PUBLISHED, AgentConfig, TrainConfig
from poco_ros.learning.gpus import check_device
from poco_ros.learning.policies import Policy, Signature, make_policy
from poco_ros.learning.updater import DivergedError

EXPERIENCE = "experience."
"""Prefix of the experience's tensors in a checkpoint."""


class Trainer:
    """Owns agent, experience and schedule. Call :meth:`work` while :meth:`work_due`."""

    def __init__(self, agent: AgentConfig, train: TrainConfig, signature: Signature, seed: int,
                 demonstrations: Sequence[Episode]) -> None:
        """Start a fresh run.

        Raises:
            ConfigError: the device is a GPU and there is none.
            DataError: demonstrations are missing although an offline stage is wanted, or have
                other sizes than ``signature``.
        """
        check_device(train)
        if train.offline_steps and not any(episode.trainable for episode in demonstrations):
            raise DataError(f"offline_steps is {train.offline_steps} but there are no"
                            " demonstrations; make some (poco data) or set offline_steps to 0")
        self.agent_config, self.config, self.signature, self.seed = agent, train, signature, seed
        self.agent = make_agent(agent, signature, seed, train.device)
        self.experience = self.agent.experience(train, demonstrations)
        self.demonstrations_digest = digest(demonstrations)
        self.generator = np.random.Generator(np.random.PCG64(seed))
        self.updater = make_updater(self.agent, self.experience, train, self.generator)
        self.offline_updates = 0
        self.online_updates = 0
        self.episodes_trained = 0
        self.steps_trained = 0
        self.episodes_ingested = 0
        self.steps_ingested = 0
        self._queue: deque[Episode] = deque()
        self._acting: dict[int, Policy] = {}  # episodes trained -> the policy of that moment
        self.on_trained: Callable[[int, int], None] = lambda before, after: None
        """Called when all updates of an episode are done, with the steps learned from before and
        now; these weights have learned from exactly those."""
        if (agent.normalize_observations or agent.observation_components) and demonstrations:
            rows = np.concatenate([e.observations for e in demonstrations if e.trainable])
            self.agent.normalizer.learn(rows, scale=agent.normalize_observations)

    # -- where the run stands ---------------------------------------------------------------

    @property
    def updates(self) -> int:
        """Gradient updates done, over all stages."""
        return self.offline_updates + self.online_updates

    @property
    def environment_steps(self) -> int:
        """Online steps to learn from, handed over so far, queued ones included."""
        queued = sum(len(episode) for episode in self._queue if episode.trainable)
        return self.steps_ingested + queued

    @property
    def episodes_added(self) -> int:
        """Online episodes handed over so far, queued ones included."""
        return self.episodes_ingested + len(self._queue)

    @property
    def stage(self) -> str:
        """``offline``, ``warmup``, ``online`` or ``finished``."""
        if self.offline_updates < self.config.offline_steps:
            return "offline"
        if self.finished:
            return "finished"
        return "online" if self.experience.warm(self.online_updates) else "warmup"

    @property
    def finished(self) -> bool:
        """Whether all online steps are made and all their updates done."""
        return (self.offline_updates >= self.config.offline_steps
                and self.steps_ingested >= self.config.online_steps and not self._owed)

    @property
    def _owed(self) -> int:
        """Updates that the episodes in the replay still ask for."""
        return max(0, self.experience.updates_due(self.steps_ingested) - self.online_updates)

    @property
    def updates_owed(self) -> int:
        """Updates due for everything handed over so far and not done yet."""
        offline = max(0, self.config.offline_steps - self.offline_updates)
        due = self.experience.updates_due(self.environment_steps)
        return offline + max(0, due - self.online_updates)

    # -- work -------------------------------------------------------------------------------

    def check_episode(self, episode: Episode) -> None:
        """Raise DataError when the episode has other sizes than the policy."""
        sizes = episode.observations.shape[1], episode.actions.shape[1]
        expected = self.signature.observation.size, self.signature.action_dim
        if sizes != expected:
            raise DataError(f"episode {episode.id}: observations and actions have sizes {sizes},"
                            f" the policy of task {self.signature.task!r} has {expected}")

    def add_episode(self, episode: Episode) -> None:
        """Queue an online episode; it enters the replay when the ones before it are done with.

        Raises:
            DataError: other sizes than the policy's; nothing has changed then.
        """
        self.check_episode(episode)
        self._queue.append(episode)

    def work_due(self) -> bool:
        """Return whether :meth:`work` has an update to do; episodes without any are passed."""
        if self.offline_updates < self.config.offline_steps:
            return True
        while not (self.experience.ready and self._owed):
            self._finish_round()
            if not self._queue:
                return False
            self._ingest(self._queue.popleft())
        return True

    def _ingest(self, episode: Episode) -> None:
        """Let an episode into the experience; one that is not trainable only counts."""
        self.experience.add(episode)
        self.steps_ingested += len(episode) if episode.trainable else 0
        self.episodes_ingested += 1

    def _finish_round(self) -> None:
        """All updates of the episodes in the replay are done: these weights may act."""
        before = self.steps_trained
        self.episodes_trained, self.steps_trained = self.episodes_ingested, self.steps_ingested
        learned = self.episodes_trained
        if learned not in self._acting and self.experience.acted_with(learned):
            self.updater.check()
            self._acting[learned] = self.agent.exploring_policy(
                self.updates + 1, self.steps_trained)
            oldest = self.experience.acts_after(learned)
            self._acting = {k: p for k, p in self._acting.items() if k >= oldest}
        if self.steps_trained > before:
            self.on_trained(before, self.steps_trained)

    def acting_policy(self, episode: int) -> Policy | None:
        """Return the policy with which online episode number ``episode`` (from 0) is to act.

        With a replay it has learned from exactly the episodes before ``episode - sync_lag``. None:
        those updates are not done yet; :meth:`work_due` says whether there is work to do for them.
        """
        return self._acting.get(self.experience.acts_after(episode))

    def work(self) -> dict[str, float]:
        """Do one update and return its metrics; on a GPU they come with :meth:`late_metrics`.

        Raises:
            RuntimeError: none is due; ask :meth:`work_due` first.
            DivergedError: the loss of an update is not finite: of this one, or on a GPU of one of
                the last ``log_every``; resume from the last checkpoint with a lower learning rate.
        """
        if not self.work_due():
            raise RuntimeError("no update is due; ask work_due() first")
        offline = self.offline_updates < self.config.offline_steps
        if offline:
            phase = {PUBLISHED: self.agent.OFFLINE, FULL: Phase.FULL, CLONE: Phase.CLONE}[
                self.config.offline_objective]
        else:
            warm = self.experience.warm(self.online_updates)
            phase = Phase.FULL if warm else Phase.CRITIC
        metrics = self.updater.update(phase, self.updates + 1)
        if offline:
            self.offline_updates += 1
        else:
            self.online_updates += 1
        self.experience.learned(metrics)
        return metrics

    def late_metrics(self) -> dict[str, float]:
        """Return the sums of metrics that :meth:`work` has held back since the last call.

        Raises:
            DivergedError: as :meth:`work`.
        """
        return self.updater.late_metrics()

    def policy(self) -> Policy:
        """Return the policy as it is judged; its version is the number of updates done, plus one.

        So versions begin at 1: 0 stands for no policy, and in a request for the newest one.
        """
        return self.agent.policy(self.updates + 1)

    # -- stop and go on ---------------------------------------------------------------------

    def start_from(self, policy: Policy, source: str) -> None:
        """Begin the online stage from the weights of ``policy``; the offline stage is skipped.

        Raises:
            CheckpointError: another architecture, observation or task.
        """
        self.agent.load_policy(policy, source)
        self.offline_updates = self.config.offline_steps

    def save(self, folder: str | Path) -> Path:
        """Write a checkpoint, atomically.

        Raises:
            OSError: the disk is full or not writable; the old checkpoint is whole.
            DivergedError: weights or a loss are not finite; the old checkpoint is whole.
        """
        self.updater.check()
        words: dict[str, Any] = {
            "spec": self.agent.policy_spec().to_json(),
            "algorithm": self.agent_config.algorithm,
            "seed": self.seed,
            "offline_updates": self.offline_updates,
            "online_updates": self.online_updates,
            "episodes_ingested": self.episodes_ingested,
            "episodes_trained": self.episodes_trained,
            "demonstrations": self.demonstrations_digest,
            "generator": self.generator.bit_generator.state,
            "acting": {str(k): [policy.version, policy.mode]
                       for k, policy in self._acting.items()},
        }
        tensors = self.agent.state()
        strange = [name for name, value in tensors.items()
                   if value.is_floating_point() and not torch.isfinite(value).all()]
        if strange:
            raise DivergedError(f"not saved: {strange[0]} is not finite after update"
                                f" {self.updates}; the last checkpoint is whole: resume from it"
                                " with a lower lr")
        tensors |= {f"{EXPERIENCE}{name}": value
                    for name, value in self.experience.state().items()}
        for k, policy in self._acting.items():
            tensors |= {f"acting.{k}.{name}": torch.from_numpy(value)
                        for name, value in policy.tensors.items()}
        return save_checkpoint(folder, f"{self.updates:09d}", tensors, words)

    def resume(self, folder: str | Path, episodes: Sequence[Episode]) -> None:
        """Go on exactly where :meth:`save` left off; call on a fresh trainer.

        ``episodes`` are all online episodes stored so far, in order: those of the checkpoint go
        straight into the replay, later ones are queued.

        Raises:
            CheckpointError: no whole checkpoint, another architecture, seed, data, a larger
                ``sync_lag``, or fewer episodes than it was trained on; this trainer is unchanged
                then.
        """
        saved = load_checkpoint(folder)
        words = saved.words
        # In a checkpoint without this, the updates of the last episode may not have been noticed.
        done = words.get("episodes_trained", max(0, words.get("episodes_ingested", 0) - 1))
        self._check(saved, len(episodes), done)
        acting = {int(k): self._acting_from(saved, k) for k in words["acting"]}
        self.agent.load_state({name: value for name, value in saved.tensors.items()
                               if not name.startswith(("acting.", EXPERIENCE))}, saved.source)
        self.updater.forget()
        self._acting = acting
        self.generator.bit_generator.state = words["generator"]
        self.offline_updates, self.online_updates = (words["offline_updates"],
                                                     words["online_updates"])
        count = words["episodes_ingested"]
        self.experience.restore(episodes[:count], {
            name.removeprefix(EXPERIENCE): value for name, value in saved.tensors.items()
            if name.startswith(EXPERIENCE)}, saved.source)
        steps = [len(episode) if episode.trainable else 0 for episode in episodes[:count]]
        self.episodes_ingested, self.steps_ingested = count, sum(steps)
        self.episodes_trained, self.steps_trained = done, sum(steps[:done])
        for episode in episodes[count:]:
            self.add_episode(episode)

    def _acting_from(self, saved: Checkpoint, key: str) -> Policy:
        prefix = f"acting.{key}."
        tensors = {name.removeprefix(prefix): value.numpy()
                   for name, value in saved.tensors.items() if name.startswith(prefix)}
        version, mode = saved.words["acting"][key]
        return make_policy(self.agent.policy_spec(), tensors, version, mode,
                           f"{saved.source}: {prefix}")

    def _check(self, saved: Checkpoint, episodes: int, done: int) -> None:
        ours = {"spec": self.agent.policy_spec().to_json(),
                "algorithm": self.agent_config.algorithm,
                "seed": self.seed, "demonstrations": self.demonstrations_digest}
        for key, value in ours.items():
            if saved.words.get(key) != value:
                raise CheckpointError(f"{saved.source}: {key} was {saved.words.get(key)}, now it"
                                      f" is {value}; resume with the settings of the run, or"
                                      " start a new run folder")
        if episodes < saved.words["episodes_ingested"]:
            raise CheckpointError(
                f"{saved.source}: was trained on {saved.words['episodes_ingested']} episodes, only"
                f" {episodes} are stored; the episode folder is incomplete")
        acts_after = self.experience.acts_after(episodes)
        if acts_after < done and str(acts_after) not in saved.words["acting"]:
            raise CheckpointError(
                f"{saved.source}: sync_lag is {self.config.sync_lag}, so the next episode would"
                f" act with what has learned from {acts_after} episodes, and that was not kept;"
                " resume with the sync_lag of the run, or begin a new run from its policy"
                " (--checkpoint)")


def digest(episodes: Sequence[Episode]) -> str:
    """Return a checksum of what demonstrations hold, to notice other data on resume."""
    found = hashlib.sha256()
    for episode in episodes:
        found.update(episode.id.encode())
        found.update(episode.observations.tobytes())
        found.update(episode.actions.tobytes())
        found.update(episode.rewards.tobytes())
    return found.hexdigest()
