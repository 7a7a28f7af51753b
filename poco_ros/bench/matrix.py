"""A matrix of runs as a YAML file says it: what is compared on what, how long, how often.

``config/bench/*.yaml`` holds the matrices that come with poco_ros. What is wrong in one (an
unknown key, a seed that stands twice) is refused when the file is read, before anything runs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poco_ros.core import config
from poco_ros.core.config import setting
from poco_ros.core.errors import ConfigError
from poco_ros.preset import preset_folders

BASE = "base"
"""Name of the variant that changes nothing."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class TaskEntry:
    """A task of the matrix."""

    preset: str = setting("", "preset of the task, by name or path; needed")
    overrides: dict[str, Any] = setting(
        dict, "settings laid over the preset, nested: {train: {eval_every: 5000}}")

    def __post_init__(self) -> None:
        if not self.preset:
            raise ConfigError("preset is needed: name the preset of the task, such as"
                              " cpu_cube_single")


@dataclass(frozen=True)
class AlgorithmEntry:
    """An algorithm of the matrix."""

    algorithm: str = setting("", "the algorithm; empty = the entry's own name")
    overrides: dict[str, Any] = setting(dict, "settings laid over the task's, nested")
    per_task: dict[str, dict[str, Any]] = setting(
        dict, "task of the matrix -> settings laid over on this task alone")


@dataclass(frozen=True)
class VariantEntry:
    """A named change of settings, such as a compute saver switched off."""

    overrides: dict[str, Any] = setting(dict, "settings laid over the algorithm's, nested")
    algorithms: tuple[str, ...] = setting(
        (), "algorithms of the matrix that have this variant; empty = all")


@dataclass(frozen=True)
class AblationEntry:
    """One setting at several values; each value is a variant, ``zeta-0.15``."""

    key: str = setting("", "the setting with its section, such as agent.zeta; needed")
    values: tuple[Any, ...] = setting((), "its values, in the order of the figure; needed")
    algorithms: tuple[str, ...] = setting(
        (), "algorithms of the matrix that have it; empty = all")

    def __post_init__(self) -> None:
        if self.key.count(".") != 1:
            raise ConfigError(f"key {self.key!r}: name a setting with its section, such as"
                              " agent.zeta")
        if not self.values:
            raise ConfigError(f"values of {self.key}: name at least one")

    def overrides(self, value: Any) -> dict[str, Any]:
        """Return the settings, nested, that give the ablated one this value."""
        section, name = self.key.split(".")
        return {section: {name: value}}


@dataclass(frozen=True)
class BudgetEntry:
    """How much of everything; what is not said is the preset's."""

    offline_steps: int | None = setting(None, "updates on the demonstrations", minimum=0)
    online_steps: int | None = setting(None, "steps of the environment online", minimum=0)
    eval_every: int | None = setting(None, "steps of the environment between evaluations",
                                     minimum=1)
    eval_episodes: int | None = setting(None, "episodes of an evaluation", minimum=1)

    def overrides(self) -> dict[str, Any]:
        """Return what is said, as settings of the section ``train``."""
        return {"train": {name: value for name, value in config.to_dict(self).items()
                          if value is not None}}


@dataclass(frozen=True)
class Matrix:
    """What is compared: algorithms x tasks x budgets x seeds, and variants of the algorithms."""

    title: str = setting("", "title of tables and figures")
    seeds: tuple[int, ...] = setting((0,), "a run each", minimum=0)
    tasks: dict[str, TaskEntry] = setting(dict, "name -> task; needed")
    algorithms: dict[str, AlgorithmEntry] = setting(dict, "name -> algorithm; needed")
    variants: dict[str, VariantEntry] = setting(dict, "name -> variant")
    ablations: dict[str, AblationEntry] = setting(dict, "name -> ablation")
    budgets: dict[str, BudgetEntry] = setting(dict, "name -> budget; none = the preset's")
    base: bool = setting(True, "run the algorithms unchanged too, beside variants and ablations")
    overrides: dict[str, Any] = setting(
        dict, "settings laid over every preset, nested; what a task, an algorithm, a variant or a"
        " budget says goes over them, in this order")
    data_per_seed: bool = setting(
        False, "make demonstrations of their own for every seed; else they are the preset's. They"
        " are the same for all algorithms in either case")

    def __post_init__(self) -> None:
        if not self.seeds or not self.tasks or not self.algorithms:
            raise ConfigError("a matrix needs at least one seed, one task and one algorithm")
        twice = sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1})
        if twice:
            raise ConfigError(f"seeds: {', '.join(map(str, twice))} stands there more than once; a"
                              " run is a function of its seed, so name each once")
        changed = [BASE, *self.variants, *(f"{name}-{value}" for name, one in
                                           self.ablations.items() for value in one.values)]
        for names in (self.tasks, self.algorithms, self.budgets, changed):
            _check_names(names)
        for name, entry in self.algorithms.items():
            _check_known(entry.per_task, self.tasks, f"algorithms.{name}.per_task", "task")
        for section, named in (("variants", self.variants), ("ablations", self.ablations)):
            for name, one in named.items():
                _check_known(one.algorithms, self.algorithms, f"{section}.{name}.algorithms",
                             "algorithm")
        if not self.base and not self.variants and not self.ablations:
            raise ConfigError("base is false and there are neither variants nor ablations: nothing"
                              " is left to run")


def _check_names(names: Collection[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ConfigError(f"name {twice!r}: two variants are called so; rename one")
    for name in names:
        if not NAME.fullmatch(name):
            raise ConfigError(f"name {name!r}: it becomes a folder; use letters, digits and . _ +"
                              " - only")


def _check_known(names: Iterable[str], known: Mapping[str, Any], where: str, what: str) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{where}: {name!r} is no {what} of this matrix; it has"
                              f" {', '.join(known)}")


def matrix_files() -> dict[str, Path]:
    """Return name -> file of the matrices that come with poco_ros."""
    return {path.stem: path for folder in reversed(preset_folders())
            for path in sorted((folder / "bench").glob("*.yaml"))}


def load_matrix(name: str | Path) -> Matrix:
    """Load a matrix by path, or by the name of one that comes with poco_ros (``small``).

    Raises:
        ConfigError: there is none, or something in it is wrong; file and key are named.
    """
    path = Path(name)
    if not path.is_file():
        known = matrix_files()
        stem = path.stem if path.suffix in (".yaml", ".yml") else str(name)
        if path.parent != Path() or stem not in known:
            raise ConfigError(f"no matrix {str(name)!r}: neither a file nor one of"
                              f" {', '.join(sorted(known))}")
        path = known[stem]
    return config.load(Matrix, path)
