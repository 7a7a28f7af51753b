"""OGBench's data sets on disk: what an ``.npz`` of play data holds, read with checks."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poco_ros.core.errors import DataError

ACTION_DIM = 5


@dataclass(frozen=True)
class DomainFormat:
    """Sizes of one domain's arrays."""

    observation: int
    """O, length of an observation."""
    qpos: int
    """Length of MuJoCo's joint positions."""
    qvel: int
    """Length of MuJoCo's joint velocities."""
    buttons: int = 0
    """Number of buttons, whose states MuJoCo does not know; 0 = no ``button_states``."""

    def widths(self) -> dict[str, int]:
        """Return key -> columns of every two-dimensional array."""
        widths = {"observations": self.observation, "actions": ACTION_DIM, "qpos": self.qpos,
                  "qvel": self.qvel}
        return {**widths, "button_states": self.buttons} if self.buttons else widths


FORMATS = {
    "cube-single": DomainFormat(28, 21, 20),
    "cube-double": DomainFormat(37, 28, 26),
    "cube-triple": DomainFormat(46, 35, 32),
    "scene": DomainFormat(40, 25, 24, buttons=2),
    "puzzle-3x3": DomainFormat(55, 23, 23, buttons=9),
}


@dataclass(frozen=True, eq=False)
class PlayData:
    """Play data of N rows in trajectories that follow one another.

    Row i holds s_i and the action taken there. The last row of a trajectory has an action too,
    but its successor was not recorded: the transition from there to the next row is none.
    """

    source: str
    """File that it came from, named in errors."""
    observations: np.ndarray
    """(N, O) float32."""
    actions: np.ndarray
    """(N, 5) float32, in [-1, 1]."""
    qpos: np.ndarray
    """(N, nq) float32: MuJoCo's joint positions at s_i."""
    button_states: np.ndarray | None
    """(N, B) int64 at s_i; None in the cube domains."""
    ends: np.ndarray
    """(M,) one past the last row of each trajectory."""

    @property
    def starts(self) -> np.ndarray:
        """(M,) first row of each trajectory."""
        return np.concatenate([[0], self.ends[:-1]])


def read_play_data(path: str | Path, domain: str) -> PlayData:
    """Read an ``.npz`` in OGBench's format, its own or made here.

    Raises:
        DataError: not such a file, a key is missing, or an array has another shape, is not
            finite or holds an action outside [-1, 1]. File, key and what was expected are named.
    """
    path = Path(path)
    widths = FORMATS[domain].widths()
    arrays = _load(path, [*widths, "terminals"], domain)
    rows = len(arrays["observations"])
    for key, width in widths.items():
        shape = arrays[key].shape
        if shape != (rows, width):
            raise DataError(f"{path}: {key} has shape {shape}, expected ({rows}, {width}) for"
                            f" {domain}; is it a data set of another domain?")
        _check_finite(path, key, arrays[key])
    if arrays["terminals"].shape != (rows,):
        raise DataError(f"{path}: terminals has shape {arrays['terminals'].shape}, expected"
                        f" ({rows},)")
    worst = np.abs(arrays["actions"]).max(axis=1)
    if worst.max() > 1.0 + 1e-6:
        row = int(worst.argmax())
        raise DataError(f"{path}: actions[{row}] = {arrays['actions'][row]} leaves [-1, 1]")
    ends = np.flatnonzero(arrays["terminals"]) + 1
    if not len(ends) or ends[-1] != rows:
        raise DataError(f"{path}: terminals must be 1 at the last row of each trajectory, the"
                        f" last of {rows} rows included")
    if (np.diff(ends, prepend=0) < 2).any():
        raise DataError(f"{path}: terminals mark a trajectory of one row, which holds no"
                        " transition")
    return PlayData(str(path), arrays["observations"], arrays["actions"], arrays["qpos"],
                    arrays.get("button_states"), ends)


def _load(path: Path, keys: list[str], domain: str) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    try:
        with np.load(path) as archive:
            for key in keys:
                if key not in archive:
                    raise DataError(f"{path}: key {key!r} is missing; a data set of {domain} has"
                                    f" {', '.join(keys)}, this file {', '.join(archive.files)}")
                dtype = {"terminals": np.bool_, "button_states": np.int64}.get(key, np.float32)
                arrays[key] = archive[key].astype(dtype, copy=False)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such data set") from error
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile,
            zlib.error) as error:
        raise DataError(f"{path}: not a whole .npz file ({error})") from error
    if arrays["observations"].ndim != 2 or not len(arrays["observations"]):
        raise DataError(f"{path}: observations has shape {arrays['observations'].shape},"
                        " expected (N, O) with N >= 2")
    return arrays


def _check_finite(path: Path, key: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array.sum()):  # a sum is quick; then look
        bad = ~np.isfinite(array)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise DataError(f"{path}: {key}[{row}, {column}] is {array[row, column]};"
                            f" {int(bad.sum())} value(s) are not finite")
