"""The wire to a Piper: piper_sdk's interface with its traps taken out.

What piper_sdk 0.6.2 does, and what is done about it here:

- its reading thread spins when the bus is gone and cannot be joined, and two more threads of it
  outlive ``DisconnectPort``: none is started, one thread of this class reads instead;
- a send that fails is only logged: the status of every send is looked at;
- its objects are filled and sent without a lock: one lock is held around every send;
- it keeps one interface for ever for each name: every link has a name of its own;
- each frame is offered to some twenty decoders: what the control loop needs is decoded here, the
  rest goes to the SDK;
- options of the bus cannot be passed: they travel through python-can's own configuration;
- one line of a serial adapter that lost a byte looks to it as a bus that is gone: it is skipped.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import can
from piper_sdk import C_PiperInterface_V2, LogLevel

from poco_ros.robot import piper_protocol as can_id
from poco_ros.robot.arm import ArmError
from poco_ros.robot.can_receivers import raw_receivers
from poco_ros.robot.config import PiperConfig
from poco_ros.robot.piper_feedback import PiperFeedback

logger = logging.getLogger(__name__)

_numbers = itertools.count()
_environment = threading.Lock()
_ECHO_TIME = 1.0  # an own frame that comes back within this time is an echo [s]
_BUSES = 2  # the SDK opens one to receive and one to send; both receive
_GARBLED = (ValueError, LookupError)
"""What python-can raises for a line of which a part is missing. A bus that is gone raises CanError
or OSError; slcan a CanError for a line that is no text, too. Frames that are too short no decoder
takes, here or in the SDK."""
_LOOK_PERIOD = 1.0  # between two looks for other programs on the interface [s]


class _Interface(C_PiperInterface_V2):
    """The SDK's interface, which first offers every frame to ``tap``."""

    tap: Callable[[can.Message], bool]

    def ParseCANFrame(self, rx_message: can.Message | None) -> None:  # noqa: N802 (the SDK's name)
        if rx_message is not None and not self.tap(rx_message):
            super().ParseCANFrame(rx_message)


@contextmanager
def _bus_options(options: dict[str, Any]) -> Iterator[None]:
    """Let buses that are opened inside have ``options``."""
    with _environment:
        before = os.environ.get("CAN_CONFIG")
        try:
            if options:
                os.environ["CAN_CONFIG"] = json.dumps({**json.loads(before or "{}"), **options})
            yield
        finally:
            if before is None:
                os.environ.pop("CAN_CONFIG", None)
            else:
                os.environ["CAN_CONFIG"] = before


