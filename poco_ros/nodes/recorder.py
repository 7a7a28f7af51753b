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
from poco_ros.core.episode import Episode
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
    episodes: int = setting(0, "end when so many were recorded; 0 = when stopped", minimum=0)


class Recorder(EpisodeMaker):
    """Records what a person shows."""

    settings: RecorderSettings

    def __init__(self) -> None:
        super().__init__("recorder")
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
        self._made = self._recorded = 0
        self._begun = time.strftime("%Y%m%d-%H%M%S")
        self.delivery = Delivery(Spool(folder / "spool"), self.health, to_folder(self._store),
                                 5.0, self._on_stored, str(folder))
        self.listen(preset.task)
        self.health.figures = self._figures

    def next_attempt(self) -> Attempt | Missing:
        """Return the next demonstration."""
        if self.settings.episodes and self._recorded >= self.settings.episodes:
            if self.delivery.empty:
                self.get_logger().info(f"all {self._recorded} demonstrations are in"
                                       f" {self._store.folder}")
                self.stopping.set()
            return Missing(f"all {self._recorded} demonstrations are recorded")
        number = len(self._store) + len(self.delivery.spool)
        return Attempt(number, f"{self.settings.source}-{self._begun}-{self._made:04d}", 0)

    def finish(self, attempt: Attempt, episode: Episode) -> Episode:
        """Mark the episode as what it is."""
        return replace(episode, source=self.settings.source)

    def ended(self, attempt: Attempt, episode: Episode) -> None:
        """Count it, and whether it can be learned from."""
        self._made += 1
        self._recorded += episode.trainable

    def _on_stored(self, episode_id: str, stored: int) -> None:
        self.told_stored(episode_id)
        self.get_logger().info(f"{episode_id} is kept: {stored} in {self._store.folder}")

    def _figures(self) -> dict[str, object]:
        return {**self.figures(), "recorded": self._recorded, "in_folder": len(self._store)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node; return its exit code."""
    return run(Recorder, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
