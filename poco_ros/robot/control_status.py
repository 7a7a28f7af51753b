"""What the control loop tells: its mode, what it executed, how it does."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from poco_ros.core.chunk import PlayedAction
from poco_ros.robot.safety_filter import Decision
from poco_ros.robot.ticker import Lateness


class Mode(enum.Enum):
    """What the controller does."""

    INACTIVE = "inactive"
    """It measures and commands nothing."""
    RAMPING = "ramping"
    """It goes home."""
    ACTIVE = "active"
    """It executes chunks, and rests where it is when there are none."""
    HOLDING = "holding"
    """A fault: it holds the measured pose until the operator is ready."""
    STOPPED = "stopped"
    """The stop is latched: nothing moves until it is released."""


@dataclass(frozen=True, eq=False)
class Executed:
    """What was done in one tick of an episode."""

    stamp: int
    """Stamp of the observation that it acted on [ns]."""
    episode_id: str
    step: int
    """From 0 within the episode; step 0 is the first action of its first chunk."""
    played: PlayedAction | None
    """What was taken from a chunk; None when nothing was due."""
    decision: Decision


@dataclass(frozen=True)
class Status:
    """How the control loop does."""

    mode: Mode
    reason: str
    """Why it holds or is stopped; what is wrong now."""
    episode_id: str
    step: int
    ticks: int
    missed_ticks: int
    sense_lateness: Lateness
    act_lateness: Lateness
    verdicts: dict[str, int] = field(default_factory=dict)
    """Ticks of episodes by verdict."""
    late_chunks: int = 0
    """Ticks in which an action was due and no chunk was there."""
    chunk_lateness: float = 0.0
    """How long that has been so [s]; 0 = not now."""
    refused_chunks: dict[str, int] = field(default_factory=dict)
    """Refused chunks by reason."""
