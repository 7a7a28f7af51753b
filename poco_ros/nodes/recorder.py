"""The node that records demonstrations: a person leads the arm, and says when and how well.

It makes episodes as the rollout does, from the same topics, and keeps them in a folder instead of
handing them to a learner; no policy is asked. Demonstrations that begin where the policy tends to
fail are recorded as ``recovery`` and marked so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from poco_ros.core import config
from poco_ros.core.config import setting
from poco_ros.core.episode import Episode, encoder_of
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.errors import ConfigError
from poco_ros.core.spool import Spool
from poco_ros.preset import load_preset
from poco_ros.ros.attempt import Attempt
from poco_ros.ros.delivery import Delivery, to_folder
from poco_ros.ros.episode_maker import EpisodeMaker, Missing
from poco_ros.ros.node import run
from poco_ros.ros.parameters import declare_settings
from poco_ros.ros.settings import EpisodeConfig

SOURCES = ("demonstration", "recovery")


@dataclass(frozen=True)
class RecorderSettings(EpisodeConfig):
    """Parameters of the node."""

    preset: str = setting("", "preset of the task on the robot")
    folder: str = setting("", "folder of the demonstrations; those that are there stay")
    source: str = setting("demonstration", "demonstration, or recovery: it begins where the"
                          " policy tends to fail; written into each episode", choices=SOURCES)
    episodes: int = setting(0, "end when the folder has so many of this source that can be learned"
                            " from, those that were there before included; 0 = when stopped",
                            minimum=0)


class Recorder(EpisodeMaker):
    """Records what a person shows."""

    settings: RecorderSettings

    def __init__(self, arguments: Sequence[str] | None = None) -> None:
        super().__init__("recorder", arguments)
        name = str(self.given.get("preset", ""))
        if not name:
            raise ConfigError("parameters of recorder: preset is empty; give that of the task,"
                              " such as -p preset:=cpu_pick_cube")
        preset = load_preset(name)
        defaults = {key: value for key, value in config.to_dict(preset.graph.rollout).items()
                    if key in config.settings_of(EpisodeConfig)}
        self.settings = declare_settings(self, RecorderSettings, self.given, defaults)
        if not self.settings.folder:
            raise ConfigError("parameters of recorder: folder is empty; give the folder of the"
                              " demonstrations, such as -p folder:=runs/data/my_task")
        if preset.task.simulated:
            raise ConfigError(f"preset {name} is for the simulated task {preset.task.name}; its"
                              " demonstrations are made by poco data")
        folder = Path(self.settings.folder)
        self._store = EpisodeStore(folder)
        spool = Spool(folder / "spool")
        self._recorded: set[str] = set()
        """Ids of those that count."""
        known = [*self._store, *map(spool.get, spool.ids)]
        for episode in known:
            self._count(episode)
        self._encoder = encoder_of(known, str(folder))
        self._made = 0
        self._begun = time.strftime("%Y%m%d-%H%M%S")
        self.delivery = Delivery(spool, self.health, to_folder(self._store), 5.0,
                                 self._on_stored, str(folder))
        self.listen(preset.task)
        self.health.figures = self._figures

    def next_attempt(self) -> Attempt | Missing:
        """Return the next demonstration."""
        wanted, recorded = self.settings.episodes, len(self._recorded)
        if wanted and recorded >= wanted:
            if self.delivery.empty:
                self.get_logger().info(f"all {wanted} demonstrations are in"
                                       f" {self._store.folder}, which has {recorded} of source"
                                       f" {self.settings.source}; for more, give more episodes")
                self.stopping.set()
            return Missing(f"all {wanted} demonstrations are recorded")
        other = self.another_encoder(self._encoder, f"the demonstrations in {self._store.folder}")
        if other is not None:
            return other
        number = len(self._store) + len(self.delivery.spool)
        return Attempt(number, f"{self.settings.source}-{self._begun}-{self._made:04d}", 0)

    def finish(self, attempt: Attempt, episode: Episode) -> Episode:
        """Mark the episode as what it is."""
        return replace(episode, source=self.settings.source)

    def ended(self, attempt: Attempt, episode: Episode) -> None:
        """Count it."""
        self._made += 1
        self._encoder = self._encoder or episode.encoder
        self._count(episode)

    def relabelled(self, episode: Episode) -> None:
        """Count it, or not any more."""
        self._count(episode)

    def _count(self, episode: Episode) -> None:
        """Count a demonstration of this source that can be learned from."""
        if episode.trainable and episode.source == self.settings.source:
            self._recorded.add(episode.id)
        else:
            self._recorded.discard(episode.id)

    def close(self) -> None:
        """Keep what could still be labelled, and say what could not be kept."""
        why, spool = self.delivery.hand_over_all(), self.delivery.spool
        if why:
            self.failed = True
            lost = "; what it had only in memory is lost" if self.delivery.blocked else ""
            self.get_logger().error(f"not all demonstrations are kept: {why}; {len(spool)} in"
                                    f" {spool.folder} for the next recorder there{lost}")
        super().close()

    def _on_stored(self, episode_id: str, stored: int) -> None:
        self.told_stored(episode_id)
        self.get_logger().info(f"{episode_id} is kept: {stored} in {self._store.folder}")

    def _figures(self) -> dict[str, object]:
        return {**self.figures(), "recorded": len(self._recorded), "in_folder": len(self._store)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node; return its exit code."""
    return run(Recorder, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
