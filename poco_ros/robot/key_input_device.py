"""A USB numeric keypad, read from the kernel's event device (``/dev/input/...``).

The kernel's event structure is read as it is, so no library is needed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time

from poco_ros.robot.key_source import KeypadError, KeySource, RawKey, readable

EVENT = struct.Struct("@llHHi")
"""``struct input_event``: seconds, microseconds, type, code, value."""
_KEY_EVENT = 0x01
_DOWN = 1
_GRAB = 0x40044590  # EVIOCGRAB
_SET_CLOCK = 0x400445A0  # EVIOCSCLOCKID
_MONOTONIC = 1

_PAD = dict(zip(range(71, 84), "789-456+1230.", strict=True)) | {
    55: "*", 96: "enter", 98: "/", 117: "=", 121: ","}
_MAIN = {code: str((code - 1) % 10) for code in range(2, 12)} | {
    1: "escape", 12: "-", 13: "=", 14: "backspace", 15: "tab", 28: "enter", 51: ",", 52: ".",
    53: "/", 57: "space", 111: "delete"}
_LETTERS = {first + index: letter
            for first, row in ((16, "qwertyuiop"), (30, "asdfghjkl"), (44, "zxcvbnm"))
            for index, letter in enumerate(row)}
KEY_NAMES: dict[int, str] = {**_MAIN, **_LETTERS, **_PAD}
"""Names of the kernel's key codes (``linux/input-event-codes.h``), by what is printed on them."""
_CODES = range(1, 0x300)  # to KEY_MAX


def _name_of(code: int) -> str:
    return KEY_NAMES.get(code, f"key{code}")


INPUT_NAMES = frozenset(map(_name_of, _CODES))
"""Names of all keys that an event device can give; of most keys they are numbers, as in key69."""


def decode_events(data: bytes) -> list[tuple[str, int]]:
    """Return name and time stamp [ns] of every key that goes down; repeats are left out.

    Args:
        data: whole event structures, one after the other.
    """
    keys = []
    for seconds, microseconds, kind, code, value in EVENT.iter_unpack(data):
        if kind == _KEY_EVENT and value == _DOWN:
            keys.append((_name_of(code), seconds * 1_000_000_000 + microseconds * 1000))
    return keys


class InputDeviceKeys(KeySource):
    """Keys of one event device; the device is taken, so its keys type nowhere else."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._partial = b""
        self._true_stamps = False

    def open(self) -> None:
        """Open and take the device (see the seam)."""
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise KeypadError(f"keypad {self._path}: {error.strerror}; look in /dev/input/by-id,"
                              " and may this user read it (group input)?") from error
        self._partial = b""
        try:
            fcntl.ioctl(self._descriptor, _SET_CLOCK, struct.pack("i", _MONOTONIC))
            fcntl.ioctl(self._descriptor, _GRAB, 1)
            self._true_stamps = True
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EINVAL):
                self.close()
                why = "another program has taken it; end that one" \
                    if error.errno == errno.EBUSY else f"it cannot be taken ({error.strerror})"
                raise KeypadError(f"keypad {self._path}: {why}") from error
            self._true_stamps = False  # not an event device: a recording, a pipe

    def read(self, timeout: float) -> list[RawKey]:
        """Return the keys that went down (see the seam)."""
        if self._descriptor < 0:
            raise KeypadError(f"keypad {self._path} is not open")
        try:
            if not readable(self._descriptor, timeout):
                return []
            data = os.read(self._descriptor, 64 * EVENT.size)
        except OSError as error:
            raise KeypadError(f"keypad {self._path} is gone ({error.strerror})") from error
        if not data:
            raise KeypadError(f"keypad {self._path} is gone (it ended)")
        data = self._partial + data
        whole = len(data) - len(data) % EVENT.size
        self._partial = data[whole:]
        return [RawKey.at(name, stamp if self._true_stamps else time.monotonic_ns())
                for name, stamp in decode_events(data[:whole])]

    def close(self) -> None:
        """Give the device back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
