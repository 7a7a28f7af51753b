"""The node that learns: a thin shell around a training run.

Training and hand-overs take turns in the main thread: between two updates it answers what has come
in, so an episode is acknowledged within one update, when it is on disk. After the offline stage
and after each episode's updates the weights are published: a round. The last rounds are latched,
and the checkpoint has them too, so that whoever comes back after a crash is given the very weights
that lock-step asks for, although training has gone on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from poco_msgs.msg import LearnerStatus, PolicyWeights
from poco_msgs.srv import StoreEpisode
from rclpy.duration import Duration

from poco_ros.core import config
from poco_ros.core.config import setting
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.core.files import write_atomic
from poco_ros.learning.policies import Policy
from poco_ros.preset import Preset, load_preset
from poco_ros.ros import convert, names
from poco_ros.ros.convert import LearnerStatus as LearnerState
from poco_ros.ros.fast_loop import Reply
from poco_ros.ros.node import POLL, PocoNode, run
from poco_ros.ros.parameters import declare_settings
from poco_ros.ros.settings import LearnerConfig
from poco_ros.ros.weights import weights_to_msg
from poco_ros.training import TrainingRun, open_run

RUN = "demonstrations and checkpoint"
SAVE_AGAIN = 10.0
"""Pause before saving is tried again when it failed [s]."""


@dataclass(frozen=True)
class LearnerSettings(LearnerConfig):
    """Parameters of the node."""

    preset: str = setting("", "preset of the run; empty: the defaults")
    run_dir: str = setting("", "folder of the run; one that is there goes on where it stopped")
    seed: int = setting(0, "seed of the run", minimum=0)
    checkpoint: str = setting(
        "", "policy file or run folder to start from; empty: clone the demonstrations first")
    max_episodes: int = setting(
        0, "end when the run has so many online episodes; 0 = with the preset's online_steps",
        minimum=0)


class Learner(PocoNode):
    """Stores episodes, trains on them, publishes weights and status."""

    def __init__(self) -> None:
        super().__init__("learner")
        name = str(self.given.get("preset", ""))
        self.preset = load_preset(name) if name else Preset()
        self.settings = declare_settings(self, LearnerSettings, self.given,
                                         config.to_dict(self.preset.graph.learner))
        if not self.settings.run_dir:
            raise ConfigError("parameters of learner: run_dir is empty; give the folder of the"
                              " run, such as -p run_dir:=runs/my_run")
        self._lag = self.preset.train.sync_lag
        self._rounds: dict[int, int] = {}
        """Episodes learned from -> version, of the weights that lock-step may still ask for."""
        self._run: TrainingRun | None = None
        self._next_status = 0.0
        self._save_at = float("inf")
        self._weights = self.create_publisher(PolicyWeights, names.POLICY_WEIGHTS,
                                              names.weights_qos(self._lag + 2))
        self._status = self.create_publisher(LearnerStatus, names.LEARNER_STATUS,
                                             names.STATUS_QOS)
        self.loop.serve(StoreEpisode, names.STORE_EPISODE, self._on_episode)
        self._figures: dict[str, object] = {}
        self.health.figures = lambda: self._figures

    def work(self) -> None:
        """Open the run, then train and answer until stopped or finished."""
        self.health.wait_for(RUN)
        with self.breakable():
            self._run = open_run(self.preset, self.settings.run_dir, self.settings.seed,
                                 self.settings.checkpoint)
        self.health.got(RUN)
        training, trainer = self._run, self._run.trainer
        self.get_logger().info(
            f"stage {trainer.stage}, {trainer.updates} updates done, {trainer.updates_owed} due,"
            f" {len(training.store)} episodes stored")
        self._publish_status(training)
        due = False
        while not self.stopping.is_set():
            self.loop.wait(0.0 if due else POLL)
            try:
                due = training.work_due()
                self._publish_rounds(training)
                if trainer.finished or self._episodes_made(training):
                    break
                if due:
                    training.work()
            except OSError as error:
                self._disk_failed(error)
            now = time.monotonic()
            if now >= self._save_at:
                self._save(training)
            if now >= self._next_status:
                self._publish_status(training)
        if trainer.finished:
            self.get_logger().info("the run is finished")

    def _episodes_made(self, training: TrainingRun) -> bool:
        return 0 < self.settings.max_episodes <= len(training.store)

    # -- episodes -----------------------------------------------------------------------------

    def _on_episode(self, request: StoreEpisode.Request, reply: Reply) -> None:
        training = self._run
        assert training is not None, "the loop runs only while a run is open"
        try:
            episode = convert.episode_of(request.episode)
            if episode.task != self.preset.task.name:
                raise DataError(f"episode {episode.id} is of task {episode.task!r}, this run is"
                                f" of {self.preset.task.name!r}")
            new = training.store_episode(episode)
        except DataError as error:
            self.health.event("refused episode", str(error))
            reply(StoreEpisode.Response(success=False, message=str(error)))
            return
        except OSError as error:
            text = f"episode {request.episode.id} cannot be stored: {error}; free some space"
            self.health.fault("store", text)
            reply(StoreEpisode.Response(success=False, message=text))
            return
        self.health.healed("store")
        # Before the answer: whoever has it, or dies with it, finds the number in the status.
        self._publish_status(training)
        reply(StoreEpisode.Response(success=True, duplicate=not new,
                                    message="stored" if new else "was stored before",
                                    episodes_stored=len(training.store)))

    # -- weights ------------------------------------------------------------------------------

    def _publish_rounds(self, training: TrainingRun) -> None:
        """Publish the weights whose updates have just been done, or that a checkpoint brought."""
        trainer = training.trainer
        if trainer.episodes_trained in self._rounds or trainer.stage == "offline":
            return
        oldest = max(0, trainer.episodes_trained - self._lag)
        for episodes in range(oldest, trainer.episodes_trained + 1):
            policy = trainer.acting_policy(episodes + self._lag)
            if policy is None or episodes in self._rounds:
                continue
            if policy.version not in self._rounds.values():  # else no update lies in between
                self._publish_weights(training, policy, episodes)
            self._rounds[episodes] = policy.version
        self._rounds = {k: v for k, v in self._rounds.items() if k >= oldest}
        self._publish_status(training)

    def _publish_weights(self, training: TrainingRun, policy: Policy, episodes: int) -> None:
        content = policy.to_bytes()
        file = None
        if len(content) > self.settings.inline_limit:
            folder = training.folder.path / "weights"
            file = folder / f"{policy.version:09d}.safetensors"
            write_atomic(file, content)
            for old in sorted(folder.glob("*.safetensors"))[:-(self._lag + 2)]:
                old.unlink()
        self._weights.publish(weights_to_msg(
            self.get_clock().now().nanoseconds, content, policy.version, episodes, file))

    # -- state --------------------------------------------------------------------------------

    def _publish_status(self, training: TrainingRun) -> None:
        """Publish ``learner_status``, and keep the figures for ``/diagnostics``."""
        trainer, now = training.trainer, time.monotonic()
        self._next_status = now + self.settings.status_period
        versions = tuple(self._rounds.values())
        status = LearnerState(
            stage=trainer.stage, policy_version=versions[-1] if versions else 0,
            episodes_stored=len(training.store),
            episodes_trained=max(self._rounds, default=0), round_versions=versions,
            environment_steps=trainer.environment_steps, updates=trainer.updates,
            updates_owed=trainer.updates_owed, updates_per_second=training.updates_per_second,
            metrics=training.last_metrics,
            detail=f"{trainer.updates_owed} updates to do" if trainer.updates_owed
            else "waiting for an episode", encoder=training.encoder)
        self._status.publish(convert.learner_status_to_msg(
            self.get_clock().now().nanoseconds, status))
        self._figures = {
            "stage": status.stage, "policy_version": status.policy_version,
            "episodes_stored": status.episodes_stored, "updates": status.updates,
            "updates_owed": status.updates_owed,
            "updates_per_second": f"{status.updates_per_second:.1f}"}

    def _disk_failed(self, error: OSError) -> None:
        self.health.fault("save", f"the run cannot be saved in {self.settings.run_dir}: {error};"
                          " what was saved before is whole, training goes on; free some space")
        self._save_at = min(self._save_at, time.monotonic() + SAVE_AGAIN)

    def _save(self, training: TrainingRun) -> None:
        self._save_at = float("inf")
        try:
            training.save()
        except OSError as error:
            self._disk_failed(error)
            return
        self.health.healed("save")

    def close(self) -> None:
        """Save, and see to it that the last status has arrived."""
        if self._run is None:
            return
        try:
            self._run.close()
        except OSError as error:
            self._disk_failed(error)
            self.failed = True
        self._publish_status(self._run)
        self._status.wait_for_all_acked(Duration(seconds=2.0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node; return its exit code."""
    return run(Learner, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
