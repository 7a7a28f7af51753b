"""Published numbers that measured curves are held against, from ``config/bench/anchors``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from poco_ros.bench.cells import CellRecord
from poco_ros.core import config
from poco_ros.core.config import setting
from poco_ros.core.errors import ConfigError
from poco_ros.preset import find_settings

PUBLISHED = "bench/anchors/published.yaml"


@dataclass(frozen=True)
class AnchoredTask:
    """Published success on one task."""

    domain: str = setting("", "simulated domain; needed")
    number: int = setting(1, "OGBench's single-task variant", minimum=1)
    reward: str = setting("sparse", "what they were rewarded for, up to offset and scale",
                          choices=("sparse", "staged"))
    success: dict[str, tuple[float, ...]] = setting(
        dict, "algorithm -> success at each of the steps", unit="%")


@dataclass(frozen=True)
class Anchors:
    """Published success of algorithms over steps of the environment."""

    source: str = setting("", "where the numbers come from, and what they are of; needed")
    label: str = setting("published", "what they are called in the legend of a figure")
    steps: tuple[int, ...] = setting((), "online steps of the environment; needed", minimum=0)
    tasks: tuple[AnchoredTask, ...] = setting((), "the tasks")

    def __post_init__(self) -> None:
        if not self.source or not self.steps:
            raise ConfigError("anchors need their source and their steps")
        for task in self.tasks:
            for algorithm, values in task.success.items():
                if len(values) != len(self.steps):
                    raise ConfigError(f"{task.domain}: {algorithm} has {len(values)} numbers for"
                                      f" {len(self.steps)} steps")

    def of(self, record: CellRecord) -> dict[str, tuple[float, ...]]:
        """Return algorithm -> success [%] at the steps, where a cell's task is the same.

        Another time limit, or another reward, makes another task.
        """
        if not record.own_time_limit:
            return {}
        return next((task.success for task in self.tasks
                     if (task.domain, task.number, task.reward)
                     == (record.domain, record.number, record.reward)), {})


def load_anchors(name: str | Path = PUBLISHED) -> Anchors:
    """Load anchors by path or by their name below ``config/``.

    Raises:
        ConfigError: there is no such file, or something in it is wrong.
    """
    return config.load(Anchors, find_settings(name))
