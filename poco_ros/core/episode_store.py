"""Episodes on disk: one file each, in order of arrival, each durable before it is acknowledged."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from poco_ros.core.episode import Episode
from poco_ros.core.errors import DataError
from poco_ros.core.files import PREFIX, write_atomic

ABANDONED = 600.0
"""Age at which nobody works on an unfinished write any more [s]."""


class EpisodeStore:
    """A folder of episodes, numbered from 0, idempotent by episode id.

    File names are ``000042_<id>.safetensors``. Only one process writes to a store, any may
    read it meanwhile. Reading it back in order gives the learner's history, so a resumed run
    trains on what it would have.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._swept = False
        self._paths: list[Path] = []
        self._numbers: dict[str, int] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            number, _, episode_id = path.name.removesuffix(".safetensors").partition("_")
            if not number.isdigit() or int(number) != len(self._paths) or not episode_id:
                raise DataError(f"{path}: expected episode number {len(self._paths)} next;"
                                " a file of this store is missing or foreign")
            if episode_id in self._numbers:
                raise DataError(f"{path}: episode id {episode_id!r} is stored twice")
            self._numbers[episode_id] = len(self._paths)
            self._paths.append(path)

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, episode_id: str) -> bool:
        return episode_id in self._numbers

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all episodes, in order."""
        return tuple(self._numbers)

    def add(self, episode: Episode) -> bool:
        """Store an episode durably; return False, changing nothing, when its id is there already.

        Raises:
            OSError: the disk is full or not writable; the store is as it was.
        """
        with self._lock:
            if episode.id in self._numbers:
                return False
            if not self._swept:
                self._sweep()
            number = len(self._paths)
            path = self.folder / f"{number:06d}_{episode.id}.safetensors"
            write_atomic(path, episode.to_bytes())
            self._numbers[episode.id] = number
            self._paths.append(path)
            return True

    def _sweep(self) -> None:
        """Remove what killed processes left half-written; what is new, somebody may be writing."""
        for stale in self.folder.glob(f"{PREFIX}*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - stale.stat().st_mtime > ABANDONED:
                    stale.unlink()
        self._swept = True

    def __getitem__(self, number: int) -> Episode:
        path = self._paths[number]
        return Episode.from_bytes(path.read_bytes(), str(path))

    def __iter__(self) -> Iterator[Episode]:
        for number in range(len(self)):
            yield self[number]
