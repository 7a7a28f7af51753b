"""Data that are made in pieces: each piece is on disk, whole, before it counts as done."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml

from poco_ros.core import config
from poco_ros.core.errors import DataError
from poco_ros.core.files import PREFIX, write_atomic
from poco_ros.data.progress import progress_bar
from sim_bridge.processes import ProcessPool

SETTINGS = "settings.yaml"


class Shards:
    """A folder of numbered pieces, beside the settings that they were made with.

    Several processes may write at a time, each its own number: a piece is written aside and moved
    into its place. What a killed process leaves half-written is swept away at the next start.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, settings: str) -> list[int]:
        """Make the folder, or go on with it; return the numbers of the pieces that are there.

        Raises:
            DataError: the pieces there were made with other settings.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in self.folder.glob(f"{PREFIX}*"):
            stale.unlink()
        numbers = sorted(int(path.stem) for path in self.folder.glob("*.npz"))
        if numbers:
            check_settings(self.folder / SETTINGS, settings, f"delete {self.folder}")
        write_atomic(self.folder / SETTINGS, settings)
        return numbers

    def path(self, number: int) -> Path:
        """Return where piece ``number`` is kept."""
        return self.folder / f"{number:06d}.npz"

    def write(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        """Store piece ``number`` durably."""
        stream = io.BytesIO()
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # the stub takes the names for flags
        write_atomic(self.path(number), stream.getvalue())

    def read(self, number: int) -> dict[str, np.ndarray]:
        """Return piece ``number``."""
        with np.load(self.path(number)) as archive:
            return dict(archive)

    def remove(self) -> None:
        """Delete all pieces and the folder."""
        shutil.rmtree(self.folder)


@contextmanager
def only_maker(path: Path) -> Iterator[None]:
    """Let one process at a time make what ``path`` names; the others wait until it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with open(lock, "wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # the kernel frees it, however the process ends
        yield


def make_once(path: Path, is_made: Callable[[], bool], make: Callable[[], None]) -> None:
    """Make what ``path`` names, unless it is made: one process does, the others wait for it.

    What is made is not locked, so it may lie where nothing can be written.
    """
    if is_made():
        return
    with only_maker(path):
        if not is_made():
            make()


def parts_of(out: Path) -> Shards:
    """Return the pieces from which the file ``out`` is made."""
    return Shards(out.with_suffix(".parts"))


def settings_path(out: Path) -> Path:
    """Return where the settings are kept that the file ``out`` was made with."""
    return out.with_suffix(".yaml")


def claim(settings: str, parts: Shards, out: Path, *beside: Path) -> None:
    """See that what there is of ``out``, and of files ``beside`` it, was made with ``settings``.

    Raises:
        DataError: a file is somebody else's, or was made with other settings (YAML); all that
            must go before it can be made with these is named.
    """
    made = [path for path in (out, *beside) if path.exists()]
    known = settings_path(out)
    if made and not known.exists():
        raise DataError(f"{made[0]}: exists and was not made here; choose another name")
    if known.exists():
        there = [path for path in (*made, known, parts.folder) if path.exists()]
        check_settings(known, settings, f"delete {', '.join(map(str, there))}")


def make_missing(parts: Shards, settings: str, total: int, handler: str,
                 arguments: Mapping[str, object], label: str, workers: int,
                 show_progress: bool) -> None:
    """Make the pieces that are missing of ``total``, in processes, with a progress bar.

    Args:
        parts: where the pieces are kept.
        settings: YAML that they are a function of; see :meth:`Shards.open`.
        total: how many there should be.
        handler: ``module:function`` of what a worker runs: the question is a piece's number as
            JSON, the answer the number of its steps, when the piece is on disk.
        arguments: of that function, JSON values.
        label: what is made, for the bar.
        workers: processes; 0 = one a processor.
        show_progress: draw the bar.

    Raises:
        DataError: the pieces that are there were made with other settings.
    """
    missing = sorted(set(range(total)) - set(parts.open(settings)))
    if not missing:
        return
    workers = min(workers or len(os.sched_getaffinity(0)), len(missing))
    with progress_bar(label, total, total - len(missing), show_progress) as advance, \
            ProcessPool(handler, arguments, workers) as pool:
        for steps in pool.map(json.dumps(index).encode() for index in missing):
            advance(1, json.loads(steps))


def check_settings(path: Path, settings: str, remedy: str) -> None:
    """See that ``settings`` (YAML) are what stands in ``path``.

    Raises:
        DataError: other settings stand there; the first that differs is named, and ``remedy``.
    """
    found, wanted = config.read_yaml(path), yaml.safe_load(settings)
    for key in sorted({*found, *wanted}):
        if found.get(key) != wanted.get(key):
            raise DataError(f"{path}: made with {key} = {found.get(key)!r}, now asked for"
                            f" {wanted.get(key)!r}; {remedy}, or choose another place")
