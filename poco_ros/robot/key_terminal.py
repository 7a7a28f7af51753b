"""Keys typed into a terminal, without pressing enter after each."""

from __future__ import annotations

import os
import termios
import tty
from pathlib import Path
from typing import Any

from poco_ros.robot.key_source import (
    CharacterDecoder,
    KeypadError,
    KeySource,
    RawKey,
    readable,
)

OWN = "/dev/tty"
"""The terminal of the process that opens it."""
_LOCAL_MODES = 3  # place of these flags in what termios gives


class TerminalKeys(KeySource):
    """Keys of a terminal; Ctrl-C still ends the program, and the terminal is put right again.

    A process that is kept has no terminal of its own: :data:`OWN` is then that of its keeper. It
    is read and changed only while the keeper is in the foreground there. Nothing else would stop
    this process from taking what is meant for a shell: the kernel's job control does not know it.
    """

    def __init__(self, path: str = OWN, keeper: int = 0) -> None:
        """Take the terminal's name, and the process that keeps this one; 0: nobody does."""
        self._path = path
        self._keeper = keeper if path == OWN else 0
        self._descriptor = -1
        self._before: list[Any] = []
        self._decoder = CharacterDecoder()

    def open(self) -> None:
        """Take the terminal (see the seam)."""
        if self._keeper:
            self._path = terminal_of(self._keeper)
            if not self._path:
                raise KeypadError("terminal: the graph was not launched in one; do so, name one as"
                                  " device, or choose another source")
            self._check_foreground()
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            self._before = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor, termios.TCSANOW)
            termios.tcflush(self._descriptor, termios.TCIFLUSH)  # keys from before do not count
        except (OSError, termios.error) as error:
            self.close()
            raise KeypadError(f"terminal {self._path}: {error}; keys need a terminal, start the"
                              " keypad in one or choose another source") from error
        if self._keeper:  # whoever read here before was perhaps killed, and left it like this
            self._before[_LOCAL_MODES] |= termios.ICANON | termios.ECHO

    def read(self, timeout: float) -> list[RawKey]:
        """Return the keys that were typed (see the seam)."""
        if self._descriptor < 0:
            raise KeypadError(f"terminal {self._path} is not open")
        try:
            typed = readable(self._descriptor, timeout)
            self._check_foreground()
            if not typed:
                return []
            data = os.read(self._descriptor, 256)
        except OSError as error:
            raise KeypadError(f"terminal {self._path} is gone ({error.strerror})") from error
        if not data:
            raise KeypadError(f"terminal {self._path} is gone (it ended)")
        return [RawKey.now(name) for name in self._decoder.decode(data)]

    def close(self) -> None:
        """Put the terminal back as it was; one that a shell has taken back is the shell's."""
        if self._descriptor < 0:
            return
        try:
            self._check_foreground()
            if self._before:
                termios.tcsetattr(self._descriptor, termios.TCSANOW, self._before)
        except (KeypadError, termios.error):
            pass  # not ours any more, or gone, and its settings with it
        finally:
            os.close(self._descriptor)
            self._descriptor, self._before = -1, []

    def _check_foreground(self) -> None:
        """Raise KeypadError when the terminal is not the keeper's now."""
        if self._keeper and not _job_of(self._keeper)[1]:
            raise KeypadError(f"terminal {self._path}: the graph is not in its foreground; fetch"
                              " it with fg")


def terminal_of(process: int) -> str:
    """Return the name of a process's terminal; empty when it has none.

    Raises:
        KeypadError: the process has ended.
    """
    device, _ = _job_of(process)
    named = (*Path("/dev/pts").glob("[0-9]*"), *Path("/dev").glob("tty*"))
    opened = (Path(f"/proc/{process}/fd/{number}") for number in range(3))  # from outside of here
    names = (str(path) for path in (*named, *opened) if device and _number(path) == device)
    return next(names, "")


def _job_of(process: int) -> tuple[int, bool]:
    """Return the number of a process's terminal, 0 = none, and whether its job has it."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError as error:
        raise KeypadError("terminal: whoever started the keypad has ended") from error
    group, device, foreground = int(words[2]), int(words[4]), int(words[5])
    return device, group == foreground


def _number(path: Path) -> int:
    """Return the number of a device; -1 when it is not there."""
    try:
        return path.stat().st_rdev
    except OSError:
        return -1
