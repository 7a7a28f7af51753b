"""robomimic's HDF5: episodes to a file that robomimic trains on, and such files to episodes.

::

    data                 attributes: total, env_args (JSON); ours: poco_format, poco_layout
      demo_0             attributes: num_samples; model_file (XML) of a simulated one
        actions          (L, A) float32
        states           (L, D) float64, of a simulated one: MuJoCo's time, positions, velocities
        rewards          (L,) float32
        dones            (L,) int64, 1 where the task has ended
        obs/<part>       (L, size) float32: a data set for every part of the observation
        next_obs/<part>  (L, size)
        poco             ours, which robomimic passes over: what an episode says of itself
          words          JSON: id, terminated, truncated, outcome, trainable, task, source, notes,
                         began
          policy_versions  (L,) int64
          stamps         (L+1,) int64 [ns]
    mask                 trainable, successful, others: names of demos, robomimic's filter keys

Written and read back, an episode is the same bit for bit.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.files import write_atomic
from poco_ros.core.observation import ObservationLayout
from poco_ros.data.parts import columns, layout_for
from poco_ros.data.robomimic_foreign import ForeignDemos, check_finite, keys_of, parse_env_args

FORMAT = "poco-robomimic-1"
GYM = 2
"""robomimic's number of an environment that is not one of its own simulators."""


@dataclass(frozen=True, eq=False)
class Demo:
    """An episode, and what a file can say of it besides."""

    episode: Episode
    states: np.ndarray | None = None
    """(L, D) float64: the simulator's flat state that each action was taken in."""
    model_file: str = ""
    """The simulator's model, as XML."""
    masks: tuple[str, ...] = ()
    """Filter keys that name it, beside ``trainable`` and ``successful``."""


def write_robomimic(path: str | Path, episodes: Iterable[Episode | Demo],
                    layout: ObservationLayout | None = None,
                    env_args: Mapping[str, Any] | None = None) -> int:
    """Write episodes to ``path``, atomically; return how many.

    The file is made in memory first: HDF5 itself does not outlive a full disk.

    Args:
        path: the HDF5 file.
        episodes: at least one; they are taken one by one.
        layout: parts of the observation; None = one part ``state``.
        env_args: what robomimic makes their environment again from; None = their task by name.

    Raises:
        DataError: there are none, or the observation of one has another size.
        OSError: the disk is full or not writable.
    """
    names: list[str] = []
    masks: dict[str, list[str]] = {"trainable": [], "successful": []}
    total = 0
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        data = file.create_group("data")
        for given in episodes:
            demo = given if isinstance(given, Demo) else Demo(given)
            episode = demo.episode
            layout = layout_for(episode, layout)
            if not names:
                data.attrs["poco_format"] = FORMAT
                data.attrs["poco_layout"] = json.dumps(layout.to_json())
                data.attrs["env_args"] = json.dumps(
                    env_args or {"env_name": episode.task, "type": GYM, "env_kwargs": {}},
                    indent=4)
            name = f"demo_{len(names)}"
            _write_demo(data.create_group(name), demo, layout)
            names.append(name)
            for mask, member in (("trainable", episode.trainable),
                                 ("successful", episode.success),
                                 *((mask, True) for mask in demo.masks)):
                masks.setdefault(mask, []).extend([name] * member)
            total += len(episode)
        if not names:
            raise DataError(f"{path}: there are no episodes to write")
        data.attrs["total"] = total
        for mask, members in masks.items():
            file[f"mask/{mask}"] = np.array(members, "S")
    write_atomic(path, content.getvalue())
    return len(names)


def _write_demo(group: h5py.Group, demo: Demo, layout: ObservationLayout) -> None:
    episode = demo.episode
    group.attrs["num_samples"] = len(episode)
    if demo.model_file:
        group.attrs["model_file"] = demo.model_file
    if demo.states is not None:
        group["states"] = demo.states
    group["actions"], group["rewards"] = episode.actions, episode.rewards
    dones = np.zeros(len(episode), np.int64)
    dones[-1] = episode.terminated
    group["dones"] = dones
    for part, place in columns(layout).items():
        values = episode.observations[:, place]
        group[f"obs/{part}"], group[f"next_obs/{part}"] = values[:-1], values[1:]
    group["poco/words"] = json.dumps({
        "id": episode.id, "terminated": episode.terminated, "truncated": episode.truncated,
        "outcome": episode.outcome.name, "trainable": episode.trainable, "task": episode.task,
        "source": episode.source, "notes": list(episode.notes), "began": episode.began})
    group["poco/policy_versions"] = episode.policy_versions
    group["poco/stamps"] = episode.stamps


def read_robomimic(path: str | Path, observation: Sequence[str] = (), mask: str = "",
                   task: str = "", success_reward: float = 1.0) -> Iterator[Episode]:
    """Read the episodes of a file, ours or somebody else's, in the order of their numbers.

    Args:
        path: the HDF5 file.
        observation: parts of the observation, in order; none = the layout that the file names,
            and where it names none, all vectors below ``obs``, by name.
        mask: filter key: only the demos that it names; empty = all.
        task: name of the task for episodes of others; empty = the name of their environment.
        success_reward: in files of others, a reward of at least this says that the task is done.

    Raises:
        DataError: not a whole HDF5 file, another format, or a key is missing or has a wrong
            shape; file, key and shape are named.
    """
    with _opened(Path(path)) as (file, data, ours):
        names = _demos(Path(path), file, data, mask)
        if not ours:
            foreign = ForeignDemos(Path(path), data, observation, task, success_reward)
            yield from (foreign.episode(name) for name in names)
            return
        parts = tuple(observation) or _layout(Path(path), data).names
        for name in names:
            yield _read_demo(Path(path), data[name], parts)


