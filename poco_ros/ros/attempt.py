"""An episode that is being made."""

from __future__ import annotations

import time

from poco_ros.core.episode import Outcome
from poco_ros.core.joining import EpisodeBuilder


class Attempt:
    """One try at an episode. In simulation a fault drops it, and the next try has the same id."""

    def __init__(self, number: int, episode_id: str, seed: int) -> None:
        """Take number, id and seed of the episode."""
        self.number, self.id, self.seed = number, episode_id, seed
        self.builder: EpisodeBuilder | None = None
        """None until the environment side has answered the reset."""
        self.heard_at = time.monotonic()
        """When the environment side was last heard, or given something to do."""
        self.ticked_at = self.heard_at
        """When the last step of the episode was complete."""
        self.label: tuple[Outcome, str] | None = None
        """Outcome and source of a label that came before the first step was complete."""

    @property
    def steps(self) -> int:
        """Complete steps so far."""
        return 0 if self.builder is None else self.builder.steps
