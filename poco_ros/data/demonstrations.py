"""One door to all demonstrations: made where they are missing, loaded, checked."""

from __future__ import annotations

import hashlib
from pathlib import Path

from poco_ros.core import config
from poco_ros.core.episode import Episode, encoder_of
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.errors import DataError
from poco_ros.core.robomimic import ROBOMIMIC_TASKS
from poco_ros.core.task import TaskConfig
from poco_ros.data.config import (
    AUTOMATIC,
    COLLECTED_DOMAINS,
    DemonstrationConfig,
    PlayConfig,
    RobomimicConfig,
)
from poco_ros.data.stored import is_robomimic
from poco_ros.data.summary import check_alike

MADE = ("directed", "play")
"""Kinds of demonstrations that are always made of their settings."""
FOLDER = Path("runs/data")
"""Where demonstrations are kept whose path is not named."""


def load_demonstrations(source: str | Path | DemonstrationConfig, task: TaskConfig,
                        workers: int = 0, show_progress: bool = True) -> list[Episode]:
    """Return the demonstrations for ``task``.

    Args:
        source: settings, and then what is missing is made first (quickly when nothing is); or a
            path: a folder of episodes, an ``.npz`` in OGBench's format, relabelled for ``task``,
            or robomimic's ``.hdf5``.
        task: the task that they are for.
        workers: processes that make what is missing; 0 = one a processor.
        show_progress: draw a progress bar while they do.

    Raises:
        DataError: nothing is there, a file is broken, or what is there is for another task or
            was made with other settings.
    """
    if isinstance(source, DemonstrationConfig):
        episodes = _configured(source, task, workers, show_progress)
    elif Path(source).suffix == ".npz":
        episodes = _relabelled(Path(source), task, 0)
    elif is_robomimic(Path(source)):
        episodes = _robomimic(Path(source), task, "", 0)
    else:
        episodes = _stored(Path(source))
    check_alike(episodes)
    strange = next((episode for episode in episodes if episode.task != task.name), None)
    if strange is not None:
        where = source.path if isinstance(source, DemonstrationConfig) else source
        raise DataError(f"{where}: episode {strange.id} is of task {strange.task!r}, not"
                        f" {task.name!r}")
    return episodes


def demonstrations_path(settings: DemonstrationConfig, task: TaskConfig) -> Path:
    """Return where the demonstrations of ``settings`` are kept.

    Raises:
        DataError: a data set of somebody else's is to be loaded, and its file is not named.
    """
    if settings.path != AUTOMATIC:
        return settings.path
    if settings.kind == "npz":
        raise DataError("demonstrations of kind npz need the path of their .npz file")
    if settings.kind == "episodes":
        return FOLDER / f"{task.name}-taught"
    if not task.simulated:
        raise DataError(f"{task.name}: demonstrations of kind {settings.kind} are made in"
                        " simulation; on the robot record them (poco launch teach) and choose"
                        " kind episodes")
    if settings.kind == "robomimic":
        return made_path(robomimic_settings(settings, task))
    if settings.kind == "play":
        return made_path(play_settings(settings, task))
    from poco_ros.data.directed.generate import settings_text
    return FOLDER / f"{task.name}-directed-{_digest(settings_text(settings, task))}"


def is_made(settings: DemonstrationConfig, task: TaskConfig) -> bool:
    """Return whether the demonstrations are made here of their settings, where they are missing.

    Robomimic's are where no file is named, or one in whatever folder by the name that follows from
    the settings.
    """
    if settings.kind != "robomimic" or settings.path == AUTOMATIC:
        return settings.kind in (*MADE, "robomimic")
    return (task.domain in ROBOMIMIC_TASKS and settings.episodes > 0
            and settings.path.name == made_path(robomimic_settings(settings, task)).name)


