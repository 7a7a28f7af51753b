"""How an update is carried out: drawn on the host and read at once, or wholly on the device.

The trainer asks for an update of a phase and does not know which. An updater on the device hands
back no metrics with the update; they are summed there and read every so often, so that the host
never waits for the device. What is not finite is then noticed late, but by the exact number of
the update, and before anything leaves the trainer: a checkpoint, a policy that acts, a row of
metrics.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np

from poco_ros.core.errors import PocoError
from poco_ros.learning.agents.base import Agent, Phase
from poco_ros.learning.experience import Experience


class DivergedError(PocoError):
    """Learning has made numbers that are not finite."""


def diverged(update: int, metrics: Iterable[str]) -> DivergedError:
    """Return the error that says which metrics of update number ``update`` are not finite."""
    return DivergedError(f"update {update}: {', '.join(metrics)} is not finite; the last"
                         " checkpoint is whole: resume from it with a lower lr")


class Updater(ABC):
    """See the module."""

    @abstractmethod
    def update(self, phase: Phase, number: int) -> dict[str, float]:
        """Do update number ``number`` of the run; return its metrics, or none where they are late.

        Raises:
            DivergedError: this update's loss is not finite, or that of an earlier one.
        """

    def late_metrics(self) -> dict[str, float]:
        """Return the sums, since the last call, of the metrics that :meth:`update` held back.

        Raises:
            DivergedError: one of them was not finite.
        """
        return {}

    def check(self) -> None:  # noqa: B027
        """Raise DivergedError if any update so far has made something that is not finite."""

    def forget(self) -> None:  # noqa: B027
        """Take note that networks or optimisers have been replaced."""


class HostUpdater(Updater):
    """Draws on the host and reads the metrics of every update."""

    def __init__(self, agent: Agent, experience: Experience,
                 generator: np.random.Generator) -> None:
        """``generator`` draws the batches; the trainer saves its state."""
        self._agent, self._experience, self._generator = agent, experience, generator

    def update(self, phase: Phase, number: int) -> dict[str, float]:
        """Do one update."""
        batch = self._agent.tensors(self._experience.batch(self._generator))
        metrics = self._agent.update(batch, phase)
        found = {name: float(value) for name, value in metrics.items()}
        strange = [name for name, value in found.items() if not math.isfinite(value)]
        if strange:
            raise diverged(number, strange)
        return found
