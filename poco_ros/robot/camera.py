"""A camera on a thread of its own: the newest frame, true stamps, and what is wrong with it."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

import cv2
import numpy as np

from poco_ros.core.clock import wall_time
from poco_ros.robot.camera_source import CameraError, CameraSource
from poco_ros.robot.camera_watch import CameraFault, FrameWatch
from poco_ros.robot.vision_config import CameraConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture."""

    picture: np.ndarray
    """(H, W, 3) uint8, RGB; not to be written to."""
    number: int
    """Counts the frames of the camera, from 1."""
    monotonic_ns: int
    """When it was captured, monotonic clock [ns]; ages are counted with it."""
    wall_ns: int
    """When it was captured, wall clock [ns]; for stamps only."""


class Camera:
    """Reads a camera for as long as it runs; only the newest frame is kept.

    A picture that only repeats the one before is no new frame, so the newest is never younger than
    what it shows. A stream that ends, hangs or is unplugged is opened again until the camera is
    stopped.
    """

    def __init__(self, config: CameraConfig) -> None:
        self.config = config
        self._watch = FrameWatch(config.rate, config.frozen_after, config.drop_share)
        self._news = threading.Condition()
        self._frame: Frame | None = None
        self._numbers = 0
        self._trouble: CameraFault | None = CameraFault("closed", "it was not started")
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self.reconnections = 0
        """Times that the stream was opened again."""

    @property
    def name(self) -> str:
        """Name from the settings."""
        return self.config.name

    def start(self) -> None:
        """Begin to read; returns at once, also when the camera is not there yet."""
        if self._thread is not None:
            raise RuntimeError(f"camera {self.name} runs already")
        cv2.setNumThreads(1)  # pictures are small; more threads only disturb the control loop
        self._trouble = CameraFault("opening", "it is being opened")
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, name=f"camera_{self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End reading; takes as long as the read timeout when the stream hangs."""
        self._ending.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def newest(self) -> Frame | None:
        """Return the newest frame, None before the first; see :meth:`faults` for its worth."""
        return self._frame

    def wait_newer(self, number: int, timeout: float) -> Frame | None:
        """Wait for a frame after ``number``; return None when none came within ``timeout`` [s]."""
        with self._news:
            newer = self._news.wait_for(
                lambda: self._frame is not None and self._frame.number > number, timeout)
            return self._frame if newer else None

    def faults(self) -> list[CameraFault]:
        """Return what is wrong right now."""
        now = time.monotonic_ns()
        with self._news:
            faults = self._watch.faults(now)
            if self._trouble is not None:
                faults.insert(0, self._trouble)
            elif self._frame is not None:
                age = (now - self._watch.newest_ns) * 1e-9
                if age > self.config.silent_after:
                    faults.insert(0, CameraFault("silent", f"no frame for {age:.1f} s"))
        return faults

    @property
    def rate(self) -> float:
        """Frames a second, lately."""
        with self._news:
            return self._watch.rate

    @property
    def dropped(self) -> int:
        """Frames that were missing so far."""
        with self._news:
            return self._watch.dropped

    def _run(self) -> None:
        config = self.config
        while not self._ending.is_set():
            try:
                source = CameraSource(config.source, config.width, config.height, config.rate,
                                      config.fourcc, config.loop, config.read_timeout)
            except CameraError as error:
                self._lose(str(error))
                continue
            try:
                while not self._ending.is_set():
                    self._publish(*source.read())
            except CameraError as error:
                self._lose(str(error))
            finally:
                source.close()

    def _lose(self, trouble: str) -> None:
        with self._news:
            if self._trouble is None:
                logger.warning("camera %s: %s", self.name, trouble)
            self._trouble = CameraFault("closed", trouble)
            self._watch.restart()
        self.reconnections += not self._ending.wait(self.config.reconnect_period)

    def _publish(self, picture: np.ndarray, monotonic_ns: int) -> None:
        picture = crop(picture, self.config.crop)
        picture.setflags(write=False)
        wall_ns = wall_time(monotonic_ns)
        with self._news:
            self._trouble = None
            if not self._watch.add(picture, monotonic_ns):
                return
            self._numbers += 1
            self._frame = Frame(picture, self._numbers, monotonic_ns, wall_ns)
            self._news.notify_all()


def crop(picture: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Return the part of ``picture`` (H, W, 3) within ``box``: left, top, right, bottom."""
    height, width = picture.shape[:2]
    left, right = (round(share * width) for share in (box[0], box[2]))
    top, bottom = (round(share * height) for share in (box[1], box[3]))
    return np.ascontiguousarray(picture[top:max(bottom, top + 1), left:max(right, left + 1)])
