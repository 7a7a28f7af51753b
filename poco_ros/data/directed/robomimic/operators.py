"""Six operators of different skill, as those behind robomimic's multi-human data sets.

There, two people were better, two okay and two worse, and the files name them by these words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Operator:
    """How one person works."""

    name: str
    """The filter key of the demonstrations of this one."""
    group: str
    """``better``, ``okay`` or ``worse``: the filter key of two operators together."""
    speed: float
    """Of the hand, as a share of the controller's largest step."""
    clumsiness: float
    """Scales the noise and all mistakes."""
    pauses: float
    """Probability that the hand rests for a moment between two moves."""


OPERATORS = (
    Operator("better_operator_1", "better", 1.00, 0.55, 0.02),
    Operator("better_operator_2", "better", 0.85, 0.70, 0.05),
    Operator("okay_operator_1", "okay", 0.90, 1.00, 0.10),
    Operator("okay_operator_2", "okay", 0.75, 0.90, 0.15),
    Operator("worse_operator_1", "worse", 0.80, 1.50, 0.20),
    Operator("worse_operator_2", "worse", 0.65, 1.30, 0.30),
)


MASKS = ("trainable", "successful", "train", "valid", "recovered",
         *dict.fromkeys(operator.group for operator in OPERATORS),
         *(operator.name for operator in OPERATORS))
"""Filter keys of the files that are made of their demonstrations."""


@dataclass(frozen=True)
class Style:
    """How an operator works in one episode; random draws come from ``np.random``."""

    operator: Operator
    noise: float
    """The noise that was asked for; 0 = nobody errs."""
    speed: float
    """Of the hand, as a share of the controller's largest step."""
    carry: float
    """How high things are carried, 0 = just high enough, 1 = as high as it goes."""
    from_the_side: bool
    """Come to a thing from its side, or else from above."""
    in_an_arc: bool
    """First up, then across, or else straight."""
    drops: float
    """How high a thing is let go, 0 = put down, 1 = from where it was carried."""

    @property
    def error(self) -> float:
        """How much goes wrong, relative to an operator of middling skill at noise 1."""
        return self.noise * self.operator.clumsiness

    def errs(self, often: float) -> bool:
        """Draw whether a mistake is made that is made so ``often`` for an error of 1."""
        return bool(np.random.random() < often * self.error)


def draw_style(operator: Operator, noise: float) -> Style:
    """Return how ``operator`` works this time."""
    speed = operator.speed * np.random.uniform(0.8, 1.2)
    return Style(operator, noise, float(speed), carry=float(np.random.random()),
                 from_the_side=bool(np.random.random() < 0.4),
                 in_an_arc=bool(np.random.random() < 0.5),
                 drops=float(np.random.random() ** 2))
