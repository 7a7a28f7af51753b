"""A user's own pictures, to fit the encoder on: files, folders, videos, with states if logged."""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from poco_ros.core.errors import DataError
from poco_ros.robot.encoder import prepare
from poco_ros.robot.picture_log import (
    BETWEEN,
    STATES,
    is_picture_log,
    read_cameras,
    read_states,
)

logger = logging.getLogger(__name__)
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm")
_BLOCK = 20_000_000_000
"""Pictures between episodes belong together when they are of the same so many [ns]."""


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
    camera_names: tuple[str, ...] = ()
    """Name of each camera, by its number; empty when they have none."""
    state_names: tuple[str, ...] = ()
    """Name of each logged state; empty when they have none."""

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


def load_pictures(path: str | Path, size: int, states: bool | None = None) -> PictureSet:
    """Read pictures and scale them to ``size`` [px].

    Args:
        path: an ``.npz`` with ``pictures`` (N, H, W, 3) uint8 RGB and, if logged, ``states``
            (N, D), ``cameras`` (N,) and ``episodes`` (N,); or a video; or a folder that
            camera_encoder has recorded; or any folder of pictures and videos, whose sub-folders
            are episodes.
        size: edge of the pictures that the encoder will see.
        states: where only some recorded pictures have states beside them: True = leave out the
            others, False = take all pictures and no states, None = what keeps more pictures.

    Raises:
        DataError: nothing that can be read; the file is named.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return _load_npz(path, size)
    if is_picture_log(path):
        return _load_log(path, size, states)
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
    numbers: dict[Path, int] = {}
    for file in files:
        group = numbers.setdefault(_group_key(file), len(numbers))
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
    except (OSError, ValueError, EOFError, AttributeError, TypeError, KeyError,
            zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a whole .npz file ({error})") from error
    if "pictures" not in arrays:
        raise DataError(f"{path}: has {sorted(arrays)}, and no 'pictures'")
    found = arrays["pictures"]
    if found.ndim != 4 or found.shape[3] != 3 or found.dtype != np.uint8 or not found.size:
        raise DataError(f"{path}: pictures have shape {found.shape} and type {found.dtype},"
                        " expected (N, H, W, 3) uint8, N >= 1")
    for name, kind in (("cameras", np.int64), ("episodes", np.int64), ("states", np.float32)):
        try:
            if name in arrays:
                arrays[name] = np.atleast_1d(arrays[name]).astype(kind)
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: {name} are no numbers ({error}); write a number, or for"
                            " states a row of numbers, for each picture") from error
    count = len(found)
    try:
        return PictureSet(np.stack([prepare(picture, size) for picture in found]),
                          arrays.get("cameras", np.zeros(count, np.int64)),
                          arrays.get("episodes", _blocks(count)), arrays.get("states"))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _load_log(path: Path, size: int, wants_states: bool | None) -> PictureSet:
    """Read what camera_encoder has recorded; an episode is one group over all cameras."""
    cameras = read_cameras(path)
    pictures: list[np.ndarray] = []
    numbers: list[int] = []
    groups: list[int] = []
    states: list[dict[str, float] | None] = []
    known: dict[tuple[str, int], int] = {}
    for number, camera in enumerate(cameras):
        for folder in sorted(file for file in (path / camera).glob("*") if file.is_dir()):
            rows = read_states(folder / STATES)
            for stamp in sorted(int(file.stem) for file in folder.glob("*.jpg")):
                picture, = _read(folder / f"{stamp}.jpg")
                block = stamp // _BLOCK if folder.name == BETWEEN else 0
                pictures.append(prepare(picture, size))
                numbers.append(number)
                groups.append(known.setdefault((folder.name, block), len(known)))
                states.append(rows.get(stamp))
    if not pictures:
        raise DataError(f"{path}: no picture of {', '.join(cameras)} in it; record some first"
                        " (camera_encoder, parameter record)")
    names = next((tuple(row) for row in states if row), ())
    told = np.array([row is not None and tuple(row) == names for row in states])
    every = PictureSet(np.stack(pictures), np.array(numbers, np.int64),
                       np.array(groups, np.int64), None, tuple(cameras))
    if not names or wants_states is False or (wants_states is None and 2 * told.sum() < len(told)):
        if names and wants_states is None:
            logger.warning("%s: only %d of %d pictures have states beside them; the states are not"
                           " used", path, told.sum(), len(told))
        return every
    if not told.all():
        logger.warning("%s: %d of %d pictures have no states beside them and are left out", path,
                       (~told).sum(), len(told))
    values = [list(row.values()) for row, good in zip(states, told, strict=True) if row and good]
    return PictureSet(every.pictures[told], every.cameras[told], every.groups[told],
                      np.array(values, np.float32), every.camera_names, names)


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
    named = [part.state_names for part in sets]
    return PictureSet(np.concatenate([part.pictures for part in sets]), np.concatenate(cameras),
                      np.concatenate(groups), np.concatenate(states) if same else None,
                      (), named[0] if len(set(named)) == 1 else ())
