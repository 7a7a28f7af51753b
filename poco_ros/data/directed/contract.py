"""What makes a demonstration: told where things stand, it says the next action."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class Demonstrator(ABC):
    """Acts in one environment, which it may look into. Random draws come from ``np.random``."""

    @abstractmethod
    def begin(self) -> None:
        """Look at the episode that was just begun and make a plan."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth saying of the episode so far, such as who worked and what went wrong."""
        return ()

    @abstractmethod
    def act(self) -> np.ndarray | None:
        """Return the next action (A,) in [-1, 1]; None when the plan has ended.

        Once the task is solved it holds still for as long as it is asked.
        """
