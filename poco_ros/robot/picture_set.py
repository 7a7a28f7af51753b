"""A user's own pictures, to fit the encoder on: files, folders, videos, with states if logged."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from poco_ros.core.errors import DataError
from poco_ros.robot.encoder import prepare

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm")


@dataclass(frozen=True, eq=False)
class PictureSet:
    """Pictures of one or several cameras, and what was logged beside them."""

    pictures: np.ndarray
    """(N, S, S, 3) uint8, RGB."""
    cameras: np.ndarray
    """(N,) int64: number of the camera that took each picture."""
    groups: np.ndarray
    """(N,) int64: episode (or video, or folder) of each picture; held out as a whole."""
    states: np.ndarray | None = None
    """(N, D) float32: logged states, such as joint positions; None when none were logged."""

    def __post_init__(self) -> None:
        count = len(self.pictures)
        if self.pictures.ndim != 4 or self.pictures.dtype != np.uint8 or count == 0:
            raise DataError(f"pictures have shape {self.pictures.shape} and type"
                            f" {self.pictures.dtype}, expected (N, S, S, 3) uint8, N >= 1")
        for name in ("cameras", "groups", "states"):
            array = getattr(self, name)
            if array is not None and len(array) != count:
                raise DataError(f"{len(array)} {name} beside {count} pictures")
        if self.states is not None and (
                self.states.ndim != 2 or not np.isfinite(self.states).all()):
            raise DataError(f"states have shape {self.states.shape}, expected (N, D), finite")

    def __len__(self) -> int:
        return len(self.pictures)


def load_pictures(path: str | Path, size: int) -> PictureSet:
    """Read pictures and scale them to ``size`` [px].

    Args:
        path: an ``.npz`` with ``pictures`` (N, H, W, 3) uint8 RGB and, if logged, ``states``
            (N, D), ``cameras`` (N,) and ``episodes`` (N,); or a video; or a folder of pictures
            and videos, whose sub-folders are episodes.
        size: edge of the pictures that the encoder will see.

    Raises:
        DataError: nothing that can be read; the file is named.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return _load_npz(path, size)
    if path.suffix.lower() in _VIDEOS:
        files = [path]
    elif path.is_dir():
        files = sorted(file for file in path.rglob("*")
                       if file.suffix.lower() in (*_PICTURES, *_VIDEOS))
    else:
        raise DataError(f"{path}: expected an .npz, a video or a folder of pictures")
    if not files:
        raise DataError(f"{path}: no picture or video in it ({', '.join(_PICTURES + _VIDEOS)})")
    pictures: list[np.ndarray] = []
    groups: list[int] = []
    numbers = itertools.count()
    for _, members in itertools.groupby(files, key=_group_key):
        group = next(numbers)
        for file in members:
            for picture in _read(file):
                pictures.append(prepare(picture, size))
                groups.append(group)
    return PictureSet(np.stack(pictures), np.zeros(len(pictures), np.int64),
                      np.array(groups, np.int64))


def _group_key(file: Path) -> Path:
    return file if file.suffix.lower() in _VIDEOS else file.parent


def _read(file: Path) -> Iterator[np.ndarray]:
    if file.suffix.lower() in _PICTURES:
        picture = cv2.imread(str(file))
        if picture is None:
            raise DataError(f"{file}: cannot be read as a picture")
        yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        return
    video = cv2.VideoCapture(str(file))
    try:
        good, picture = video.read()
        if not good:
            raise DataError(f"{file}: cannot be read as a video")
        while good:
            yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            good, picture = video.read()
    finally:
        video.release()


def _load_npz(path: Path, size: int) -> PictureSet:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a whole .npz file ({error})") from error
    if "pictures" not in arrays:
        raise DataError(f"{path}: has {sorted(arrays)}, and no 'pictures'")
    scaled = np.stack([prepare(picture, size) for picture in arrays["pictures"]])
    count = len(scaled)
    states = arrays.get("states")
    return PictureSet(
        scaled, np.asarray(arrays.get("cameras", np.zeros(count)), np.int64),
        np.asarray(arrays.get("episodes", _blocks(count)), np.int64),
        None if states is None else np.asarray(states, np.float32))


def _blocks(count: int) -> np.ndarray:
    """Return ten blocks, for pictures of which nobody says which belong together."""
    return np.arange(count) * 10 // count


def join(sets: Sequence[PictureSet]) -> PictureSet:
    """Return several sets as one, each a camera of its own; groups are kept apart too.

    States are kept only when every set has them, of the same size.
    """
    states = [part.states for part in sets if part.states is not None]
    same = len(states) == len(sets) and len({array.shape[1] for array in states}) == 1
    groups, above = [], 0
    for part in sets:
        _, numbered = np.unique(part.groups, return_inverse=True)
        groups.append(numbered + above)
        above += int(numbered.max()) + 1
    cameras, seen = [], 0
    for part in sets:
        _, numbered = np.unique(part.cameras, return_inverse=True)
        cameras.append(numbered + seen)
        seen += int(numbered.max()) + 1
    return PictureSet(np.concatenate([part.pictures for part in sets]), np.concatenate(cameras),
                      np.concatenate(groups), np.concatenate(states) if same else None)
