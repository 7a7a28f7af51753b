"""OGBench's play data, made again: the files are like the official ones, key for key.

An oracle pursues one random target after another; a trajectory has 1,001 rows. Trajectory i is a
function of the seed and of i, so neither the number of processes nor an interruption changes the
data. Each finished trajectory is on disk at once; ``kill -9`` loses those in work.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from poco_ros.core import config
from poco_ros.core.errors import DataError
from poco_ros.core.files import PREFIX, replacing, write_atomic
from poco_ros.data.config import PlayConfig
from poco_ros.data.ogbench_format import FORMATS, read_play_data
from poco_ros.data.oracles import make_oracles
from poco_ros.data.seeded import PLAY, demonstration_seed, global_numpy_seed
from poco_ros.data.shards import (
    Shards,
    claim,
    make_missing,
    make_once,
    parts_of,
    settings_path,
)
from sim_bridge.ogbench_models import Repeatable, make_collection
from sim_bridge.processes import Handler

STACKING = {"cube-single": (0.0, 0.0), "cube-double": (0.0, 0.25), "cube-triple": (0.05, 0.35)}
"""Bounds of a trajectory's probability that a cube is put onto another; else 0.5."""
MOST_ATTEMPTS = 100


def validation_path(path: Path) -> Path:
    """Return where the validation set of the training set ``path`` is kept."""
    return path.with_name(f"{path.stem}-val.npz")


def validation_trajectories(num_trajs: int) -> int:
    """Return how many trajectories the validation set has: a tenth, and at least one."""
    return max(1, num_trajs // 10)


def generate_ogbench(settings: PlayConfig, out: str | Path, workers: int = 0,
                     show_progress: bool = True) -> Path:
    """Make ``out`` (``.npz``) and its ``-val.npz``, or what of them is missing; return ``out``.

    Args:
        settings: what to make.
        out: the training set's file. Beside it: ``<stem>.yaml``, the settings, and while data
            are being made ``<stem>.parts/``, the finished trajectories.
        workers: processes; 0 = one a processor.
        show_progress: draw a progress bar.

    Raises:
        DataError: there are data with other settings at ``out``, or what was made does not
            pass the loader's checks.
    """
    out = Path(out)
    if out.suffix != ".npz":
        raise DataError(f"{out}: the name of a data set must end in .npz")
    make_once(out, lambda: _is_made(settings, out),
              lambda: _make(settings, out, workers, show_progress))
    return out


def _is_made(settings: PlayConfig, out: Path) -> bool:
    parts, validation = parts_of(out), validation_path(out)
    claim(config.to_yaml(settings), parts, out, validation)
    # Pieces go last, when all has been checked.
    return out.exists() and validation.exists() and not parts.folder.exists()


def _make(settings: PlayConfig, out: Path, workers: int, show_progress: bool) -> None:
    text, parts, validation = config.to_yaml(settings), parts_of(out), validation_path(out)
    if not (out.exists() and validation.exists()):
        total = settings.num_trajs + validation_trajectories(settings.num_trajs)
        arguments = {"settings": config.to_dict(settings), "folder": str(parts.folder)}
        make_missing(parts, text, total, f"{__name__}:trajectory_handler", arguments,
                     f"play data, {settings.domain}", workers, show_progress)
        write_atomic(settings_path(out), text)
        _assemble(parts, settings, range(settings.num_trajs, total), validation)
        _assemble(parts, settings, range(settings.num_trajs), out)
    for path in (validation, out):
        read_play_data(path, settings.domain)
    parts.remove()


def trajectory_handler(settings: dict[str, object], folder: str) -> Handler:
    """Return what a worker runs: the question is a trajectory's number, the answer its steps."""
    play = config.from_dict(PlayConfig, settings, "play data")
    parts = Shards(Path(folder))
    simulator = make_collection(play.domain)
    simulator.reset(seed=0)  # an episode must not depend on being the first

    def handle(payload: bytes, shared: bytes) -> bytes:
        index = int(json.loads(payload))
        parts.write(index, make_trajectory(simulator, play, index))
        return json.dumps(play.trajectory_steps).encode()

    return handle


def make_trajectory(simulator: Repeatable, play: PlayConfig, index: int) -> dict[str, np.ndarray]:
    """Return trajectory ``index``: key -> array of ``trajectory_steps`` rows."""
    for attempt in range(MOST_ATTEMPTS):
        seed = demonstration_seed(play.seed, PLAY, index, attempt)
        with global_numpy_seed(seed):
            arrays = _collect(simulator, play, seed)
        if play.domain != "scene" or _is_healthy(arrays["qpos"]):
            return arrays
    raise DataError(f"trajectory {index} of {play.domain}: {MOST_ATTEMPTS} attempts in a row lost"
                    " the cube; is the noise too high?")


def _collect(simulator: Repeatable, play: PlayConfig, seed: int) -> dict[str, np.ndarray]:
    oracles = make_oracles(simulator, play.noise, play.noise_smoothing)
    observation, info = simulator.reset(seed=seed)
    low, high = STACKING.get(play.domain, (0.5, 0.5))
    p_stack = np.random.uniform(low, high)
    oracle = oracles[info["privileged/target_task"]]
    oracle.reset(observation, info)
    widths = FORMATS[play.domain].widths()
    rows: dict[str, list[np.ndarray]] = {key: [] for key in widths}
    for _ in range(play.trajectory_steps):
        action = np.clip(oracle.select_action(observation, info), -1.0, 1.0)
        rows["observations"].append(observation)
        rows["actions"].append(action)
        observation, _, _, _, info = simulator.step(action)
        for key in widths.keys() - {"observations", "actions"}:
            rows[key].append(info[f"prev_{key}"])
        if oracle.done:
            seen, said = simulator.set_new_target(p_stack=p_stack)
            oracle = oracles[said["privileged/target_task"]]
            oracle.reset(seen, said)
    terminals = np.zeros(play.trajectory_steps, bool)
    terminals[-1] = True
    arrays: dict[str, np.ndarray] = {key: np.array(values, _dtype(key))
                                     for key, values in rows.items()}
    return {**arrays, "terminals": terminals}


def _dtype(key: str) -> type:
    return {"button_states": np.int64, "terminals": np.bool_}.get(key, np.float32)


def _is_healthy(qpos: np.ndarray) -> bool:
    """Return whether scene's cube stayed in sight, on the table or in the drawer."""
    y, z = qpos[:, 15], qpos[:, 16]
    too_far_left = (y <= -0.3) & ((z < 0.06) | (z > 0.08))
    return not ((y >= 0.29) | too_far_left).any()


def _assemble(parts: Shards, play: PlayConfig, numbers: range, path: Path) -> None:
    """Write the pieces ``numbers`` as one data set, whole or not at all."""
    widths = FORMATS[play.domain].widths()
    rows = len(numbers) * play.trajectory_steps
    arrays: dict[str, np.ndarray] = {key: np.empty((rows, width), _dtype(key))
                                     for key, width in widths.items()}
    arrays["terminals"] = np.empty(rows, bool)
    for position, number in enumerate(numbers):
        piece = parts.read(number)
        at = slice(position * play.trajectory_steps, (position + 1) * play.trajectory_steps)
        for key, array in arrays.items():
            array[at] = piece[key]
    for stale in path.parent.glob(f"{PREFIX}{path.name}-*"):
        stale.unlink()
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
