"""A video of episodes of the robot, from the pictures that its cameras recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from poco_ros.core.episode import Episode
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.errors import DataError
from poco_ros.data.pictures import RecordedPictures
from poco_ros.video import HEIGHT, captioned, side_by_side, write_gif, write_video

RATE = 5.0
"""Pictures a second, as they are recorded."""
EPISODES = 3
SUCCESS, FAILURE, RUNNING = (120, 230, 120), (240, 130, 120), (255, 255, 255)


def film_of_pictures(runs: Mapping[str, Path], path: Path, episodes: int = EPISODES) -> None:
    """Write a video, and a GIF beside it, of the first episodes of several runs side by side.

    Args:
        runs: caption -> folder with ``episodes`` and ``pictures``.
        path: the MP4.
        episodes: how many of each run.

    Raises:
        DataError: there are no pictures of an episode.
        OSError: the disk is full or not writable.
    """
    frames: list[np.ndarray] = []
    recordings = {name: RecordedPictures(folder / "pictures") for name, folder in runs.items()}
    stores = {name: EpisodeStore(folder / "episodes") for name, folder in runs.items()}
    for number in range(min(episodes, *(len(store) for store in stores.values()))):
        halves = [_episode(stores[name][number], recordings[name], name) for name in runs]
        frames += side_by_side(*halves)
    write_video(frames, path, RATE)
    write_gif(frames, path.with_suffix(".gif"), RATE)


def _episode(episode: Episode, pictures: RecordedPictures, name: str) -> list[np.ndarray]:
    """Return the frames of an episode, every camera beside the next."""
    cameras = [found for found in pictures.of(episode).values() if found]
    if not cameras:
        raise DataError(f"{pictures.folder}: no pictures of episode {episode.id}")
    length = min(map(len, cameras))
    frames = [np.hstack([_read(found[index].path) for found in cameras])
              for index in range(length)]
    verdict, colour = ("success", SUCCESS) if episode.success else ("failure", FAILURE)
    return [*(captioned(frame, name, RUNNING) for frame in frames[:-1]),
            captioned(frames[-1], f"{name}: {verdict}", colour)]


def _read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    if picture is None:
        raise DataError(f"{path}: cannot be read as a picture")
    scale = HEIGHT / picture.shape[0]
    larger = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return cv2.cvtColor(larger, cv2.COLOR_BGR2RGB)
