"""Where key presses come from: one seam, whatever is plugged in."""

from __future__ import annotations

import select
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

from poco_ros.core.clock import wall_time
from poco_ros.core.errors import PocoError


class KeypadError(PocoError):
    """The keypad is not there, or no longer; the message names it."""


@dataclass(frozen=True)
class RawKey:
    """A key that went down."""

    name: str
    """What is printed on it: ``1``, ``+``, ``a``, or ``enter``, ``space``, ``backspace``, ..."""
    monotonic_ns: int
    """When it went down, monotonic clock [ns]."""
    wall_ns: int
    """When it went down, wall clock [ns]; for stamps only."""

    @classmethod
    def now(cls, name: str) -> RawKey:
        """Return a key that goes down at this moment."""
        return cls(name, time.monotonic_ns(), time.time_ns())

    @classmethod
    def at(cls, name: str, monotonic_ns: int) -> RawKey:
        """Return a key that went down at ``monotonic_ns``."""
        return cls(name, monotonic_ns, wall_time(monotonic_ns))


class KeySource(ABC):
    """A keypad of one kind. One thread at a time; opened again after it was lost."""

    @abstractmethod
    def open(self) -> None:
        """Find the keypad.

        Raises:
            KeypadError: it is not there.
        """

    @abstractmethod
    def read(self, timeout: float) -> list[RawKey]:
        """Wait for keys for ``timeout`` [s] at most; return those that went down, in order.

        Raises:
            KeypadError: the keypad is gone.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the keypad back; without effect when it is not open."""


_CONTROL_NAMES = {"\r": "enter", "\n": "enter", " ": "space", "\t": "tab", "\x1b": "escape",
                  "\x7f": "backspace", "\x08": "backspace"}


class CharacterDecoder:
    """Characters of a serial line or a terminal to names of keys; CR LF is one enter."""

    def __init__(self) -> None:
        self._after_return = False

    def decode(self, data: bytes) -> list[str]:
        """Return the names of the keys in ``data``; what is unreadable is left out."""
        names = []
        for character in data.decode("ascii", errors="ignore"):
            repeated = character == "\n" and self._after_return
            self._after_return = character == "\r"
            if repeated:
                continue
            if character in _CONTROL_NAMES:
                names.append(_CONTROL_NAMES[character])
            elif character.isprintable():
                names.append(character.lower())
        return names


CHARACTER_NAMES = frozenset(
    name for code in range(128) for name in CharacterDecoder().decode(bytes([code])))
"""Names of all keys that a serial line or a terminal can give."""


def readable(descriptor: int, timeout: float) -> bool:
    """Return whether ``descriptor`` has something to read within ``timeout`` [s]."""
    return bool(select.select([descriptor], [], [], timeout)[0])