class PiperLink:
    """Frames to and from one Piper; a lost bus is opened again by itself."""

    def __init__(self, config: PiperConfig,
                 receivers: Callable[[str], int] | None = None) -> None:
        """Take the settings, and what counts the receivers on the channel (the kernel, for
        SocketCAN; on other interfaces nobody does)."""
        self._config = config
        self._receivers = receivers
        if receivers is None and config.interface == "socketcan":
            self._receivers = raw_receivers
        self._sdk = _Interface(f"poco_ros-{next(_numbers)}", judge_flag=False,
                               can_auto_init=False, logger_level=LogLevel.SILENT)
        logging.getLogger("can").setLevel(logging.WARNING)  # the SDK has silenced it
        self._sdk.tap = self._take
        self.feedback = PiperFeedback(config.snapshot_spread, config.silence_timeout,
                                      config.report_timeout)
        self._sending = threading.RLock()
        self._sent: deque[tuple[int, bytes, float]] = deque(maxlen=64)
        self._connected = False
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self.send_failures = 0
        """Frames that could not be sent, in a row."""
        self._failed_sends = 0
        self.reconnections = 0
        """Times that the bus was opened again."""
        self.garbled = 0
        """Lines of a serial adapter of which a part was missing; they were skipped."""
        self.foreign_frame = 0
        """Identifier of the newest command frame of another controller, 0 = none."""
        self.foreign_at = float("-inf")
        """When it came, monotonic clock [s]."""
        self.strangers = 0
        """Receivers of other programs of this computer on the channel."""
        self._look_at = 0.0

    @property
    def bus(self) -> str:
        """The bus in words."""
        return f"{self._config.interface} {self._config.channel}"

    @property
    def connected(self) -> bool:
        """The bus is open; that somebody answers is another matter."""
        return self._connected

    @property
    def firmware(self) -> str:
        """Firmware version of the arm, empty when it has not answered."""
        version = self._sdk.GetPiperFirmwareVersion()
        return version if isinstance(version, str) else ""

    def open(self) -> None:
        """Open the bus and begin to read.

        Raises:
            ArmError: the bus cannot be opened, or another program of this computer has it open.
        """
        self._look_for_strangers(own=0)
        if self.strangers:
            raise ArmError(self.about_strangers)
        self._connect()
        self._ending.clear()
        self._thread = threading.Thread(target=self._read, name="piper_reader", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the bus; takes up to a second when it is silent."""
        self._ending.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        self._disconnect()

    def send(self, *steps: Callable[[C_PiperInterface_V2], None]) -> None:
        """Let the SDK send, one step after the other, undisturbed by other threads.

        Raises:
            ArmError: the bus is not open, or a frame could not be sent.
        """
        with self._sending:
            if not self._connected:
                raise ArmError(f"bus {self.bus} is lost and being opened again; nothing was sent")
            failed = self._failed_sends
            for step in steps:
                step(self._sdk)
            if self._failed_sends > failed:
                raise ArmError(f"bus {self.bus} took no frame; is the arm powered, the cable in,"
                               " the interface up?")

    def _connect(self) -> None:
        # Opening may take seconds. No lock is held meanwhile: senders are told that the bus is
        # closed instead of being kept waiting.
        config = self._config
        try:
            with _bus_options(config.bus_options):
                self._sdk.CreateCanBus(config.channel, bustype=config.interface,
                                       expected_bitrate=config.bitrate, judge_flag=False)
        except ConnectionError as error:
            raise ArmError(self._no_bus()) from error
        bus = self._sdk.GetCanBus()
        if bus.recv_bus is None or bus.send_bus is None:
            raise ArmError(self._no_bus())
        bus.SendCanMessage = self._checked(bus.SendCanMessage, bus.CAN_STATUS)
        bus.recv_bus.recv = self._without_garbled(bus.recv_bus)
        # No thread of the SDK. It asks for firmware and motor limits; answers are read by us.
        self._sdk.ConnectPort(start_thread=False)
        with self._sending:
            self.send_failures = 0
            self._connected = True

    def _look_for_strangers(self, own: int) -> None:
        """Count the receivers beside the ``own`` ones of this link, which do not change meanwhile.
        """
        self._look_at = time.monotonic() + _LOOK_PERIOD
        if self._receivers is not None and self._config.other_controllers == "refuse":
            self.strangers = max(self._receivers(self._config.channel) - own, 0)

    @property
    def about_strangers(self) -> str:
        """What to do about other programs, in words."""
        return (f"bus {self.bus}: another program of this computer has it open, and what it sends"
                " may be heard by the arm alone; end it (candump counts too; sudo lsof | grep"
                " CAN_RAW names it)")

    def _no_bus(self) -> str:
        hint = (f"try: sudo ip link set {self._config.channel} up type can bitrate"
                f" {self._config.bitrate}" if self._config.interface == "socketcan"
                else "check arm.interface, arm.channel and the cable")
        return f"bus {self.bus} cannot be opened; {hint}"

    def _disconnect(self) -> None:
        with self._sending:
            self._connected = False
        carrier = self._sdk.GetCanBus()
        if carrier is None:
            return
        # The SDK opens two buses, and leaves the second one open when closing the first fails.
        for bus in (carrier.recv_bus, carrier.send_bus):
            try:
                if bus is not None:
                    bus.shutdown()
            except (can.CanError, OSError) as error:
                logger.debug("bus %s: closing: %s", self.bus, error)
        self._sdk.DisconnectPort()

    def _checked(self, send: Callable[..., int], status: Any) -> Callable[..., int]:
        """Return the SDK's send function, with its answer looked at and the frame remembered."""

        def checked(arbitration_id: int, data: Any, *rest: Any, **named: Any) -> int:
            self._sent.append((arbitration_id, bytes(data), time.monotonic()))
            answer = send(arbitration_id, data, *rest, **named)
            if answer == status.SEND_MESSAGE_SUCCESS:
                self.send_failures = 0
            else:
                self.send_failures += 1
                self._failed_sends += 1
            return answer

        return checked

    def _without_garbled(self, bus: Any) -> Callable[[float], can.Message | None]:
        """Return the function of ``bus`` that receives, which then goes on after a garbled line.
        """
        receive = bus.recv

        def received(timeout: float) -> can.Message | None:
            end = time.monotonic() + timeout
            while True:
                try:
                    return receive(max(0.0, end - time.monotonic()))
                except (*_GARBLED, can.CanError) as error:
                    if isinstance(error, can.CanError):
                        if not isinstance(error.__cause__, UnicodeDecodeError):
                            raise
                        bus.flush()  # slcan would keep the line that it could not decode
                    self.garbled += 1
                    logger.debug("bus %s: a line was skipped: %s", self.bus, error)
                    if time.monotonic() >= end:
                        return None  # nothing else came

        return received

    def _read(self) -> None:
        while not self._ending.is_set():
            bus = self._sdk.GetCanBus()
            status = bus.ReadCanMessage()
            if time.monotonic() >= self._look_at:
                self._look_for_strangers(own=_BUSES)
            if status == bus.CAN_STATUS.READ_CAN_MSG_OK:
                continue
            # A second without any frame, or the bus is gone. Opening it again harms neither.
            if not self._ending.is_set():
                self._reconnect(str(status))

    def _reconnect(self, why: str) -> None:
        logger.warning("bus %s: %s; opening it again", self.bus, why)
        self._disconnect()
        while not self._ending.wait(self._config.reconnect_period):
            try:
                self._connect()
            except ArmError as error:
                logger.debug("%s", error)
                continue
            self.reconnections += 1
            return

    def _take(self, message: can.Message) -> bool:
        """Decode a frame that the control loop needs; return False for the others."""
        if message.is_extended_id or message.is_error_frame or message.is_remote_frame:
            return True
        arbitration_id, now = message.arbitration_id, time.monotonic_ns()
        data = bytes(message.data)
        if arbitration_id in can_id.COMMANDS:
            self._take_command(arbitration_id, data, message.timestamp, now)
            return True
        return self.feedback.feed(arbitration_id, data, message.timestamp, now, time.time_ns())

    def _take_command(self, arbitration_id: int, data: bytes, bus_time: float, now: int) -> None:
        since = now * 1e-9 - _ECHO_TIME
        if any(sent[0] == arbitration_id and sent[1] == data and sent[2] >= since
               for sent in tuple(self._sent)):
            return  # some buses give a program's frames back to it
        self.foreign_frame, self.foreign_at = arbitration_id, now * 1e-9
        self.feedback.feed_leader(arbitration_id, data, bus_time, now)
