"""The bus as a serial CAN adapter: the ASCII protocol of ``slcan``, on a pty.

For programs that use python-can as it is: ``can.Bus(channel=<port>, interface="slcan")``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from poco_ros.cell.frames import Frame
from poco_ros.cell.ports import SerialPort

_END = b"\r"


class SlcanAdapter:
    """Translates between a serial port and frames. Standard frames only, as the arm uses."""

    def __init__(self, port: SerialPort, send: Callable[[Sequence[Frame]], None]) -> None:
        """Speak on ``port``; frames that a program writes there go to ``send``."""
        self.port = port
        self._send = send
        self._open = False
        self._pending = b""

    def forward(self, frames: Sequence[Frame]) -> None:
        """Write frames of the bus to the port, when a program opened the channel."""
        if self._open:
            lines = [b"t%03X%d%s\r" % (identifier & 0x7FF, len(data), data.hex().upper().encode())
                     for identifier, data in frames]
            self.port.write(b"".join(lines))

    def poll(self) -> None:
        """Read what programs wrote since the last call."""
        content = self.port.read()
        if not content:
            return
        *lines, self._pending = (self._pending + content).split(_END)
        frames = [frame for line in lines if (frame := self._command(line)) is not None]
        if frames and self._open:
            self._send(frames)

    def _command(self, line: bytes) -> Frame | None:
        """Obey one line; return the frame that it holds, if it holds one."""
        kind = line[:1]
        if kind == b"t":
            try:
                identifier, length = int(line[1:4], 16), int(line[4:5], 16)
                data = bytes.fromhex(line[5:5 + 2 * length].decode("ascii"))
            except ValueError:  # not hexadecimal: an adapter answers with a bell
                self.port.write(b"\a")
                return None
            return Frame(identifier, data[:8])
        if kind in (b"O", b"L"):
            self._open = True
        elif kind == b"C":
            self._open = False
        elif kind == b"V":
            self.port.write(b"V1013" + _END)
            return None
        elif kind == b"N":
            self.port.write(b"NPOCO" + _END)
            return None
        self.port.write(_END)
        return None
