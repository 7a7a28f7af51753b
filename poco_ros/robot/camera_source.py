"""Pictures through OpenCV: from a device, a file or a URL, each with the time of its capture."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np

from poco_ros.core.errors import PocoError

cv2.setLogLevel(2)  # errors: a camera that is not there was a warning at every try, on stderr
_URL = ("http://", "https://", "rtsp://", "rtmp://", "udp://", "tcp://")


class CameraError(PocoError):
    """A camera cannot be opened or has ended; the message says which one and what to do."""


def device_stamp(position_ms: float, now_ns: int) -> int:
    """Return when the driver says a frame was captured, monotonic [ns].

    Video4Linux reports the monotonic time of the first byte; other drivers report anything.
    What lies in the future or more than half a second back is not believed: then it is now.
    """
    claimed = round(position_ms * 1e6)
    return claimed if 0 <= now_ns - claimed < 500_000_000 else now_ns


class CameraSource:
    """One open stream. One thread at a time."""

    def __init__(self, source: str, width: int, height: int, rate: float, fourcc: str,
                 loop: bool, read_timeout: float) -> None:
        """Open.

        Args:
            source: a device's number or path (``0``, ``/dev/video0``), a URL, or a video file.
            width: of a device's pictures; 0 = as it comes.
            height: of a device's pictures; 0 = as it comes.
            rate: of a device or at which a file is played; 0 = as it comes.
            fourcc: pixel format of a device, such as MJPG; empty = as it comes.
            loop: play a file again when it ends.
            read_timeout: how long opening and reading may hang [s].

        Raises:
            CameraError: it cannot be opened.
        """
        self.source = source
        self._loop = loop
        self._is_device = source.isdigit() or source.startswith("/dev/")
        self._is_file = not self._is_device and not source.startswith(_URL)
        patience = round(read_timeout * 1000)
        if self._is_file and not Path(source).is_file():
            raise CameraError(f"camera source {source!r}: no such file; a device is a number or"
                              " /dev/..., a stream is a URL")
        if self._is_device:
            self._capture = cv2.VideoCapture(int(source) if source.isdigit() else source,
                                             cv2.CAP_V4L2)
        else:
            # One decoding thread: with more, the decoder keeps frames back.
            self._capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, patience, cv2.CAP_PROP_READ_TIMEOUT_MSEC, patience,
                cv2.CAP_PROP_N_THREADS, 1])
        if not self._capture.isOpened():
            self._capture.release()
            raise CameraError(f"camera source {source!r} cannot be opened; is it plugged in, in"
                              " use by another program, or the URL right?")
        if self._is_device:
            self._set_up(width, height, rate, fourcc)
        self._period = 0.0
        if self._is_file:
            frames = rate or self._capture.get(cv2.CAP_PROP_FPS) or 30.0
            self._period = 1.0 / frames
        self._due = time.monotonic()

    def read(self) -> tuple[np.ndarray, int]:
        """Wait for the next picture; return it, (H, W, 3) uint8 RGB, and its stamp [mono ns].

        Raises:
            CameraError: the stream ended or hangs.
        """
        if self._period:
            time.sleep(max(0.0, self._due - time.monotonic()))
            self._due = max(self._due + self._period, time.monotonic() - self._period)
        if not self._capture.grab() and not (self._rewind() and self._capture.grab()):
            raise CameraError(f"camera source {self.source!r} gives no more pictures")
        stamp = time.monotonic_ns()
        if self._is_device:
            stamp = device_stamp(self._capture.get(cv2.CAP_PROP_POS_MSEC), stamp)
        good, picture = self._capture.retrieve()
        if not good:
            raise CameraError(f"camera source {self.source!r} gave a picture that cannot be read")
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), stamp

    def close(self) -> None:
        """Release the device or the connection."""
        self._capture.release()

    def _rewind(self) -> bool:
        return self._is_file and self._loop and bool(self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0))

    def _set_up(self, width: int, height: int, rate: float, fourcc: str) -> None:
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if fourcc:
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*fourcc))
        for setting, value in ((cv2.CAP_PROP_FRAME_WIDTH, width),
                               (cv2.CAP_PROP_FRAME_HEIGHT, height), (cv2.CAP_PROP_FPS, rate)):
            if value:
                self._capture.set(setting, value)