def checked_path(settings: DemonstrationConfig, task: TaskConfig) -> Path:
    """Return :func:`demonstrations_path` after all checks that need neither simulator nor file.

    Raises:
        DataError: the settings do not fit each other, or not the task; setting, value and remedy
            are named.
    """
    path = demonstrations_path(settings, task)
    if settings.mask and settings.kind != "robomimic":
        raise DataError(f"{path}: mask {settings.mask!r} is for demonstrations of kind robomimic,"
                        f" not {settings.kind}; leave it empty")
    if is_made(settings, task) and settings.episodes < 1:
        raise DataError(f"{path}: no demonstrations are asked for; set episodes to 1 or more")
    if settings.kind == "robomimic":
        from poco_ros.data.directed.robomimic.operators import MASKS
        from poco_ros.data.robomimic_sets import wanted_by
        wanted_by(task)
        if is_made(settings, task) and settings.mask not in ("", *MASKS):
            raise DataError(f"{path}: mask is {settings.mask!r}, of those that are made there are"
                            f" {', '.join(MASKS)}")
    return path


def made_path(settings: PlayConfig | RobomimicConfig) -> Path:
    """Return where a file that is made with ``settings`` is kept and looked for."""
    if isinstance(settings, PlayConfig):
        return FOLDER / f"{settings.domain}-play-{_digest(config.to_yaml(settings))}.npz"
    return FOLDER / f"{settings.task}-robomimic-{_digest(config.to_yaml(settings))}.hdf5"


def play_settings(settings: DemonstrationConfig, task: TaskConfig) -> PlayConfig:
    """Return OGBench's own settings of play data, with the number and the seed asked for."""
    if task.domain not in COLLECTED_DOMAINS:
        raise DataError(f"{task.name}: there are no play data for {task.domain}; choose kind"
                        " directed")
    return PlayConfig(domain=task.domain, num_trajs=settings.episodes, seed=settings.seed)


def robomimic_settings(settings: DemonstrationConfig, task: TaskConfig) -> RobomimicConfig:
    """Return the settings of demonstrations that are made as robomimic's are."""
    if task.domain not in ROBOMIMIC_TASKS:
        raise DataError(f"{task.name}: RoboMimic has no task {task.domain}, it has"
                        f" {', '.join(ROBOMIMIC_TASKS)}; choose kind directed")
    return RobomimicConfig(task=task.domain, num_trajs=settings.episodes, noise=settings.noise,
                           noise_smoothing=settings.noise_smoothing, attempts=settings.attempts,
                           keep_failures=settings.keep_failures, seed=settings.seed)


def _configured(settings: DemonstrationConfig, task: TaskConfig, workers: int,
                show_progress: bool) -> list[Episode]:
    path = checked_path(settings, task)
    if settings.kind == "npz":
        return _relabelled(path, task, settings.episodes)
    if settings.kind == "episodes":
        stored = _stored(path)[:settings.episodes or None]
        encoder_of(stored, str(path))
        return stored
    if settings.kind == "robomimic" and (not is_made(settings, task) or _is_copy(settings)):
        return _robomimic(path, task, settings.mask, settings.episodes)
    if settings.kind == "robomimic":
        from poco_ros.data.robomimic_made import generate_robomimic
        generate_robomimic(robomimic_settings(settings, task), path, workers, show_progress)
        return _robomimic(path, task, settings.mask, 0)
    if settings.kind == "play":
        from poco_ros.data.play import generate_ogbench
        generate_ogbench(play_settings(settings, task), path, workers, show_progress)
        return _relabelled(path, task, settings.episodes)
    from poco_ros.data.directed.generate import generate_directed
    return generate_directed(settings, path, task, workers, show_progress)


def _is_copy(settings: DemonstrationConfig) -> bool:
    """Return whether the named file is there without the settings that are written beside it."""
    from poco_ros.data.shards import settings_path  # brings the pool of those who make data
    path = settings.path
    return path != AUTOMATIC and path.exists() and not settings_path(path).exists()


def _relabelled(path: Path, task: TaskConfig, trajectories: int) -> list[Episode]:
    from poco_ros.data.relabel import load_play_episodes
    return load_play_episodes(path, task, trajectories)


def _robomimic(path: Path, task: TaskConfig, mask: str, demos: int) -> list[Episode]:
    from poco_ros.data.robomimic_sets import load_robomimic
    return load_robomimic(path, task, mask, demos)


def _stored(folder: Path) -> list[Episode]:
    if not folder.is_dir() or not any(folder.glob("*.safetensors")):
        raise DataError(f"{folder}: there are no demonstrations; record some with poco launch"
                        " teach, or name the folder that has them")
    return [episode for episode in EpisodeStore(folder) if episode.trainable]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
