"""Things that go wrong on request, each for a while."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from poco_ros.core.errors import PocoError


class FaultError(PocoError):
    """No such fault, or a wrong parameter of it."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault."""

    doc: str
    start: Callable[..., None]
    """Called with the parameters."""
    end: Callable[[], None]
    parameters: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    """Name -> default and meaning, besides ``seconds``."""


class Faults:
    """The faults that a cell knows, and which of them are on.

    Driven by the cell's thread; times are the scene's.
    """

    def __init__(self) -> None:
        self._known: dict[str, Fault] = {}
        self._ends: dict[str, float] = {}

    def add(self, name: str, fault: Fault) -> None:
        """Make ``fault`` known."""
        self._known[name] = fault

    @property
    def active(self) -> dict[str, float]:
        """Name -> when it ends [s]; inf when only ``clear`` ends it."""
        return dict(self._ends)

    def describe(self) -> dict[str, str]:
        """Return name -> what it does and takes, for help."""
        described = {}
        for name, fault in self._known.items():
            extra = "".join(f"; {key}: {meaning} ({default:g})"
                            for key, (default, meaning) in fault.parameters.items())
            described[name] = fault.doc + extra
        return described

    def start(self, name: str, now: float, parameters: Mapping[str, str]) -> float:
        """Begin a fault, anew if it is on; return when it ends [s].

        ``parameters`` may hold ``seconds`` (3; 0 means until cleared) and those of the fault.

        Raises:
            FaultError: an unknown fault or parameter, or a value that is no number.
        """
        fault = self._known.get(name)
        if fault is None:
            raise FaultError(f"no fault {name!r}; known: {', '.join(self._known)}, clear")
        values = {key: default for key, (default, _) in fault.parameters.items()}
        seconds = 3.0
        for key, text in parameters.items():
            if key != "seconds" and key not in values:
                raise FaultError(f"fault {name}: no parameter {key!r}; known: "
                                 f"{', '.join(['seconds', *values])}")
            try:
                number = float(text)
            except ValueError as error:
                raise FaultError(f"fault {name}: {key}={text!r} is not a number") from error
            if not math.isfinite(number) or number < 0:
                raise FaultError(f"fault {name}: {key}={text} must be finite and at least 0")
            if key == "seconds":
                seconds = number
            else:
                values[key] = number
        if name in self._ends:
            self.end(name)
        fault.start(**values)
        self._ends[name] = now + seconds if seconds > 0 else math.inf
        return self._ends[name]

    def end(self, name: str) -> None:
        """End a fault, if it is on."""
        if self._ends.pop(name, None) is not None:
            self._known[name].end()

    def clear(self) -> None:
        """End all faults."""
        for name in list(self._ends):
            self.end(name)

    def expire(self, now: float) -> None:
        """End the faults whose time is over."""
        for name, when in list(self._ends.items()):
            if when <= now:
                self.end(name)
