"""A python-can interface named ``poco_cell``: several programs on the emulated cell's CAN bus.

``can.Bus(channel="/tmp/poco_cell/can0", interface="poco_cell")`` works as with a real adapter; the
channel is the path of the cell's socket. Installed packages announce it to python-can with the
entry point ``can.interface``: ``poco_cell = poco_ros.cell.can_bus:PocoCellBus``. Where the package
is not installed, importing this module announces it to the importing process.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections import deque
from typing import Any

import can
import can.interfaces
import can.util

from poco_ros.cell.frames import (
    ECHO,
    EXTENDED,
    NOT_TO_OWN_PROCESS,
    PACKET_LIMIT,
    REMOTE,
    Frame,
    pack,
    unpack,
)

INTERFACE = "poco_cell"


def announce() -> None:
    """Make the interface known to python-can in this process; done when this module is imported.

    python-can reads entry points once, when it is imported, and checks names against a set.
    """
    can.interfaces.BACKENDS.setdefault(INTERFACE, (__name__, "PocoCellBus"))
    names = can.interfaces.VALID_INTERFACES | {INTERFACE}
    can.interfaces.VALID_INTERFACES = can.util.VALID_INTERFACES = names  # type: ignore[misc]


announce()


class PocoCellBus(can.BusABC):
    """One program's connection to the bus. Every program hears the frames of all others."""

    def __init__(
        self,
        channel: str,
        can_filters: Any = None,
        receive_own_messages: bool = False,
        local_loopback: bool = True,
        **kwargs: Any,
    ) -> None:
        """Connect.

        Args:
            channel: path of the cell's socket.
            can_filters: as for every python-can bus.
            receive_own_messages: also hear what this connection sends.
            local_loopback: other connections of this process hear what it sends; False as with
                SocketCAN, but what other processes hear is not affected: each stands for a
                computer of its own on the bus. Here this bus is kinder than a kernel, which keeps
                such frames from every program of the same computer.
            kwargs: settings of other interfaces, such as ``bitrate``; they mean nothing here.

        Raises:
            can.CanInitializationError: no cell listens there.
        """
        self.channel_info = f"{INTERFACE} {channel}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.connect(str(channel))
        except OSError as error:
            self._socket.close()
            raise can.CanInitializationError(
                f"no emulated cell at {channel} ({error.strerror}); start one with 'poco cell'"
            ) from error
        self._flags = (ECHO if receive_own_messages else 0) | (
            0 if local_loopback else NOT_TO_OWN_PROCESS)
        self._received: deque[can.Message] = deque()
        self._lost = ""
        super().__init__(channel, can_filters=can_filters)

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        """Put a frame on the bus.

        Raises:
            can.CanOperationError: the cell is gone, or its queue stays full.
        """
        if self._lost:
            raise can.CanOperationError(self._lost)
        identifier = (msg.arbitration_id | (EXTENDED if msg.is_extended_id else 0)
                      | (REMOTE if msg.is_remote_frame else 0))
        packet = pack([Frame(identifier, bytes(msg.data))], time.time(), self._flags)
        try:
            if timeout is not None and not select.select([], [self._socket], [], timeout)[1]:
                raise can.CanOperationError(f"{self.channel_info}: the queue is full")
            self._socket.send(packet)
        except OSError as error:
            self._lost = f"{self.channel_info}: the bus is gone ({error.strerror})"
            raise can.CanOperationError(self._lost) from error

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        if self._received:
            return self._received.popleft(), False
        if self._lost:
            # raise no faster than a frame could have come: callers loop on it
            time.sleep(0.1 if timeout is None else min(max(timeout, 0.0), 0.1))
            raise can.CanOperationError(self._lost)
        try:
            if not select.select([self._socket], [], [], timeout)[0]:
                return None, False
            packet = self._socket.recv(PACKET_LIMIT)
        except (OSError, ValueError) as error:
            self._lost = f"{self.channel_info}: the bus is gone ({error})"
            raise can.CanOperationError(self._lost) from error
        if not packet:
            self._lost = f"{self.channel_info}: the bus is gone (the cell closed it)"
            raise can.CanOperationError(self._lost)
        stamp, _, frames = unpack(packet)
        for identifier, data in frames:
            self._received.append(can.Message(
                timestamp=stamp, arbitration_id=identifier & 0x1FFF_FFFF,
                is_extended_id=bool(identifier & EXTENDED),
                is_remote_frame=bool(identifier & REMOTE), dlc=len(data), data=data,
                channel=self.channel_info, check=False))
        return (self._received.popleft() if self._received else None), False

    @property  # type: ignore[misc]
    def state(self) -> can.BusState:
        """ACTIVE, or ERROR once the cell is gone."""
        return can.BusState.ERROR if self._lost else can.BusState.ACTIVE

    def shutdown(self) -> None:
        """Disconnect; a reader that waits in another thread wakes up."""
        super().shutdown()
        self._lost = self._lost or f"{self.channel_info}: shut down"
        with contextlib.suppress(OSError):  # the cell may have closed it before
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
