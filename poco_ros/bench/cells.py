"""The cells of a matrix: every run that it asks for, resolved, hashed and checked.

A cell is a preset with overrides, and a seed. Its hash is one of its whole resolved configuration,
so two cells that differ in any setting never share a folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from poco_ros.bench.matrix import BASE, BudgetEntry, Matrix
from poco_ros.core import config
from poco_ros.core.config import merge, read_yaml, setting
from poco_ros.core.errors import ConfigError, PocoError
from poco_ros.core.task import TaskConfig
from poco_ros.data.config import AUTOMATIC
from poco_ros.data.demonstrations import checked_path, demonstrations_path, is_made
from poco_ros.learning.config import GenerativeConfig, shared_settings
from poco_ros.preset import Preset, find_preset, load_preset


@dataclass(frozen=True)
class CellRecord:
    """What identifies a cell, and what tables and figures need to know of it. Kept as JSON."""

    task: str = setting("", "the task's name in the matrix")
    algorithm: str = setting("", "the algorithm's name in the matrix")
    variant: str = setting(BASE, "the variant's name, with @budget where the matrix has budgets")
    seed: int = setting(0, "seed of the run")
    hash: str = setting("", "of the resolved configuration and the seed")
    domain: str = setting("", "simulated domain")
    reward: str = setting("sparse", "what is rewarded")
    number: int = setting(1, "OGBench's variant of it")
    own_time_limit: bool = setting(True, "whether the time limit is the benchmark's own")
    clones: bool = setting(True, "whether its policy at step 0 is a cloned one")
    offline_steps: int = setting(0, "updates of the offline stage")
    online_steps: int = setting(0, "steps of the online stage")
    eval_every: int = setting(0, "steps between evaluations")
    eval_episodes: int = setting(0, "episodes of an evaluation; 0 = not noted")
    ablation: str = setting("", "the ablation that the variant belongs to")
    value: str = setting("", "the ablated setting's value")

    @property
    def name(self) -> str:
        """Task, algorithm, variant and seed: what a person calls the cell."""
        return f"{self.task}/{self.algorithm}/{self.variant}/seed{self.seed}"

    @property
    def folder(self) -> Path:
        """The cell's folder, relative to that of all cells."""
        return Path(f"{self.name}-{self.hash}")

    @property
    def label(self) -> str:
        """What the cell's curve is called: the algorithm, and the variant if it is one."""
        return self.algorithm if self.variant == BASE else f"{self.algorithm} {self.variant}"


@dataclass(frozen=True)
class Cell:
    """One run of the matrix."""

    record: CellRecord
    preset: Preset
    """Resolved; where its demonstrations lie is decided by the folder of the bench."""


def expand(matrix: Matrix, device: str = "") -> list[Cell]:
    """Return every cell of ``matrix``, checked; seeds come last, so that tasks finish in turn.

    Args:
        matrix: what to compare.
        device: the torch device of every cell; empty = what the presets say.

    Raises:
        ConfigError: an algorithm that does not exist, settings that a preset refuses, a task that
            an algorithm cannot do, data that are not equal for all algorithms of a task, or one
            configuration asked for twice. Nothing has run then.
    """
    cells: list[Cell] = []
    for task in matrix.tasks:
        for variant in _variants(matrix):
            cells += _cells_of(matrix, task, variant, device)
    _check_equal_data(cells)
    _check_different(cells)
    return cells


def choose(cells: list[Cell], words: Sequence[str]) -> list[Cell]:
    """Return the cells that all ``words`` fit: one part of the cell's name each.

    Parts are task, algorithm, variant and seed (``seed0``). A word may have patterns (``zeta-*``)
    and alternatives (``qc,fql``).

    Raises:
        ConfigError: nothing is left; the parts that there are are listed.
    """
    def fits(cell: Cell) -> bool:
        return all(any(fnmatchcase(part, pattern) for part in cell.record.name.split("/")
                       for pattern in word.split(",")) for word in words)

    chosen = [cell for cell in cells if fits(cell)]
    if not chosen:
        parts = dict.fromkeys(part for cell in cells for part in cell.record.name.split("/"))
        raise ConfigError(f"--only {' '.join(words)}: no cell is left; its parts can be"
                          f" {', '.join(parts)}")
    return chosen


