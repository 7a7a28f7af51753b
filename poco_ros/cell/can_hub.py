"""The wire of the bus: whatever one participant sends, all others receive."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from poco_ros.cell.frames import ECHO, NOT_TO_OWN_PROCESS, PACKET_LIMIT, Frame, pack, unpack

Tap = Callable[[Sequence[Frame]], None]
_BUFFER = 1 << 20
_MOST_FRAMES = 64


@dataclass
class _Client:
    connection: socket.socket
    process: int


class CanHub:
    """A bus at a socket path. Driven by one thread through ``selector``.

    Each connected process stands for one computer on the bus. A receiver that does not keep up
    loses frames, as a full receive queue does; ``overflows`` counts them.
    """

    def __init__(
        self, path: Path, selector: selectors.BaseSelector,
        receive: Callable[[Frame], None],
    ) -> None:
        """Listen at ``path``; ``receive`` hears every frame that a program sends."""
        self.path = path
        self.silent = False
        """Cut the wire: nothing arrives anywhere."""
        self.overflows = 0
        self._selector, self._receive = selector, receive
        self._clients: dict[int, _Client] = {}
        self._listener: socket.socket | None = None
        self._taps: list[Tap] = []
        self.plug_in()

    @property
    def clients(self) -> int:
        """How many connections there are."""
        return len(self._clients)

    def plug_in(self) -> None:
        """Begin to listen, if the adapter is not plugged in already.

        Raises:
            OSError: another cell listens there, or the path cannot be a socket's.
        """
        if self._listener is not None:
            return
        if _answers(self.path):
            raise FileExistsError(errno.EEXIST, "another cell listens there", str(self.path))
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        try:
            listener.bind(str(self.path))
        except OSError as error:
            listener.close()
            raise OSError(error.errno, f"{error.strerror}; a socket's path holds 107 bytes",
                          str(self.path)) from error
        listener.listen(16)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._listener = listener

    def unplug(self) -> None:
        """Pull the adapter: every connection breaks, and none can be made."""
        if self._listener is None:
            return
        for number in list(self._clients):
            self._drop(number)
        self._selector.unregister(self._listener)
        self._listener.close()
        self._listener = None
        self.path.unlink(missing_ok=True)

    def tap(self, listener: Tap) -> None:
        """Let ``listener`` hear all frames of the arm and of programs (the slcan port does)."""
        self._taps.append(listener)

    def send(self, frames: Sequence[Frame], sender: int = -1, flags: int = 0,
             except_for: Tap | None = None) -> None:
        """Put frames on the bus.

        Args:
            frames: what is sent.
            sender: connection that they come from, -1 for the cell itself.
            flags: of the packet that they came in.
            except_for: a tap that sends, and does not hear itself.
        """
        if self.silent or not frames:
            return
        own = self._clients[sender].process if sender in self._clients else -1
        stamp = time.time()
        packets = [pack(frames[start:start + _MOST_FRAMES], stamp)
                   for start in range(0, len(frames), _MOST_FRAMES)]
        for number, client in list(self._clients.items()):
            if number == sender and not flags & ECHO:
                continue
            if number != sender and flags & NOT_TO_OWN_PROCESS and client.process == own:
                continue
            for packet in packets:
                try:
                    client.connection.send(packet)
                except BlockingIOError:
                    self.overflows += 1
                except OSError:  # it went away; the reader side notices the same
                    self._drop(number)
                    break
        for listener in self._taps:
            if listener != except_for:
                listener(frames)

    def close(self) -> None:
        """Disconnect everybody and remove the socket."""
        self.unplug()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:  # the peer gave up before it was accepted
            return
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        size = struct.calcsize("3i")
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        number = connection.fileno()
        self._clients[number] = _Client(connection, struct.unpack("3i", credentials)[0])
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(number))

    def _read(self, number: int) -> None:
        client = self._clients[number]
        while True:
            try:
                packet = client.connection.recv(PACKET_LIMIT)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._drop(number)
                return
            try:
                _, flags, frames = unpack(packet)
            except ValueError:  # not one of ours: a stranger at the socket
                self._drop(number)
                return
            if self.silent:
                continue
            self.send(frames, number, flags)
            for frame in frames:
                self._receive(frame)

    def _drop(self, number: int) -> None:
        client = self._clients.pop(number, None)
        if client is None:
            return
        with contextlib.suppress(KeyError):  # already gone from the selector
            self._selector.unregister(client.connection)
        client.connection.close()


def _answers(path: Path) -> bool:
    """Whether somebody listens at the socket ``path``; the socket of a killed cell does not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
