"""The observation vector: named parts in a fixed order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from poco_ros.core.errors import DataError


@dataclass(frozen=True)
class ObservationLayout:
    """Which parts make an observation, in which order and of which size.

    In simulation one part, the environment's state; on the robot the features of each camera and
    the joint state. The layout is written into every checkpoint, so a policy is never run on
    another observation by accident.
    """

    parts: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.parts]
        if not self.parts or len(set(names)) != len(names):
            raise DataError(f"observation layout {self.parts}: names must be unique, one at least")
        for name, size in self.parts:
            if size < 1:
                raise DataError(f"observation layout: part {name!r} has size {size}, not >= 1")

    @property
    def size(self) -> int:
        """Length of the whole vector, O."""
        return sum(size for _, size in self.parts)

    def reduced(self, components: int) -> ObservationLayout:
        """Return the layout in which no part has more than ``components`` values; 0 = no limit."""
        return ObservationLayout(tuple((name, min(size, components or size))
                                       for name, size in self.parts))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parts, in order."""
        return tuple(name for name, _ in self.parts)

    def assemble(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the observation (O,) float32 from its parts by name.

        Raises:
            DataError: a part is missing, has another size or is not finite; the part is named.
        """
        pieces = []
        for name, size in self.parts:
            if name not in values:
                raise DataError(
                    f"observation part {name!r} is missing; got {sorted(values)}")
            piece = np.asarray(values[name], np.float32).reshape(-1)
            if piece.size != size:
                raise DataError(
                    f"observation part {name!r} has {piece.size} values, expected {size}")
            pieces.append(piece)
        observation = np.concatenate(pieces)
        self.check(observation)
        return observation

    def check(self, observation: np.ndarray) -> None:
        """Raise DataError, with the part and the index, unless ``observation`` is (O,), finite."""
        if observation.shape != (self.size,):
            raise DataError(f"observation has shape {observation.shape}, expected ({self.size},)"
                            f" = {self.parts}")
        bad = np.flatnonzero(~np.isfinite(observation))
        if bad.size:
            name, index = self.locate(int(bad[0]))
            raise DataError(f"observation part {name!r}: value {index} is"
                            f" {observation[bad[0]]}; {bad.size} value(s) are not finite")

    def locate(self, index: int) -> tuple[str, int]:
        """Return the part that entry ``index`` of the vector belongs to, and its place there."""
        for name, size in self.parts:
            if index < size:
                return name, index
            index -= size
        raise IndexError(f"the observation has {self.size} entries")

    def to_json(self) -> list[list[object]]:
        """Return the parts as JSON values."""
        return [[name, size] for name, size in self.parts]

    @classmethod
    def from_json(cls, value: object) -> ObservationLayout:
        """Read :meth:`to_json` back; DataError on anything else."""
        try:
            return cls(tuple((str(name), int(size)) for name, size in value))  # type: ignore
        except (TypeError, ValueError) as error:
            raise DataError(f"not an observation layout: {value!r}") from error