@dataclass(frozen=True)
class _Variant:
    """One algorithm in one variant and budget."""

    algorithm: str
    name: str
    overrides: dict[str, Any]
    ablation: str = ""
    value: str = ""


def _variants(matrix: Matrix) -> Iterator[_Variant]:
    """Yield algorithms x (base, variants, ablated values) x budgets."""
    for algorithm in matrix.algorithms:
        found = [_Variant(algorithm, BASE, {})] if matrix.base else []
        found += [_Variant(algorithm, name, one.overrides)
                  for name, one in matrix.variants.items()
                  if algorithm in (one.algorithms or matrix.algorithms)]
        found += [_Variant(algorithm, f"{name}-{value}", one.overrides(value), name, str(value))
                  for name, one in matrix.ablations.items()
                  if algorithm in (one.algorithms or matrix.algorithms) for value in one.values]
        budgets = matrix.budgets or {"": BudgetEntry()}
        for variant in found:
            for name, budget in budgets.items():
                yield dataclasses.replace(
                    variant, name=f"{variant.name}@{name}" if name else variant.name,
                    overrides=merge(variant.overrides, budget.overrides()))


def _cells_of(matrix: Matrix, task: str, variant: _Variant, device: str) -> list[Cell]:
    """Return the cells of one task, algorithm and variant: one a seed."""
    where = f"{task}/{variant.algorithm}/{variant.name}"
    entry = matrix.algorithms[variant.algorithm]
    algorithm = entry.algorithm or variant.algorithm
    values = _for_algorithm(read_yaml(find_preset(matrix.tasks[task].preset)), algorithm)
    for over in (matrix.overrides, matrix.tasks[task].overrides, entry.overrides,
                 entry.per_task.get(task, {}), variant.overrides):
        values = merge(values, over)
    if device:
        values = merge(values, {"train": {"device": device}})
    preset = _load(values, where)
    _check_possible(preset, where)
    return [_cell(preset, task, variant, seed, matrix.data_per_seed) for seed in matrix.seeds]


def _for_algorithm(values: Mapping[str, Any], algorithm: str) -> dict[str, Any]:
    """Return a preset's values for ``algorithm``: of another's agent settings the common ones."""
    agent = values.get("agent") or {}
    if not isinstance(agent, Mapping):
        return dict(values)  # refused when the preset is loaded
    return {**values, "agent": {**shared_settings(agent, algorithm), "algorithm": algorithm}}


def _load(values: Mapping[str, Any], where: str) -> Preset:
    """Return the preset of ``values``, through the same door as ``poco train``."""
    with tempfile.TemporaryDirectory(prefix="poco-bench-") as folder:
        path = Path(folder) / "preset.yaml"
        path.write_text(yaml.safe_dump(dict(values)))
        try:
            return load_preset(path)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(path), where)) from error


def _check_possible(preset: Preset, where: str) -> None:
    """Raise ConfigError when the task cannot be run here, or its data cannot be had."""
    if not preset.task.simulated:
        raise ConfigError(f"{where}: {preset.task.name} is a task on the robot, which a person"
                          " sets and labels; a bench runs simulated tasks")
    if not preset.train.eval_every:
        raise ConfigError(f"{where}: train.eval_every is 0, so nothing would be measured; say"
                          " after how many steps to evaluate")
    try:
        path = checked_path(preset.demonstrations, preset.task)
    except PocoError as error:
        raise ConfigError(f"{where}: {error}") from error
    if is_made(preset.demonstrations, preset.task):
        return
    if not path.exists():
        raise ConfigError(f"{where}: {path}: there are no demonstrations there, and those of kind"
                          f" {preset.demonstrations.kind} with a path are not made here")
    if preset.demonstrations.kind == "robomimic":
        from poco_ros.data.robomimic_sets import check_robomimic
        try:
            check_robomimic(path, preset.task)
        except PocoError as error:
            raise ConfigError(f"{where}: {error}") from error


