"""The emulated CAN bus: several programs, as on real wire, through python-can as it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import can
import pytest
from cell_support import ask, quick_config, running, wait_until

from poco_ros.cell.can_bus import INTERFACE, PocoCellBus
from poco_ros.cell.cell import Cell
from poco_ros.cell.frames import Frame

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    with running(quick_config(tmp_path, cameras=[])) as cell:
        yield cell


def connect(cell: Cell, **options: object) -> can.BusABC:
    return can.Bus(channel=str(cell.hub.path), interface=INTERFACE, **options)


def message(identifier: int, data: bytes = bytes(8)) -> can.Message:
    return can.Message(arbitration_id=identifier, data=data, is_extended_id=False)


def hear(bus: can.BusABC, identifier: int, frames: int = 3000) -> can.Message | None:
    """Return the first frame with that identifier among the next ones."""
    for _ in range(frames):
        heard = bus.recv(0.5)
        if heard is None:
            return None
        if heard.arbitration_id == identifier:
            return heard
    return None


def test_the_arm_is_heard_at_once_and_with_true_stamps(cell: Cell) -> None:
    with connect(cell) as bus:
        assert isinstance(bus, PocoCellBus)
        stamps = [hear(bus, 0x2A5).timestamp for _ in range(40)]
        gaps = [later - earlier for earlier, later in pairwise(stamps)]
        assert sum(gaps) / len(gaps) == pytest.approx(0.005, rel=0.2)
        assert bus.state == can.BusState.ACTIVE


def test_what_one_program_sends_the_others_hear_and_it_does_not(cell: Cell) -> None:
    with connect(cell) as first, connect(cell) as second:
        first.send(message(0x123, b"together"))
        assert bytes(hear(second, 0x123).data) == b"together"
        assert hear(first, 0x123, 200) is None


def test_own_messages_come_back_when_asked_for(cell: Cell) -> None:
    with connect(cell, receive_own_messages=True) as bus:
        bus.send(message(0x124))
        assert hear(bus, 0x124)


def test_without_local_loopback_only_other_processes_hear(cell: Cell) -> None:
    """The SDK opens two connections and must not hear itself on the other one."""
    listener = (f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
                "import can, poco_ros.cell.can_bus\n"
                f"bus = can.Bus(channel={str(cell.hub.path)!r}, interface='poco_cell')\n"
                "print('up', flush=True)\n"
                "while bus.recv().arbitration_id != 0x125: pass\n"
                "bus.shutdown(); print('heard', flush=True)\n")
    with (connect(cell, local_loopback=False) as sender, connect(cell) as beside,
          subprocess.Popen([sys.executable, "-c", listener], stdout=subprocess.PIPE, text=True
                           ) as other):
        assert other.stdout is not None and other.stdout.readline() == "up\n"
        sender.send(message(0x125))
        assert other.stdout.readline() == "heard\n"
        assert hear(beside, 0x125, 200) is None


def test_filters_apply(cell: Cell) -> None:
    filters = [{"can_id": 0x2A8, "can_mask": 0x7FF}]
    with connect(cell, can_filters=filters) as bus:
        assert {bus.recv(1).arbitration_id for _ in range(20)} == {0x2A8}


def test_a_silent_bus_brings_nothing_and_comes_back(cell: Cell) -> None:
    with connect(cell) as bus:
        assert bus.recv(1)
        ask(cell, "/fault/silent_bus?seconds=0.4")
        while bus.recv(0.1):
            pass
        assert hear(bus, 0x2A5)  # after the fault


def test_a_pulled_adapter_breaks_connections_and_new_ones_work_later(cell: Cell) -> None:
    bus = connect(cell)
    assert bus.recv(1)
    ask(cell, "/fault/unplugged_can?seconds=0.5")
    with pytest.raises(can.CanOperationError, match="gone"):
        while True:
            bus.recv(1)
    assert bus.state == can.BusState.ERROR
    with pytest.raises(can.CanOperationError, match="gone"):
        bus.send(message(0x150))
    with pytest.raises(can.CanInitializationError, match="poco cell"):
        connect(cell)
    bus.shutdown()
    wait_until(cell.hub.path.exists, "the adapter is back")
    with connect(cell) as again:
        assert hear(again, 0x2A5)


def test_a_slow_listener_loses_frames_and_delays_nobody(cell: Cell) -> None:
    with connect(cell), connect(cell) as quick:
        for _ in range(12000):  # the first connection never reads: its queue overflows
            cell.hub.send([Frame(0x300, bytes(8))] * 8)
            if cell.hub.overflows:
                break
        assert cell.hub.overflows > 0
        while hear(quick, 0x2A5, 1) is None:
            pass


def test_a_stranger_at_the_socket_is_shown_out(cell: Cell) -> None:
    with connect(cell) as stranger, connect(cell) as bus:
        stranger._socket.send(b"GET / HTTP/1.0\r\n")
        with pytest.raises(can.CanOperationError):
            while True:
                stranger.recv(1)
        assert hear(bus, 0x2A5)


def test_slcan_works_with_python_can_as_it_is(tmp_path: Path) -> None:
    with ExitStack() as stack:
        cell = stack.enter_context(running(quick_config(
            tmp_path, cameras=[], can={"slcan": True})))
        assert cell.slcan is not None
        port = cell.slcan.port.link
        assert port.is_char_device()
        serial = stack.enter_context(can.Bus(channel=str(port), interface="slcan",
                                             bitrate=1_000_000, sleep_after_open=0.02))
        socket = stack.enter_context(connect(cell))
        assert hear(serial, 0x2A5)
        serial.send(message(0x472, bytes([2, 1, 0, 0, 0, 0, 0, 0])))
        assert hear(serial, 0x473).data[0] == 2  # the arm heard it
        serial.send(message(0x126))
        assert hear(socket, 0x126)
        socket.send(message(0x127))
        assert hear(serial, 0x127)


def test_two_cells_do_not_share_a_folder_and_a_killed_one_leaves_none_behind(
        cell: Cell, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="another cell"):
        Cell(cell.config)
    assert (tmp_path / "can0").exists() and (tmp_path / "keypad").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "can0").touch()  # what a killed cell leaves: nobody listens there
    with running(quick_config(other, cameras=[])) as second, connect(second) as bus:
        assert hear(bus, 0x2A5)
    assert not list(other.iterdir())
