"""Is this camera alive? Frames that stopped, froze or went missing, told from what arrived."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

_KEPT = 60


@dataclass(frozen=True)
class CameraFault:
    """Something that is wrong with a camera right now."""

    code: str
    """``opening``, ``closed``, ``silent``, ``frozen`` or ``dropping``."""
    detail: str

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class FrameWatch:
    """Looks at every frame as it arrives; not thread-safe."""

    def __init__(self, expected_rate: float, frozen_after: float, drop_share: float) -> None:
        """Take what to expect.

        Args:
            expected_rate: frames a second; 0 = learn it from the stream.
            frozen_after: identical pictures for so long mean a frozen camera [s]; 0 = never, and
                a picture that repeats the one before is as good as a new one.
            drop_share: this share of missing frames is a fault, 0 to 1.
        """
        self._expected = expected_rate
        self._frozen_after = frozen_after
        self._drop_share = drop_share
        self._stamps: deque[int] = deque(maxlen=_KEPT)
        self._missing: deque[int] = deque(maxlen=_KEPT)
        self._lag = 0.0
        self._last: np.ndarray | None = None
        self._changed_ns = 0
        self._repeats = 0
        self.newest_ns = 0
        """When the newest frame was captured, monotonic clock [ns], whatever it shows."""
        self.dropped = 0
        """Frames that were missing, over the stream's life."""

    @property
    def rate(self) -> float:
        """Frames a second, lately; 0 before there are two."""
        if len(self._stamps) < 2 or self._stamps[-1] == self._stamps[0]:
            return 0.0
        return (len(self._stamps) - 1) * 1e9 / (self._stamps[-1] - self._stamps[0])

    def add(self, picture: np.ndarray, monotonic_ns: int) -> bool:
        """Take a frame that was captured at ``monotonic_ns`` [ns]; return whether it is a new one.

        The noise of a real sensor makes no two pictures identical, so one that is was not taken
        anew.
        """
        self._count_missing(monotonic_ns)
        self._stamps.append(monotonic_ns)
        self.newest_ns = monotonic_ns
        same = (self._last is not None and self._last.shape == picture.shape
                and bool(np.array_equal(self._last, picture)))
        if same:
            self._repeats += 1
        else:
            self._repeats, self._changed_ns = 0, monotonic_ns
        self._last = picture
        return not same or not self._frozen_after

    def restart(self) -> None:
        """The stream was opened again: the gap before it is not made of dropped frames."""
        self._stamps.clear()
        self._missing.clear()
        self._lag = 0.0

    def faults(self, now_ns: int) -> list[CameraFault]:
        """Return whether frames are frozen or go missing, at ``now_ns`` (monotonic)."""
        faults = []
        frozen = (now_ns - self._changed_ns) * 1e-9
        if self._frozen_after and self._repeats >= 3 and frozen > self._frozen_after:
            faults.append(CameraFault("frozen", f"the same picture for {frozen:.1f} s"
                                      f" ({self._repeats} times)"))
        missing = sum(self._missing)
        share = missing / (missing + len(self._missing)) if missing else 0.0
        if len(self._missing) >= 10 and share > self._drop_share:
            faults.append(CameraFault("dropping", f"{share:.0%} of the frames are missing"))
        return faults

    def _count_missing(self, monotonic_ns: int) -> None:
        """Count a lag as missing frames only when the next frame has not caught it up."""
        if not self._stamps:
            return
        period = 1.0 / self._expected if self._expected else self._usual_period()
        if period <= 0.0:
            return
        gap = (monotonic_ns - self._stamps[-1]) * 1e-9
        lag_before = self._lag
        # Forgetting a tenth each time: a rate that is not quite the expected one adds nothing up.
        self._lag = 0.9 * (lag_before + gap / period - 1.0)
        missing = max(round(min(lag_before, self._lag)), 0)
        self._lag -= missing
        self._missing.append(missing)
        self.dropped += missing

    def _usual_period(self) -> float:
        if len(self._stamps) < 10:
            return 0.0
        return float(np.median(np.diff(self._stamps))) * 1e-9
