"""A training run on disk: the trainer, the episodes, the checkpoint and the log together.

``poco train`` and the ``learner`` node are two shells around this object: one brings episodes from
environments in worker processes, the other from the ROS graph.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from poco_ros.core.episode import Episode, Outcome, encoder_of
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.core.files import lock
from poco_ros.data.demonstrations import load_demonstrations
from poco_ros.learning.gpus import check_device
from poco_ros.learning.metrics import MetricsLog
from poco_ros.learning.policies import Policy, Signature
from poco_ros.learning.trainer import Trainer
from poco_ros.preset import Preset
from poco_ros.run_folder import CLONED, FINETUNED, Kept, RunFolder, read_policy, snapshot_name

RECENT_EPISODES = 50
"""The running success rate is over this many of the last online episodes."""


def signature_of(preset: Preset) -> Signature:
    """Return what goes in and out of the policies of a preset."""
    task = preset.task
    return Signature(task.name, task.observation, task.action_dim)


class TrainingRun:
    """See the module. Open one with :func:`open_run`."""

    def __init__(self, preset: Preset, folder: RunFolder, trainer: Trainer,
                 store: EpisodeStore, held: BinaryIO, encoder: str = "") -> None:
        """Take what :func:`open_run` made; ``held`` locks the folder until :meth:`close`."""
        self.preset, self.folder, self.trainer, self.store = preset, folder, trainer, store
        self._lock = held
        self.encoder = encoder
        """Which encoder made the features that are learned from; empty: unknown, or none did."""
        self.log = MetricsLog(folder.path, trainer.updates, trainer.agent.METRICS)
        self.last_metrics: dict[str, float] = {}
        self._recent: deque[bool] = deque(maxlen=RECENT_EPISODES)
        for number in range(max(0, len(store) - RECENT_EPISODES), len(store)):
            self._recent.append(store[number].success)
        self._begun = time.monotonic()
        self._row_at, self._row_steps = self._begun, trainer.environment_steps
        self._saved_updates = trainer.updates
        self._finished = False
        self._unwritten: dict[str, tuple[Policy, Kept | None]] = {}
        # Of a run that was killed, also what it did after its last row.
        self._minutes_before = max(
            (self.log.minutes_before, *(kept.minutes for kept in folder.read_kept().values())))
        trainer.on_trained = self._trained
        self.updates_per_second = 0.0
        self.steps_per_second = 0.0

    @property
    def minutes(self) -> float:
        """Minutes that the run has taken, earlier sittings included."""
        return self._minutes_before + (time.monotonic() - self._begun) / 60.0

    @property
    def success_rate(self) -> float:
        """Share of successes among the recent online episodes; nan before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else float("nan")

    def store_episode(self, episode: Episode) -> bool:
        """Make an online episode durable, then hand it to the trainer; False if it was there.

        Raises:
            DataError: not this run's sizes, or features of another encoder; nothing is stored.
            OSError: the disk is full; nothing is stored.
        """
        self.trainer.check_episode(episode)
        if self.encoder and episode.encoder and episode.encoder != self.encoder:
            raise DataError(f"episode {episode.id}: its features are of encoder {episode.encoder},"
                            f" those of this run are of {self.encoder}; start camera_encoder with"
                            " the weights, image size, head and crops of then")
        if not self.store.add(episode):
            return False
        self.trainer.add_episode(episode)
        self.encoder = self.encoder or episode.encoder
        self._recent.append(episode.outcome == Outcome.SUCCESS)
        return True

    def work_due(self) -> bool:
        """Return whether :meth:`work` has an update to do.

        When the updates of an episode have just been finished, and an evaluation is due by its
        steps, the acting policy of this moment is kept under ``policies/``.
        """
        due = self.trainer.work_due()
        if self.trainer.finished and not self._finished:
            self._finished = True
            self._keep(FINETUNED)
        return due

    def _trained(self, before: int, after: int) -> None:
        every = self.preset.train.eval_every
        if every and after // every > before // every:
            self._keep(snapshot_name(after))

    def _keep(self, name: str) -> None:
        """Write the acting policy of this moment under ``name``, and when it was had.

        Raises:
            OSError: the disk is full; the policy is held and written at the next :meth:`save`.
        """
        self._unwritten[name] = self.trainer.policy(), Kept(
            self.trainer.updates, self.trainer.steps_trained, self.minutes)
        self._write_policies()

    def _write_policies(self) -> None:
        for name, (policy, kept) in list(self._unwritten.items()):
            self.folder.save_policy(policy, name)
            if kept:
                self.folder.note(name, kept)
            del self._unwritten[name]

    def work(self) -> None:
        """Do one update; log, and save when it is time."""
        stage = self.trainer.stage
        self.log.add(self.trainer.work())
        ended = self.trainer.stage != stage
        cloned = ended and stage == "offline"
        if cloned:
            self._keep(CLONED)
        # First what the run needs: a row that cannot be written must not cost it.
        if cloned or self.trainer.updates - self._saved_updates >= \
                self.preset.train.checkpoint_every:
            self.save()
        if ended or self.log.count >= self.preset.train.log_every:
            self._write_row()  # no row has updates of two stages, which report other metrics

    def _write_row(self) -> None:
        self.log.add_late(self.trainer.late_metrics())
        now, trainer = time.monotonic(), self.trainer
        elapsed = max(now - self._row_at, 1e-9)
        self.updates_per_second = self.log.count / elapsed
        self.steps_per_second = (trainer.environment_steps - self._row_steps) / elapsed
        self._row_at, self._row_steps = now, trainer.environment_steps
        self.last_metrics = self.log.write({
            "minutes": f"{self.minutes:.3f}", "stage": trainer.stage, "updates": trainer.updates,
            "environment_steps": trainer.environment_steps, "episodes": trainer.episodes_added,
            "success_rate": f"{self.success_rate:.3f}" if self._recent else "",
            "updates_per_second": f"{self.updates_per_second:.2f}",
            "steps_per_second": f"{self.steps_per_second:.2f}"})

    def save(self) -> None:
        """Write the checkpoint, and the acting policy of this moment under ``latest``.

        Raises:
            OSError: the disk is full; the old checkpoint is whole.
        """
        self._saved_updates = self.trainer.updates  # on failure: not again at every update
        self.trainer.save(self.folder.checkpoint)
        self._unwritten["latest"] = self.trainer.policy(), None
        self._write_policies()

    def close(self) -> None:
        """Save if anything changed, and close the log."""
        try:
            if self.trainer.updates != self._saved_updates or self._unwritten:
                self.save()
        finally:
            try:
                if self.log.count:
                    self._write_row()
            finally:
                try:
                    self.log.close()
                finally:
                    self._lock.close()


