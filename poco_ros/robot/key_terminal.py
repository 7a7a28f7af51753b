"""Keys typed into a terminal, without pressing enter after each."""

from __future__ import annotations

import os
import termios
import tty
from typing import Any

from poco_ros.robot.key_source import (
    CharacterDecoder,
    KeypadError,
    KeySource,
    RawKey,
    readable,
)


class TerminalKeys(KeySource):
    """Keys of a terminal; Ctrl-C still ends the program, and the terminal is put right again."""

    def __init__(self, path: str = "/dev/tty") -> None:
        self._path = path
        self._descriptor = -1
        self._before: list[Any] = []
        self._decoder = CharacterDecoder()

    def open(self) -> None:
        """Take the terminal (see the seam)."""
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            self._before = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor)
        except (OSError, termios.error) as error:
            self.close()
            raise KeypadError(f"terminal {self._path}: {error}; keys need a terminal, start the"
                              " keypad in one or choose another source") from error

    def read(self, timeout: float) -> list[RawKey]:
        """Return the keys that were typed (see the seam)."""
        if self._descriptor < 0:
            raise KeypadError(f"terminal {self._path} is not open")
        try:
            if not readable(self._descriptor, timeout):
                return []
            data = os.read(self._descriptor, 256)
        except OSError as error:
            raise KeypadError(f"terminal {self._path} is gone ({error.strerror})") from error
        if not data:
            raise KeypadError(f"terminal {self._path} is gone (it ended)")
        return [RawKey.now(name) for name in self._decoder.decode(data)]

    def close(self) -> None:
        """Put the terminal back as it was."""
        if self._descriptor < 0:
            return
        try:
            if self._before:
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
        except termios.error:
            pass  # the terminal is gone, and its settings with it
        finally:
            os.close(self._descriptor)
            self._descriptor, self._before = -1, []
