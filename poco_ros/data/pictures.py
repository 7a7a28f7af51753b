"""Pictures that were recorded beside episodes: ``<folder>/<camera>/<episode id>/<stamp>.jpg``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poco_ros.core.episode import Episode
from poco_ros.core.errors import DataError

SUFFIX = ".jpg"


@dataclass(frozen=True)
class Picture:
    """One recorded picture."""

    stamp: int
    """When it was taken [ns], as its file name says."""
    path: Path


class RecordedPictures:
    """A folder of recorded pictures; files are looked up when they are asked for."""

    def __init__(self, folder: str | Path) -> None:
        """Look which cameras there are.

        Raises:
            DataError: there is no such folder, or no camera in it.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: there is no such folder of pictures")
        self.cameras = tuple(sorted(p.name for p in self.folder.iterdir() if p.is_dir()))
        """Names of the cameras."""
        if not self.cameras:
            raise DataError(f"{self.folder}: there are no cameras in it; expected"
                            " <camera>/<episode id>/<stamp in ns>.jpg below it")

    def of(self, episode: Episode) -> dict[str, list[Picture]]:
        """Return camera -> its pictures of an episode, in order of time; none may be there.

        Raises:
            DataError: a file's name is not a stamp.
        """
        found = {}
        for camera in self.cameras:
            paths = (self.folder / camera / episode.id).glob(f"*{SUFFIX}")
            found[camera] = sorted((_picture(path) for path in paths), key=lambda p: p.stamp)
        return found

    def began(self, episode: Episode) -> int | None:
        """Return when the first observation was taken [ns] by the clock of the pictures.

        Where the episode does not say, its first picture does, to one picture's time. None: there
        are no pictures of it.
        """
        stamps = [pictures[0].stamp for pictures in self.of(episode).values() if pictures]
        if not stamps:
            return None
        return episode.began + int(episode.stamps[0]) or min(stamps)

    def spread(self, episode: Episode, count: int) -> dict[str, list[tuple[float, Picture]]]:
        """Return camera -> at most ``count`` pictures, evenly over the episode's time.

        Each comes with its time since the first observation [s]; a picture occurs once.
        """
        began = self.began(episode)
        span = int(episode.stamps[-1] - episode.stamps[0])
        chosen: dict[str, list[tuple[float, Picture]]] = {}
        for camera, pictures in self.of(episode).items():
            if not pictures or began is None:
                continue
            stamps = np.array([picture.stamp for picture in pictures])
            wanted = began + (np.arange(count) + 0.5) / count * span
            indices = sorted({int(np.abs(stamps - moment).argmin()) for moment in wanted})
            chosen[camera] = [((pictures[index].stamp - began) * 1e-9, pictures[index])
                              for index in indices]
        return chosen


def _picture(path: Path) -> Picture:
    if not path.stem.isdigit():
        raise DataError(f"{path}: expected a stamp in nanoseconds as its name, such as"
                        f" 1700000000000000000{SUFFIX}")
    return Picture(int(path.stem), path)
