"""A keypad on a serial line: USB-serial adapters, micro-controllers with buttons."""

from __future__ import annotations

import errno

import serial

from poco_ros.robot.key_source import CharacterDecoder, KeypadError, KeySource, RawKey

_TAKEN = (errno.EAGAIN, errno.EBUSY)
"""Another program has locked the port, or has it for itself."""


class SerialKeys(KeySource):
    """Every character that comes is a key; the port is locked, for two would share them."""

    def __init__(self, port: str, baud_rate: int) -> None:
        self._port = port
        self._baud_rate = baud_rate
        self._line: serial.Serial | None = None
        self._decoder = CharacterDecoder()

    def open(self) -> None:
        """Open the port (see the seam)."""
        try:
            self._line = serial.serial_for_url(self._port, self._baud_rate, timeout=0,
                                               exclusive=True)
            self._line.reset_input_buffer()  # keys from before count for nothing
        except (serial.SerialException, OSError, ValueError) as error:
            self.close()
            why = "another program has taken it; end that one" \
                if getattr(error, "errno", None) in _TAKEN else \
                f"{error}; is it plugged in, may this user read it (group dialout)?"
            raise KeypadError(f"keypad on {self._port}: {why}") from error
        self._decoder = CharacterDecoder()

    def read(self, timeout: float) -> list[RawKey]:
        """Return the characters that came (see the seam)."""
        if self._line is None:
            raise KeypadError(f"keypad on {self._port} is not open")
        try:
            self._line.timeout = timeout
            data = self._line.read(1)
            data += self._line.read(self._line.in_waiting) if data else b""
        except (serial.SerialException, OSError) as error:
            raise KeypadError(f"keypad on {self._port} is gone ({error})") from error
        return [RawKey.now(name) for name in self._decoder.decode(data)]

    def close(self) -> None:
        """Close the port."""
        line, self._line = self._line, None
        if line is not None:
            line.close()
