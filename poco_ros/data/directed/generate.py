"""Directed demonstrations: made on all processors, kept in order, gone on with after a stop."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml

from poco_ros.core import config
from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.errors import DataError
from poco_ros.core.files import write_atomic
from poco_ros.core.robomimic import ROBOMIMIC_TASKS
from poco_ros.core.task import TaskConfig
from poco_ros.data.config import DemonstrationConfig
from poco_ros.data.directed.contract import Demonstrator
from poco_ros.data.progress import progress_bar
from poco_ros.data.seeded import DIRECTED, demonstration_seed, global_numpy_seed
from poco_ros.data.shards import SETTINGS, check_settings, make_once
from sim_bridge.factory import make_environment
from sim_bridge.processes import Handler, ProcessPool
from sim_bridge.simulated import SimulatedEnvironment

MOST_ATTEMPTS = 100


def generate_directed(settings: DemonstrationConfig, folder: Path, task: TaskConfig,
                      workers: int = 0, show_progress: bool = True) -> list[Episode]:
    """Make the directed demonstrations that ``folder`` lacks; return all of them.

    Args:
        settings: what to make; asking for more episodes later goes on where it ended.
        folder: where they are kept, an :class:`EpisodeStore`.
        task: the task that is demonstrated.
        workers: processes; 0 = one a processor.
        show_progress: draw a progress bar.

    Raises:
        DataError: there are demonstrations with other settings in the folder, or one of its files
            is broken.
    """
    make_once(folder, lambda: _is_made(settings, folder, task),
              lambda: _make(settings, folder, task, workers, show_progress))
    store = EpisodeStore(folder)
    return [store[number] for number in range(settings.episodes)]


def _is_made(settings: DemonstrationConfig, folder: Path, task: TaskConfig) -> bool:
    known = folder / SETTINGS
    there = sum(1 for _ in folder.glob("*.safetensors"))  # first: they follow their settings
    if known.exists():
        check_settings(known, settings_text(settings, task), f"delete {folder}")
    elif there:
        raise DataError(f"{folder}: holds episodes that were not made here; choose another"
                        " folder")
    return there >= settings.episodes


def _make(settings: DemonstrationConfig, folder: Path, task: TaskConfig, workers: int,
          show_progress: bool) -> None:
    store = EpisodeStore(folder)
    missing = range(len(store), settings.episodes)
    arguments = {"settings": config.to_dict(settings), "task": config.to_dict(task)}
    workers = min(workers or len(os.sched_getaffinity(0)), len(missing))
    with progress_bar(f"demonstrations, {task.name}", missing.stop, missing.start,
                      show_progress) as advance, \
            ProcessPool(f"{__name__}:demonstration_handler", arguments, workers) as pool:
        for content in pool.map(json.dumps(index).encode() for index in missing):
            episode = Episode.from_bytes(content, "a worker's demonstration")
            if not len(store):  # not before: a try that makes nothing leaves nothing behind
                write_atomic(store.folder / SETTINGS, settings_text(settings, task))
            store.add(episode)
            advance(1, len(episode))


def settings_text(settings: DemonstrationConfig, task: TaskConfig) -> str:
    """Return, as YAML, what the demonstrations are a function of; their number is not part."""
    words = config.to_dict(settings)
    for name in ("kind", "path", "episodes", "mask"):
        del words[name]
    words.update({f"task.{name}": value for name, value in config.to_dict(task).items()})
    return yaml.safe_dump(words, sort_keys=False)


def demonstration_handler(settings: dict[str, object], task: dict[str, object]) -> Handler:
    """Return what a worker runs: the question is an episode's number, the answer the episode."""
    wanted = config.from_dict(DemonstrationConfig, settings, "demonstrations")
    environment = make_environment(config.from_dict(TaskConfig, task, "task"))
    demonstrator = make_demonstrator(environment, wanted)

    def handle(payload: bytes, shared: bytes) -> bytes:
        index = int(json.loads(payload))
        return make_demonstration(environment, demonstrator, wanted, index).to_bytes()

    return handle


def make_demonstrator(environment: SimulatedEnvironment,
                      settings: DemonstrationConfig) -> Demonstrator:
    """Return the demonstrator for ``environment``."""
    how = (settings.noise, settings.noise_smoothing, settings.attempts)
    if environment.task.domain in ROBOMIMIC_TASKS:
        from poco_ros.data.directed.robomimic.demonstrator import RobomimicDemonstrator
        from sim_bridge.robosuite_env import RobosuiteEnvironment
        assert isinstance(environment, RobosuiteEnvironment)
        return RobomimicDemonstrator(environment, *how)
    from poco_ros.data.directed.ogbench import OGBenchDemonstrator
    from sim_bridge.ogbench_env import OGBenchEnvironment
    assert isinstance(environment, OGBenchEnvironment)
    return OGBenchDemonstrator(environment, *how)


def make_demonstration(environment: SimulatedEnvironment, demonstrator: Demonstrator,
                       settings: DemonstrationConfig, index: int) -> Episode:
    """Return demonstration ``index``, a function of the settings' seed and of the index.

    Raises:
        DataError: failures are not to be kept, and one attempt after the other failed.
    """
    name = f"demo-{environment.spec.task}-{settings.seed}-{index:06d}"
    for attempt in range(MOST_ATTEMPTS):
        seed = demonstration_seed(settings.seed, DIRECTED, index, attempt)
        with global_numpy_seed(seed):
            episode = demonstrate(environment, demonstrator, seed, name)
        if episode.success or settings.keep_failures:
            return episode
    raise DataError(f"{name}: {MOST_ATTEMPTS} attempts in a row failed; lower the noise"
                    f" ({settings.noise:g}), raise the attempts or keep failures")


def demonstrate(environment: SimulatedEnvironment, demonstrator: Demonstrator, seed: int,
                name: str, before_step: Callable[[], None] = lambda: None) -> Episode:
    """Run one episode until success, the end of the plan or the time limit.

    An episode that ends with its plan counts as truncated: its last state has a value.
    ``before_step`` is called in each state that an action is taken in.
    """
    observations = [environment.reset(seed)]
    actions: list[np.ndarray] = []
    rewards: list[float] = []
    notes: tuple[str, ...] = ()
    terminated = truncated = False
    demonstrator.begin()
    while not (terminated or truncated):
        wanted = demonstrator.act()
        if wanted is None:
            truncated, notes = True, ("the plan ended without success",)
            break
        before_step()
        action = wanted.astype(np.float32)
        step = environment.step(action)
        actions.append(action)
        rewards.append(step.reward)
        observations.append(step.observation)
        terminated, truncated = step.terminated, step.truncated
    period = round(environment.spec.control_period * 1e9)
    return Episode(
        id=name,
        observations=np.stack(observations),
        actions=np.stack(actions),
        rewards=np.asarray(rewards, np.float32),
        terminated=terminated,
        truncated=truncated,
        outcome=Outcome.SUCCESS if terminated else Outcome.FAILURE,
        stamps=np.arange(len(observations), dtype=np.int64) * period,
        task=environment.spec.task,
        source="demonstration",
        notes=(*notes, *demonstrator.notes),
    )
