"""Episodes that are not handed over yet, on disk: what a crash of the rollout must not lose."""

from __future__ import annotations

from pathlib import Path

from poco_ros.core.episode import Episode
from poco_ros.core.errors import DataError
from poco_ros.core.files import PREFIX, sync_directory, write_atomic


class Spool:
    """A folder of ended episodes, first in, first out. Every change is durable when it returns.

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
        self._paths: dict[str, Path] = {}
        self._next = 0
        for path in sorted(self.folder.glob("*.safetensors")):
            number, _, episode_id = path.name.removesuffix(".safetensors").partition("_")
            if not number.isdigit() or not episode_id or episode_id in self._paths:
                raise DataError(f"{path}: not a file of this spool; move it away")
            self._paths[episode_id] = path
            self._next = int(number) + 1

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
            OSError: the disk is full or not writable; the spool is as it was.
        """
        path = self._paths.get(episode.id)
        if path is None:
            path = self.folder / f"{self._next:08d}_{episode.id}.safetensors"
        write_atomic(path, episode.to_bytes())
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
        sync_directory(self.folder)
