"""Live pictures: each camera renders on a thread of its own while somebody watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from poco_ros.cell.cameras import Camera
from poco_ros.cell.renderer import Snapshot


class CameraStream:
    """The newest JPEG of one camera.

    Faults: ``frozen`` repeats the same picture, ``drop_share`` leaves pictures out, ``silent``
    sends none while the connection stays open.
    """

    def __init__(self, camera: Camera, snapshot: Callable[[], Snapshot], speed: float,
                 rng: np.random.Generator) -> None:
        self.camera = camera
        self.frozen = self.silent = False
        self.drop_share = 0.0
        self.pictures = 0
        """Pictures that were rendered."""
        self._snapshot, self._rng = snapshot, rng
        self._period = 1.0 / (camera.config.rate * speed)
        self._news = threading.Condition()
        self._rendering = threading.Lock()
        self._jpeg, self._number = b"", 0
        self._watchers = 0
        self._closed = False
        self._thread = threading.Thread(
            target=self._run, name=f"camera {camera.config.name}", daemon=True)
        self._thread.start()

    def picture(self) -> bytes:
        """Return one fresh JPEG."""
        with self._rendering:
            self.pictures += 1
            return self.camera.jpeg(self.camera.take(self._snapshot()))

    def watch(self) -> Iterator[bytes]:
        """Yield JPEGs as they come, until the stream is closed."""
        with self._news:
            self._watchers += 1
            seen = self._number
            self._news.notify_all()
        try:
            while True:
                with self._news:
                    self._news.wait_for(lambda: self._closed or self._number != seen)  # noqa: B023
                    if self._closed:
                        return
                    seen, jpeg = self._number, self._jpeg
                yield jpeg
        finally:
            with self._news:
                self._watchers -= 1

    def close(self) -> None:
        """Stop rendering; watchers end."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            with self._news:
                self._news.wait_for(lambda: self._closed or self._watchers)
                if self._closed:
                    return
            due = max(due + self._period, time.monotonic() - self._period)
            time.sleep(max(0.0, due - time.monotonic()))
            if self.silent or self._rng.random() < self.drop_share:
                continue
            jpeg = self._jpeg if self.frozen and self._jpeg else self.picture()
            with self._news:
                self._jpeg, self._number = jpeg, self._number + 1
                self._news.notify_all()
