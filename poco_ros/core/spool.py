"""Episodes that are not handed over yet, on disk: what a crash of the rollout must not lose."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from poco_ros.core.episode import Episode
from poco_ros.core.errors import DataError
from poco_ros.core.files import PREFIX, sync_directory


class Spool:
    """A folder of ended episodes, first in, first out.

    What is put survives the death of the process at once. Flushing it to the disk takes two waits
    of some milliseconds, and goes on in a thread while the next episode runs. When the power fails
    in that time, the newest file may be torn: it is set aside when the spool is opened. What was
    removed may come back then, for hand-overs are idempotent.

    File names are ``00000042_<id>.safetensors``. Only one process uses a spool.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open a spool, with what an earlier process left in it.

        Raises:
            DataError: a file in the folder is not one of a spool, or an id is there twice.
        """
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in self.folder.glob(f"{PREFIX}*"):
            stale.unlink()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._flushing: Future[None] | None = None
        self._paths: dict[str, Path] = {}
        self._next = 0
        paths = sorted(self.folder.glob("*.safetensors"))
        for path in paths:
            number, _, episode_id = path.name.removesuffix(".safetensors").partition("_")
            if not number.isdigit() or not episode_id or episode_id in self._paths:
                raise DataError(f"{path}: not a file of this spool; move it away")
            self._next = int(number) + 1
            if path is not paths[-1] or _is_whole(path):
                self._paths[episode_id] = path
            else:
                path.rename(path.with_suffix(".torn"))

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, episode_id: str) -> bool:
        return episode_id in self._paths

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the episodes, oldest first."""
        return tuple(self._paths)

    def put(self, episode: Episode) -> None:
        """Add an episode, or replace the one with its id.

        Raises:
            OSError: the disk is full or not writable, or failed on the one before; the spool is as
                it was.
        """
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            flushing.result()
        path = self._paths.get(episode.id)
        if path is None:
            path = self.folder / f"{self._next:08d}_{episode.id}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"{PREFIX}{path.name}"
        try:
            temporary.write_bytes(episode.to_bytes())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._flushing = self._disk.submit(_flush, path)
        if episode.id not in self._paths:
            self._paths[episode.id] = path
            self._next += 1

    def get(self, episode_id: str) -> Episode:
        """Return an episode.

        Raises:
            DataError: its file is broken; it is named.
            KeyError: it is not in the spool.
        """
        path = self._paths[episode_id]
        return Episode.from_bytes(path.read_bytes(), str(path))

    def remove(self, episode_id: str) -> None:
        """Remove an episode that somebody else has on disk now."""
        self._paths.pop(episode_id).unlink()


def _is_whole(path: Path) -> bool:
    try:
        Episode.from_bytes(path.read_bytes(), str(path))
    except DataError:
        return False
    return True


def _flush(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # handed over and removed in the meantime
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
    sync_directory(path.parent)
