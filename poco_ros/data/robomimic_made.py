"""RoboMimic's demonstrations, made here: a file as robomimic publishes them, key for key.

Six scripted operators of different skill work in turn, see
:mod:`poco_ros.data.directed.robomimic`. Demonstration i is a function of the seed and of i, so
neither the number of processes nor an interruption changes the data. Each finished one is on disk
at once; ``kill -9`` loses those in work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from poco_ros.core import config
from poco_ros.core.episode import Episode
from poco_ros.core.errors import DataError
from poco_ros.core.files import write_atomic
from poco_ros.core.robomimic import ROBOMIMIC_TASKS
from poco_ros.core.task import TaskConfig
from poco_ros.data.config import RobomimicConfig
from poco_ros.data.directed.generate import demonstrate
from poco_ros.data.directed.robomimic.demonstrator import RobomimicDemonstrator
from poco_ros.data.directed.robomimic.operators import OPERATORS
from poco_ros.data.robomimic import Demo, write_robomimic
from poco_ros.data.robomimic_sets import load_robomimic
from poco_ros.data.seeded import ROBOMIMIC, demonstration_seed, global_numpy_seed
from poco_ros.data.shards import (
    Shards,
    claim,
    make_missing,
    make_once,
    parts_of,
    settings_path,
)
from sim_bridge.processes import Handler
from sim_bridge.robosuite_env import ENVIRONMENTS, RobosuiteEnvironment

MOST_ATTEMPTS = 100


def generate_robomimic(settings: RobomimicConfig, out: str | Path, workers: int = 0,
                       show_progress: bool = True) -> Path:
    """Make ``out`` (``.hdf5``), or what of it is missing; return ``out``.

    Args:
        settings: what to make.
        out: the file. Beside it: ``<stem>.yaml``, the settings, and while data are being made
            ``<stem>.parts/``, the finished demonstrations.
        workers: processes; 0 = one a processor.
        show_progress: draw a progress bar.

    Raises:
        DataError: there are data with other settings at ``out``, a worker found no way to
            succeed, or what was made does not pass the loader's checks.
    """
    out = Path(out)
    if out.suffix != ".hdf5":
        raise DataError(f"{out}: the name of a robomimic file must end in .hdf5")
    make_once(out, lambda: _is_made(settings, out),
              lambda: _make(settings, out, workers, show_progress))
    return out


def _is_made(settings: RobomimicConfig, out: Path) -> bool:
    parts = parts_of(out)
    claim(config.to_yaml(settings), parts, out)
    return out.exists() and not parts.folder.exists()  # pieces go last, when all has been checked


def _make(settings: RobomimicConfig, out: Path, workers: int, show_progress: bool) -> None:
    text, parts = config.to_yaml(settings), parts_of(out)
    if not out.exists():
        arguments = {"settings": config.to_dict(settings), "folder": str(parts.folder)}
        make_missing(parts, text, settings.num_trajs, f"{__name__}:demonstration_handler",
                     arguments, f"demonstrations, {settings.task}", workers, show_progress)
        env_args = json.loads(str(parts.read(0)["env_args"]))
        write_atomic(settings_path(out), text)
        write_robomimic(out, _read(parts, settings), ROBOMIMIC_TASKS[settings.task].layout,
                        env_args)
    load_robomimic(out, TaskConfig(domain=settings.task))
    parts.remove()


def demonstration_handler(settings: dict[str, object], folder: str) -> Handler:
    """Return what a worker runs: the question is a demonstration's number, the answer its steps.
    """
    wanted = config.from_dict(RobomimicConfig, settings, "robomimic demonstrations")
    parts = Shards(Path(folder))
    environment = ENVIRONMENTS[wanted.task](TaskConfig(domain=wanted.task))
    demonstrator = RobomimicDemonstrator(environment, wanted.noise, wanted.noise_smoothing,
                                         wanted.attempts)

    def handle(payload: bytes, shared: bytes) -> bytes:
        index = int(json.loads(payload))
        demo = make_demo(environment, demonstrator, wanted, index)
        assert demo.states is not None
        parts.write(index, {
            "episode": np.frombuffer(demo.episode.to_bytes(), np.uint8), "states": demo.states,
            "model_file": np.array(demo.model_file), "masks": np.array(demo.masks),
            "env_args": np.array(json.dumps(environment.env_args()))})
        return json.dumps(len(demo.episode)).encode()

    return handle


def make_demo(environment: RobosuiteEnvironment, demonstrator: RobomimicDemonstrator,
              settings: RobomimicConfig, index: int) -> Demo:
    """Return demonstration ``index``, a function of the settings' seed and of the index.

    Raises:
        DataError: failures are not to be kept, and one attempt after the other failed.
    """
    name = f"demo-{environment.spec.task}-{settings.seed}-{index:06d}"
    operator = demonstrator.operator = OPERATORS[index % len(OPERATORS)]
    states: list[np.ndarray] = []
    for attempt in range(MOST_ATTEMPTS):
        seed = demonstration_seed(settings.seed, ROBOMIMIC, index, attempt)
        states.clear()
        with global_numpy_seed(seed):
            episode = demonstrate(environment, demonstrator, seed, name,
                                  lambda: states.append(environment.flat_state()))
        if episode.success or settings.keep_failures:
            recovered = episode.success and demonstrator.mishaps > 0
            masks = (operator.name, operator.group, *(["recovered"] * recovered))
            return Demo(episode, np.stack(states), environment.model_xml(), masks)
    raise DataError(f"{name}: {MOST_ATTEMPTS} attempts in a row failed; lower the noise"
                    f" ({settings.noise:g}), raise the attempts or keep failures")


def split_of(settings: RobomimicConfig) -> list[str]:
    """Return the filter key of each demonstration, ``train`` or ``valid``."""
    count, share = settings.num_trajs, settings.valid_share
    held_out = max(round(share * count), 1) if share and count > 1 else 0
    order = np.random.default_rng(settings.seed).permutation(count)
    valid = set(order[:held_out].tolist())
    return ["valid" if number in valid else "train" for number in range(count)]


def _read(parts: Shards, settings: RobomimicConfig) -> Iterator[Demo]:
    """Yield the pieces in order."""
    for number, key in enumerate(split_of(settings)):
        piece = parts.read(number)
        yield Demo(Episode.from_bytes(piece["episode"].tobytes(), str(parts.path(number))),
                   piece["states"], str(piece["model_file"]), (*piece["masks"].tolist(), key))
