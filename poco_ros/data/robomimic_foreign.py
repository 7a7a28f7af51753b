"""Demonstrations of others in robomimic's HDF5, such as its published low-dimensional sets.

Such a file says less than an episode does, and this is how the rest is filled in: the episode ends
in success at the first step whose reward says so, as it does in the environments here, and what
follows is left out; without such a step it is a failure that was cut off by time. Stamps come from
the control rate that the file names, if it does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.observation import ObservationLayout


class ForeignDemos:
    """The demos of one open file."""

    def __init__(self, path: Path, data: h5py.Group, observation: Sequence[str], task: str,
                 success_reward: float) -> None:
        """Take the group ``data``; for the rest see :func:`~.robomimic.read_robomimic`.

        Raises:
            DataError: ``env_args`` cannot be read.
        """
        self._path, self._data, self._success_reward = path, data, success_reward
        self._parts = tuple(observation)
        self._sizes: dict[str, int] = {}
        environment = parse_env_args(path, data)
        self._task = task or str(environment.get("env_name", ""))
        options = environment.get("env_kwargs") or {}
        rate = options.get("control_freq", 0) if isinstance(options, dict) else 0
        self._period = round(1e9 / rate) if isinstance(rate, (int, float)) and rate > 0 else 0

    def layout(self, name: str) -> ObservationLayout:
        """Return the chosen parts and their sizes, as a demo has them; raises as `episode`."""
        self._parts = self._parts or self._vectors(name)
        self._observations(name, "obs", None)
        return ObservationLayout(tuple((part, self._sizes[part]) for part in self._parts))

    def episode(self, name: str) -> Episode:
        """Return a demo as an episode.

        Raises:
            DataError: a key is missing, or a shape or a value is wrong; they are named.
        """
        demo = self._data[name]
        actions = self._array(name, "actions", None)
        steps = len(actions)
        rewards = self._array(name, "rewards", steps)
        if actions.ndim != 2 or rewards.ndim != 1 or steps < 1:
            raise DataError(f"{self._path}: {demo.name}: actions and rewards have shapes"
                            f" {actions.shape} and {rewards.shape}, expected (L, A) and (L,)")
        self._parts = self._parts or self._vectors(name)
        successes = np.flatnonzero(rewards >= self._success_reward)
        terminated = bool(successes.size)
        end = int(successes[0]) + 1 if terminated else steps
        notes = [f"imported from {self._path.name}, {name}"]
        if end < steps:
            notes.append(f"{steps - end} steps after the success are left out")
        rows = self._observations(name, "obs", steps)
        if end < steps:
            last = rows[end]
        elif "next_obs" in demo:
            last = self._observations(name, "next_obs", steps)[-1]
        elif terminated:  # nothing is bootstrapped from it
            last = rows[-1]
            notes.append("the last observation was not recorded and repeats the one before")
        elif steps > 1:
            end, last = steps - 1, rows[-1]
            notes.append("the last step is left out: what it led to was not recorded")
        else:
            raise DataError(f"{self._path}: {demo.name} has one step, and no next_obs")
        try:
            return Episode(
                id=self._id(name), observations=np.concatenate([rows[:end], last[None]]),
                actions=actions[:end], rewards=rewards[:end], terminated=terminated,
                truncated=not terminated,
                outcome=Outcome.SUCCESS if terminated else Outcome.FAILURE,
                stamps=np.arange(end + 1, dtype=np.int64) * self._period, task=self._task,
                source="demonstration", notes=tuple(notes))
        except DataError as error:
            raise DataError(f"{self._path}: {demo.name}: {error}") from error

    def _id(self, name: str) -> str:
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{self._path.stem}-{name}").lstrip("_.-")
        return stem[-128:].lstrip("_.-")

    def _vectors(self, name: str) -> tuple[str, ...]:
        """Return the keys below ``obs`` that hold one vector a step, by name."""
        group = self._data[name].get("obs")
        if not isinstance(group, h5py.Group):
            raise DataError(f"{self._path}: {self._data[name].name}/obs is missing; there are"
                            f" {sorted(self._data[name])}. A file of simulator states alone needs"
                            " robomimic's dataset_states_to_obs first")
        vectors = tuple(sorted(key for key, value in group.items()
                               if isinstance(value, h5py.Dataset) and value.ndim <= 2))
        if not vectors:
            raise DataError(f"{self._path}: {group.name} holds no vectors, only"
                            f" {sorted(group)}; pictures are not observations here, encode them")
        return vectors

    def _observations(self, name: str, group: str, steps: int | None) -> np.ndarray:
        """Return the chosen parts side by side, (L, O)."""
        pieces = []
        for part in self._parts:
            values = self._array(name, f"{group}/{part}", steps)
            values = values[:, None] if values.ndim == 1 else values
            where = f"{self._path}: {self._data.name}/{name}/{group}/{part}"
            if values.ndim != 2:
                raise DataError(f"{where} has shape {values.shape}, expected one vector a step;"
                                " pictures are not observations here, choose other keys")
            size = self._sizes.setdefault(part, values.shape[1])
            if values.shape[1] != size:
                raise DataError(f"{where} has {values.shape[1]} values a step, demos before it"
                                f" have {size}")
            pieces.append(values)
        return np.concatenate(pieces, axis=1)

    def _array(self, name: str, key: str, steps: int | None) -> np.ndarray:
        demo = self._data[name]
        found = demo.get(key)
        if not isinstance(found, h5py.Dataset):
            parent = demo.get(key.rpartition("/")[0], demo) if "/" in key else demo
            raise DataError(f"{self._path}: {demo.name}/{key} is missing; {parent.name} has"
                            f" {keys_of(parent)}")
        if found.ndim < 1 or found.dtype.kind not in "fiub":
            raise DataError(f"{self._path}: {demo.name}/{key} has shape {found.shape} and type"
                            f" {found.dtype}, expected numbers, a row a step")
        if steps is not None and len(found) != steps:
            raise DataError(f"{self._path}: {demo.name}/{key} has shape {found.shape}, expected"
                            f" {steps} rows beside {steps} actions")
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
            values = np.asarray(found[()], np.float32)
        check_finite(f"{self._path}: {demo.name}/{key}", values)
        return values


def keys_of(thing: h5py.Group | h5py.Dataset) -> list[str]:
    """Return the keys of a group, by name; a data set has none."""
    return sorted(thing) if isinstance(thing, h5py.Group) else []


def parse_env_args(path: Path, data: h5py.Group) -> dict[str, Any]:
    """Return what the group ``data`` says of the environment, {} when nothing.

    Raises:
        DataError: it is not JSON.
    """
    text = data.attrs.get("env_args", "{}")
    try:
        values = json.loads(text)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: attribute env_args of data is not JSON ({error})") from error
    return values if isinstance(values, dict) else {}


def check_finite(where: str, values: np.ndarray) -> None:
    """Raise DataError, with the first place, unless all of ``values`` are finite."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        place = np.argwhere(~np.isfinite(values))[0]
        raise DataError(f"{where}{place.tolist()} is {values[tuple(place)]}; leave this demo out"
                        " with a filter key (mask), or record it anew")
