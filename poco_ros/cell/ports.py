"""Serial ports that exist only on this computer: a pty behind a name that stays the same."""

from __future__ import annotations

import contextlib
import os
import select
import tty
from pathlib import Path


class SerialPort:
    """One end of a serial line; programs open the other end at ``link``.

    Unplugging breaks the line for whoever has it open; plugging in again makes a new device behind
    the same name, as udev does for USB serial adapters.
    """

    def __init__(self, link: Path) -> None:
        self.link = link
        self._master: int | None = None
        self.plug_in()

    @property
    def plugged_in(self) -> bool:
        """Whether the device exists."""
        return self._master is not None

    @property
    def listened(self) -> bool:
        """Whether a program has the port open; what is written otherwise is lost."""
        if self._master is None:
            return False
        poller = select.poll()
        poller.register(self._master, select.POLLOUT)
        return not any(event & select.POLLHUP for _, event in poller.poll(0))

    def plug_in(self) -> None:
        """Make the device, if it does not exist."""
        if self._master is not None:
            return
        master, slave = os.openpty()
        tty.setraw(slave)
        name = os.ttyname(slave)
        os.close(slave)  # from now on the line counts as closed until a program opens it
        os.set_blocking(master, False)
        self._master = master
        beside = self.link.with_name(self.link.name + ".new")
        beside.unlink(missing_ok=True)
        beside.symlink_to(name)
        os.replace(beside, self.link)

    def unplug(self) -> None:
        """Remove the device."""
        if self._master is None:
            return
        self.link.unlink(missing_ok=True)
        os.close(self._master)
        self._master = None

    def fileno(self) -> int:
        """Return the cell's end, for selectors; -1 when unplugged."""
        return -1 if self._master is None else self._master

    def write(self, content: bytes) -> bool:
        """Send; return False when nobody listens or the line is full, and the bytes are lost."""
        if self._master is None or not self.listened:
            return False
        try:
            return os.write(self._master, content) == len(content)
        except (BlockingIOError, OSError):
            return False

    def read(self) -> bytes:
        """Return what has arrived, without waiting."""
        if self._master is None:
            return b""
        with contextlib.suppress(OSError):  # nothing there, or nobody has the port open
            return os.read(self._master, 65536)
        return b""

    def close(self) -> None:
        """Remove the device for good."""
        self.unplug()