def read_layout(path: str | Path, observation: Sequence[str] = ()) -> ObservationLayout:
    """Return the parts of the episodes that :func:`read_robomimic` reads.

    Raises:
        DataError: as there.
    """
    with _opened(Path(path)) as (file, data, ours):
        if not ours:
            first = _demos(Path(path), file, data, "")[0]
            return ForeignDemos(Path(path), data, observation, "", 1.0).layout(first)
        sizes = dict(_layout(Path(path), data).parts)
        unknown = [part for part in observation if part not in sizes]
        if unknown:
            raise DataError(f"{path}: has no part {unknown[0]!r} of the observation, it has"
                            f" {list(sizes)}")
        return ObservationLayout(tuple((part, sizes[part]) for part in observation or sizes))


def read_env_args(path: str | Path) -> dict[str, Any]:
    """Return what a file says of the environment that it was recorded in; {} when nothing.

    Raises:
        DataError: not a whole HDF5 file, or it says something that is not JSON.
    """
    with _opened(Path(path)) as (_, data, _):
        return parse_env_args(Path(path), data)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[h5py.File, h5py.Group, bool]]:
    """Open a file; give it, its group ``data`` and whether it was written here."""
    try:
        with h5py.File(path, "r") as file:
            data = _group(path, file, "data")
            found = data.attrs.get("poco_format", "")
            if not isinstance(found, str) or found not in ("", FORMAT):
                raise DataError(f"{path}: has format {found!r}, this program reads {FORMAT} and"
                                " plain robomimic files; convert it where it was written")
            yield file, data, bool(found)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except (OSError, RuntimeError, KeyError) as error:  # h5py's, of a file that is broken inside
        raise DataError(f"{path}: not a whole HDF5 file ({error})") from error


def _group(path: Path, parent: h5py.Group, name: str) -> h5py.Group:
    group = parent.get(name)
    if not isinstance(group, h5py.Group):
        raise DataError(f"{path}: group {name!r} is missing, there are {sorted(parent)}; is it a"
                        " robomimic data set?")
    return group


def _layout(path: Path, data: h5py.Group) -> ObservationLayout:
    try:
        return ObservationLayout.from_json(json.loads(data.attrs.get("poco_layout", "null")))
    except (DataError, ValueError, TypeError) as error:
        raise DataError(f"{path}: attribute poco_layout of data: {error}") from error


def _demos(path: Path, file: h5py.File, data: h5py.Group, mask: str) -> list[str]:
    """Return the names of the demos, by number."""
    if mask:
        masks = sorted(file["mask"]) if "mask" in file else []
        if mask not in masks:
            raise DataError(f"{path}: there is no mask {mask!r}; there are {masks}")
        names = _names_in(path, file[f"mask/{mask}"])
        missing = [name for name in names if name not in data]
        if missing:
            raise DataError(f"{path}: mask {mask!r} names {missing[0]!r}, which data lacks")
    else:
        names = list(data)
    stray = next((name for name in names if not isinstance(data[name], h5py.Group)), None)
    if stray is not None:
        raise DataError(f"{path}: {data.name}/{stray} is a data set, expected the group of a demo;"
                        " is it a robomimic data set?")
    if not names:
        raise DataError(f"{path}: holds no demos" + (f" in mask {mask!r}" if mask else ""))
    return sorted(names, key=lambda name: (int("".join(filter(str.isdigit, name)) or 0), name))


def _names_in(path: Path, mask: object) -> list[str]:
    """Return the names of the demos that a filter key lists."""
    if not isinstance(mask, h5py.Dataset) or mask.ndim != 1 or h5py.check_string_dtype(
            mask.dtype) is None:
        raise DataError(f"{path}: {getattr(mask, 'name', mask)} is no list of names of demos;"
                        " write the filter key again, or choose another")
    return [name.decode() for name in mask[()]]


def _read_demo(path: Path, demo: h5py.Group, parts: Sequence[str]) -> Episode:
    """Read one of our own."""
    where = f"{path}: {demo.name}"
    arrays = {key: _array(where, demo, key) for key in (
        "actions", "rewards", "poco/policy_versions", "poco/stamps", "poco/words")}
    pieces = []
    for part in parts:
        now, then = (_array(where, demo, f"{key}/{part}") for key in ("obs", "next_obs"))
        steps = len(arrays["actions"])
        for key, values in (("obs", now), ("next_obs", then)):
            if values.ndim != 2 or len(values) != steps:
                raise DataError(f"{where}/{key}/{part} has shape {values.shape}, expected"
                                f" ({steps}, size)")
        pieces.append(np.concatenate([now, then[-1:]]))
    try:
        words: dict[str, Any] = json.loads(arrays["poco/words"].item())
        words["outcome"] = Outcome[words["outcome"]]
        words["notes"] = tuple(words["notes"])
        return Episode(observations=np.concatenate(pieces, axis=1), actions=arrays["actions"],
                       rewards=arrays["rewards"], stamps=arrays["poco/stamps"],
                       policy_versions=arrays["poco/policy_versions"], **words)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where}/poco/words: not those of an episode ({error!r})") from error
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _array(where: str, demo: h5py.Group, key: str) -> np.ndarray:
    found = demo.get(key)
    if not isinstance(found, h5py.Dataset):
        parent, _, _ = key.rpartition("/")
        beside = keys_of(demo[parent] if parent in demo else demo)
        raise DataError(f"{where}/{key} is missing; there are {beside}")
    values = np.asarray(found[()])
    check_finite(f"{where}/{key}", values)
    return values