def open_run(preset: Preset, run_dir: str | Path, seed: int, checkpoint: str = "") -> TrainingRun:
    """Begin a run in ``run_dir``, or go on where the run in it stopped.

    Args:
        preset: what to do.
        run_dir: folder of the run; see :mod:`poco_ros.run_folder`.
        seed: of everything random in the run.
        checkpoint: an acting policy (.safetensors) from which the online stage begins, or a run
            folder whose latest policy is taken; ignored when the run itself goes on.

    Raises:
        ConfigError, DataError, CheckpointError: what is wrong, where, and what to do.
    """
    import torch

    check_device(preset.train)
    torch.set_num_threads(preset.train.threads)
    folder = RunFolder(Path(run_dir))
    held = lock(folder.path)
    if held is None:
        raise ConfigError(f"{folder.path}: another process works in this run folder; wait until"
                          " it has ended, or name another one")
    with ExitStack() as on_failure:
        on_failure.enter_context(held)
        run = _open_locked(preset, folder, seed, checkpoint, held)
        on_failure.pop_all()
    return run


def _open_locked(preset: Preset, folder: RunFolder, seed: int, checkpoint: str,
                 held: BinaryIO) -> TrainingRun:
    """Do what :func:`open_run` says, in a folder that is ours alone."""
    # Stopped before it saved for the first time, a run begins with the same policy again.
    if folder.config.exists():
        checkpoint = checkpoint or folder.started_from()
    source = read_policy(checkpoint) if checkpoint and not folder.has_checkpoint else None
    folder.check(preset, seed)
    demonstrations = load_demonstrations(preset.demonstrations, preset.task)
    trainer = Trainer(preset.agent, preset.train, signature_of(preset), seed, demonstrations)
    store, resumed = EpisodeStore(folder.episodes), folder.has_checkpoint
    if resumed:
        trainer.resume(folder.checkpoint, list(store))
    elif source is not None:
        trainer.start_from(*source)
    folder.begin(preset, seed, checkpoint)  # nothing refuses it any more
    if not resumed:
        if source is not None:
            folder.save_policy(trainer.policy(), CLONED)
            trainer.save(folder.checkpoint)
        for episode in store:
            trainer.add_episode(episode)
    encoder = encoder_of(demonstrations, "demonstrations") or next(
        (store[number].encoder for number in range(min(1, len(store)))), "")
    return TrainingRun(preset, folder, trainer, store, held, encoder)