def _cell(preset: Preset, task: str, variant: _Variant, seed: int, data_per_seed: bool) -> Cell:
    if data_per_seed:
        preset = dataclasses.replace(preset, demonstrations=dataclasses.replace(
            preset.demonstrations, seed=seed))
    train = preset.train
    return Cell(CellRecord(
        task=task, algorithm=variant.algorithm, variant=variant.name, seed=seed,
        hash=configuration_hash(preset, seed), domain=preset.task.domain,
        reward=preset.task.reward,
        number=preset.task.number, own_time_limit=not preset.task.max_episode_steps,
        clones=isinstance(preset.agent, GenerativeConfig) and train.offline_steps > 0,
        offline_steps=train.offline_steps, online_steps=train.online_steps,
        eval_every=train.eval_every, eval_episodes=train.eval_episodes,
        ablation=variant.ablation, value=variant.value), preset)


def configuration_hash(preset: Preset, seed: int) -> str:
    """Return eight hexadecimal digits that stand for all that a run is a function of.

    The graph's section is left out, for no graph runs here, and so are the number of actors, which
    changes no result, and the folder of demonstrations that are made from settings: those settings
    count, not where the bench keeps what is made. A setting that was added later counts from its
    neutral value on, so that the finished results of before stay those of their configuration.
    Of demonstrations that are found, what is in them counts.
    """
    values = config.identity(preset)
    del values["graph"], values["train"]["actors"]
    if is_made(preset.demonstrations, preset.task):
        del values["demonstrations"]["path"]
    else:
        values["demonstrations"]["content"] = _content(preset.demonstrations.path)
    text = json.dumps([values, seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _content(path: Path) -> str:
    """Return a digest of a file, or of the files of a folder; empty where there is nothing."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    found = [(str(file.relative_to(path)), _digest(file, file.stat().st_size,
                                                   file.stat().st_mtime_ns))
             for file in files if file.exists()]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


@lru_cache
def _digest(file: Path, size: int, changed: int) -> str:
    """Return a digest of a file as it is; all cells of a matrix ask for the same ones."""
    found = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def with_data_below(preset: Preset, folder: Path) -> Preset:
    """Return ``preset`` with the demonstrations that it makes kept in ``folder``.

    Their name there holds a hash of their settings, so all cells with equal settings share them.
    """
    if not is_made(preset.demonstrations, preset.task) or preset.demonstrations.path != AUTOMATIC:
        return preset
    name = demonstrations_path(preset.demonstrations, preset.task).name
    return dataclasses.replace(preset, demonstrations=dataclasses.replace(
        preset.demonstrations, path=folder / name))


def _check_equal_data(cells: list[Cell]) -> None:
    """Raise ConfigError unless a task's algorithms have equal data in equal variants."""
    first: dict[tuple[str, str, int], Cell] = {}
    for cell in cells:
        record = cell.record
        other = first.setdefault((record.task, record.variant, record.seed), cell)
        if _data_of(other.preset) != _data_of(cell.preset):
            raise ConfigError(f"{record.name} and {other.record.name} would learn from different"
                              " demonstrations; say what they are in the task or in a variant, so"
                              " that all algorithms have the same")


def _data_of(preset: Preset) -> tuple[object, object]:
    """Return what demonstrations and evaluation episodes are a function of, rewards apart.

    The same motions may be rewarded on another scale where an algorithm wants it.
    """
    task = dataclasses.replace(preset.task, reward=TaskConfig().reward,
                               reward_offset=TaskConfig().reward_offset)
    return preset.demonstrations, task


def _check_different(cells: list[Cell]) -> None:
    """Raise ConfigError when two cells are one and the same run."""
    first: dict[str, Cell] = {}
    for cell in cells:
        other = first.setdefault(cell.record.hash, cell)
        if other is not cell:
            raise ConfigError(f"{cell.record.name} and {other.record.name} are the same"
                              " configuration; leave one out (base: false leaves the unchanged"
                              " algorithms out)")
