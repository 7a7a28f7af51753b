"""Pictures of the robot's cameras on disk, with its joints beside them, to fit the encoder on.

::

    <folder>/cameras.json                     the cameras, in the order of their numbers
    <folder>/<camera>/<episode>/<stamp>.jpg   stamp: when it was captured, wall clock [ns]
    <folder>/<camera>/<episode>/states.csv    stamp and joints [rad, gripper in m], a row a picture

A picture is whole or absent and its row follows it, so a process that is killed loses the last row
at most. Pictures taken between two episodes are in the folder ``between``.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from poco_ros.core.errors import DataError
from poco_ros.core.files import PREFIX, naming, write_atomic
from poco_ros.robot.camera import Frame

DESCRIPTION = "cameras.json"
FORMAT = "poco-pictures-1"
STATES = "states.csv"
BETWEEN = "between"
_QUALITY = 95
_NEAR = 100_000_000
"""Joints that are further from a picture are not those of the picture [ns]."""
_PATIENCE = 0.3
"""How long a picture waits for the joints that come after it [s]."""
_LOOK = 0.05
_WAITING = 64


class PictureLog:
    """Writes; goes on with a folder that is there already. One thread at a time."""

    def __init__(self, folder: str | Path, cameras: Sequence[str]) -> None:
        """Make the folder.

        Raises:
            DataError: it cannot be written, or is no folder of pictures.
        """
        self.folder = Path(folder)
        self._names: dict[Path, tuple[str, ...]] = {}
        try:
            known = read_cameras(self.folder) if is_picture_log(self.folder) else []
            known += [name for name in cameras if name not in known]
            write_atomic(self.folder / DESCRIPTION,
                         json.dumps({"format": FORMAT, "cameras": known}) + "\n")
        except OSError as error:
            raise DataError(f"{folder}: pictures cannot be kept there ({error})") from error

    def add(self, camera: str, episode: str, stamp: int, picture: np.ndarray,
            joints: Mapping[str, float] | None) -> None:
        """Keep a picture (H, W, 3) uint8 RGB, captured at ``stamp`` [ns], and its row.

        Raises:
            DataError: the episode's name is no name of a folder, or its table has other joints.
            OSError: the disk is full or cannot be written.
        """
        if not episode or Path(episode).name != episode or episode.startswith("."):
            raise DataError(f"episode {episode!r} cannot be the name of a folder")
        place = self.folder / camera / episode
        place.mkdir(parents=True, exist_ok=True)
        good, jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
                                  [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if not good:
            raise DataError(f"a picture of camera {camera} cannot be written as JPEG")
        unfinished = place / f"{PREFIX}{stamp}"
        try:
            with naming(place / f"{stamp}.jpg"):
                unfinished.write_bytes(jpeg.tobytes())
                unfinished.replace(place / f"{stamp}.jpg")
        except OSError:
            unfinished.unlink(missing_ok=True)  # the disk is full, and this is a part of a picture
            raise
        if joints is not None:
            self._add_row(place / STATES, stamp, joints)

    def _add_row(self, path: Path, stamp: int, joints: Mapping[str, float]) -> None:
        names = self._names.get(path) or self._begin_table(path, tuple(joints))
        if set(names) != set(joints):
            raise DataError(f"{path} has the joints {', '.join(names)}, now they are"
                            f" {', '.join(joints)}; record into another folder")
        row = ",".join([str(stamp), *(f"{joints[name]:.6f}" for name in names)])
        _append(path, row)

    def _begin_table(self, path: Path, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the joints of a table; begin it when it is new, drop a torn last line."""
        content = path.read_bytes() if path.exists() else b""
        whole = content[:content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        if whole:
            names = tuple(whole.decode().splitlines()[0].split(",")[1:])
        else:
            _append(path, ",".join(["stamp", *names]))
        self._names[path] = names
        return names


def _append(path: Path, line: str) -> None:
    """Append a line: a kill, in one system call, and a full disk leave all of it or nothing."""
    content = f"{line}\n".encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, content) < len(content):  # a full disk may take a part
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError as error:
            os.ftruncate(descriptor, size)
            error.filename = str(path)
            raise
    finally:
        os.close(descriptor)


def is_picture_log(folder: Path) -> bool:
    """Return whether a folder was made by a :class:`PictureLog`."""
    return (folder / DESCRIPTION).is_file()


def read_cameras(folder: Path) -> list[str]:
    """Return the cameras of a folder of pictures; DataError when its description is damaged."""
    path = folder / DESCRIPTION
    try:
        words = json.loads(path.read_text())
        if words["format"] != FORMAT:
            raise DataError(f"{path}: not of format {FORMAT}")
        return [str(name) for name in words["cameras"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: does not name the cameras ({error})") from error


def read_states(path: Path) -> dict[int, dict[str, float]]:
    """Return stamp [ns] -> joints by name; a torn last line is left out, {} without a table.

    Raises:
        DataError: a line is damaged; file and line are named.
    """
    content = path.read_text() if path.exists() else ""
    lines = content[:content.rfind("\n") + 1].splitlines()
    names = lines[0].split(",")[1:] if lines else []
    rows = {}
    for number, line in enumerate(lines[1:], 2):
        try:
            stamp, *values = line.split(",")
            rows[int(stamp)] = dict(zip(names, map(float, values), strict=True))
        except ValueError as error:
            raise DataError(f"{path}:{number}: {line!r} is no stamp and {len(names)} values;"
                            " take the line out") from error
    return rows


class PictureRecorder:
    """Keeps pictures with the joints nearest in time, on a thread of its own.

    A picture waits a moment, because the joints nearest to it may come after it. A slow or full
    disk costs pictures, never the time of whoever brings them.
    """

    def __init__(self, log: PictureLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._joints: deque[tuple[int, Mapping[str, float]]] = deque(maxlen=_WAITING)
        self._waiting: deque[tuple[float, str, str, Frame]] = deque()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pictures", daemon=True)
        self._thread.start()
        self.kept = self.lost = 0
        """Pictures that are on disk, and that were given up."""
        self.trouble = ""
        """Why the last picture could not be kept; empty when it was."""

    def add_joints(self, stamp: int, joints: Mapping[str, float]) -> None:
        """Take the joints [rad, gripper in m] measured at ``stamp``, wall clock [ns]."""
        with self._lock:
            self._joints.append((stamp, joints))

    def add_picture(self, camera: str, episode: str, frame: Frame) -> None:
        """Take a picture."""
        with self._lock:
            if len(self._waiting) == _WAITING:
                self._waiting.popleft()
                self.lost += 1
            self._waiting.append((time.monotonic(), camera, episode, frame))

    def stop(self) -> None:
        """Keep what was taken, and end."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(_LOOK):
            self._keep_due(time.monotonic() - _PATIENCE)
        self._keep_due(float("inf"))

    def _keep_due(self, before: float) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                taken, camera, episode, frame = self._waiting[0]
                followed = self._joints and self._joints[-1][0] >= frame.wall_ns
                if not followed and taken > before:
                    return
                self._waiting.popleft()
                joints = self._nearest(frame.wall_ns)
            try:
                self._log.add(camera, episode, frame.wall_ns, frame.picture, joints)
            except (OSError, DataError) as error:
                self.trouble = f"pictures are not kept: {error}"
                self.lost += 1
            else:
                self.trouble = ""
                self.kept += 1

    def _nearest(self, stamp: int) -> Mapping[str, float] | None:
        if not self._joints:
            return None
        at, joints = min(self._joints, key=lambda measured: abs(measured[0] - stamp))
        return joints if abs(at - stamp) <= _NEAR else None
