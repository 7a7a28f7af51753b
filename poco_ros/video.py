"""A video of a policy before and after it has learned, side by side, from the same starts."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from poco_ros.core.environment import Environment
from poco_ros.core.errors import DataError
from poco_ros.core.files import replacing
from poco_ros.core.rollout import ChunkPolicy
from poco_ros.core.seeding import chunk_seed

WIDTH, HEIGHT = 320, 240
GIF_WIDTH = 560
FRAME_EVERY = 3
"""Control steps between frames: rendering on a CPU takes longer than the simulation."""
HOLD_FRAMES = 8
"""Frames for which the last picture stays."""


def record(environment: Environment, policy: ChunkPolicy, seed: int,
           progress: Callable[[], None] | None = None) -> tuple[list[np.ndarray], bool]:
    """Run the episode of ``seed`` and return its frames (HEIGHT, WIDTH, 3) uint8 and success."""
    observation = environment.reset(seed)
    frames = [environment.render(WIDTH, HEIGHT)]
    chunk_index = steps = 0
    while True:
        for action in policy.act(observation, chunk_seed(seed, chunk_index)):
            step = environment.step(action)
            observation, steps = step.observation, steps + 1
            ended = step.terminated or step.truncated
            if ended or steps % FRAME_EVERY == 0:
                frames.append(environment.render(WIDTH, HEIGHT))
                if progress is not None:
                    progress()
            if ended:
                return frames, step.success
        chunk_index += 1


def captioned(frame: np.ndarray, caption: str, colour: tuple[int, int, int]) -> np.ndarray:
    """Return a copy of the frame with a caption on a dark band."""
    picture = frame.copy()
    picture[:24] = picture[:24] // 3
    cv2.putText(picture, caption, (8, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    return picture


def side_by_side(left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return both recordings in one picture; the shorter one stays on its last frame."""
    length = max(len(left), len(right)) + HOLD_FRAMES
    return [np.hstack((left[min(i, len(left) - 1)], right[min(i, len(right) - 1)]))
            for i in range(length)]


def compare(environment: Environment, before: ChunkPolicy, after: ChunkPolicy,
            seeds: Sequence[int], names: tuple[str, str] = ("before", "after"),
            progress: Callable[[], None] | None = None) -> list[np.ndarray]:
    """Return frames of both policies from the same starts, one start after another."""
    frames: list[np.ndarray] = []
    for seed in seeds:
        halves = []
        for policy, name in zip((before, after), names, strict=True):
            pictures, success = record(environment, policy, seed, progress)
            colour, verdict = ((120, 230, 120), "success") if success else ((240, 130, 120),
                                                                          "failure")
            shown = [captioned(p, name, (255, 255, 255)) for p in pictures[:-1]]
            halves.append([*shown, captioned(pictures[-1], f"{name}: {verdict}", colour)])
        frames += side_by_side(*halves)
    return frames


def write_video(frames: Sequence[np.ndarray], path: Path, rate: float) -> None:
    """Write frames (H, W, 3) uint8 RGB as an MP4 of ``rate`` frames a second, whole or not at all.

    Raises:
        DataError: OpenCV on this machine cannot write it.
        OSError: the disk is full or not writable.
    """
    height, width = frames[0].shape[:2]
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    with replacing(path) as temporary:
        film = temporary.with_name(f"{temporary.name}.mp4")  # OpenCV goes by the end of the name
        writer = cv2.VideoWriter(str(film), codec, rate, (width, height))
        try:
            if not writer.isOpened():
                raise DataError(f"{path}: OpenCV cannot write an MP4 video here; is there room on"
                                " the disk?")
            for frame in frames:
                writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            writer.release()
            if not cv2.VideoCapture(str(film)).isOpened():  # OpenCV itself says nothing
                raise OSError(errno.EIO, "the video is not whole; is there room on the disk?",
                              str(path))
            film.replace(temporary)
        finally:
            writer.release()
            film.unlink(missing_ok=True)


def write_gif(frames: Sequence[np.ndarray], path: Path, rate: float) -> None:
    """Write frames (H, W, 3) uint8 RGB as an animated GIF, which every page shows.

    It is at most ``GIF_WIDTH`` wide: a GIF grows with its pixels as no video does.

    Raises:
        OSError: the disk is full or not writable; a file that was there stays.
    """
    from PIL import Image

    width = min(GIF_WIDTH, frames[0].shape[1])
    height = round(frames[0].shape[0] * width / frames[0].shape[1])
    pictures = [Image.fromarray(frame).resize((width, height), Image.Resampling.BOX).quantize(64)
                for frame in frames]
    with replacing(path) as temporary:
        pictures[0].save(temporary, format="GIF", save_all=True, append_images=pictures[1:],
                         duration=round(1000 / rate), loop=0, optimize=True)
