"""Episodes as they lie on disk: read from wherever they are, and added to a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from poco_ros.core.episode import Episode
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.errors import DataError


def is_robomimic(path: Path) -> bool:
    """Return whether a file's name says that it is robomimic's HDF5."""
    return path.suffix.lower() in (".hdf5", ".h5")


def read_episodes(folder: Path) -> list[Episode]:
    """Return the episodes of a folder, or of a run folder; only read, a run may be writing it.

    Raises:
        DataError: there are none, or a file is broken.
    """
    paths = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("episodes/*.safetensors"))
    if not paths:
        raise DataError(f"{folder}: there are no episodes (*.safetensors), here or in episodes/")
    return [Episode.from_bytes(path.read_bytes(), str(path)) for path in paths]


def store_episodes(folder: Path, episodes: Iterable[Episode]) -> int:
    """Add episodes to a folder; one that is there already, the same, stays as it is.

    So what was interrupted goes on, and sets can be put together.

    Returns:
        How many of ``episodes`` are in the folder now: all.

    Raises:
        DataError: there are none, or another episode of the same id is in the folder.
        OSError: the disk is full or not writable; what is stored already stays.
    """
    store: EpisodeStore | None = None
    count = 0
    for count, episode in enumerate(episodes, 1):  # noqa: B007 - it is returned
        store = store or EpisodeStore(folder)
        if store.add(episode):
            continue
        known = store[store.ids.index(episode.id)]
        if known.to_bytes() != episode.to_bytes():
            raise DataError(f"{folder}: holds another episode {episode.id}; name a new folder")
    if not count:
        raise DataError(f"{folder}: there are no episodes to store")
    return count
