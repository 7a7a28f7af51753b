"""The operator's word that he is ready: for how long it is one, for everybody who hears it."""

from __future__ import annotations

import time

from std_msgs.msg import Header

from poco_ros.ros import convert

READY_AGE = 2.0
"""A press of *ready* that is older says nothing of now [s]."""


def why_not_now(press: Header) -> str:
    """Return why a press of *ready* says nothing of now; empty when it counts."""
    age = (time.time_ns() - convert.stamp_of(press.stamp)) * 1e-9
    if abs(age) <= READY_AGE:
        return ""
    return (f"its stamp is {age:.1f} s old, allowed are {READY_AGE:g} s; press it again, and if"
            " that does not help, set the clocks right")
