"""The operator's word that he is ready: for how long it is one, for everybody who hears it."""

from __future__ import annotations

import time
from collections import deque

from std_msgs.msg import Header

from poco_ros.ros import convert
from poco_ros.ros.diagnostics import Health

READY_AGE = 2.0
"""A press of *ready* that is older says nothing of now [s]."""
GRACE = 0.5
"""A reset waits so long for the *ready* that it came with: it may overtake it [s]."""


class Presses:
    """The presses of *ready* that were heard, each of which counts once.

    Who types the word repeats it, for one node may find him later than another.
    """

    def __init__(self) -> None:
        self._stamps: deque[int] = deque(maxlen=16)

    def is_new(self, press: Header) -> bool:
        """Return whether the press was not heard before."""
        stamp = convert.stamp_of(press.stamp)
        if stamp in self._stamps:
            return False
        self._stamps.append(stamp)
        return True

    def counts(self, press: Header, health: Health) -> bool:
        """Return whether the press is new and of now; one that is too old is told of."""
        if not self.is_new(press):
            return False
        if too_old := why_not_now(press):
            health.event("ready refused", too_old)
        return not too_old


def why_not_now(press: Header) -> str:
    """Return why a press of *ready* says nothing of now; empty when it counts."""
    age = (time.time_ns() - convert.stamp_of(press.stamp)) * 1e-9
    if abs(age) <= READY_AGE:
        return ""
    return (f"its stamp is {age:.1f} s old, allowed are {READY_AGE:g} s; press it again, and if"
            " that does not help, set the clocks right")
