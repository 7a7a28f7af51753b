"""Faults of the arm, asked for over HTTP and seen on the bus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import can
import numpy as np
import pytest
from cell_support import ask, quick_config, running, wait_until

from poco_ros.cell import piper_protocol as protocol
from poco_ros.cell.can_bus import INTERFACE
from poco_ros.cell.cell import Cell
from poco_ros.cell.faults import Fault, FaultError, Faults
from poco_ros.cell.frames import Frame

HOME = np.array([0.0, 1.2, -1.0, 0.0, 0.9, 0.0])


class Program:
    """A small program on the bus."""

    def __init__(self, cell: Cell, bus: can.BusABC) -> None:
        self.cell, self.bus = cell, bus

    def send(self, *frames: Frame) -> None:
        for identifier, data in frames:
            self.bus.send(can.Message(arbitration_id=identifier, data=data,
                                      is_extended_id=False))

    def await_frame(self, identifier: int, wanted: Callable[[bytes], bool],
                    timeout: float = 5.0) -> bytes:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            message = self.bus.recv(0.5)
            if message and message.arbitration_id == identifier and wanted(bytes(message.data)):
                return bytes(message.data)
        raise AssertionError(f"no such frame 0x{identifier:X} within {timeout} s")

    def switch_on(self) -> None:
        self.send(protocol.enable_command(7, True),
                  protocol.mode_command(protocol.CAN_CONTROL, protocol.MOVE_JOINTS, 100))
        wait_until(lambda: all(self.cell.arm.enabled), "power")


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with running(quick_config(tmp_path, cameras=[])) as cell, can.Bus(
            channel=str(cell.hub.path), interface=INTERFACE) as bus:
        program = Program(cell, bus)
        program.switch_on()
        yield program


def test_a_silent_joint_is_reported_holds_and_recovers(program: Program) -> None:
    ask(program.cell, "/fault/silent_joint?joint=2&seconds=0")
    status = program.await_frame(protocol.STATUS, lambda data: data[1] != 0)
    assert status[1] == protocol.NO_JOINT_ANSWER and status[7] == 0b10
    program.send(*protocol.joint_commands(HOME))
    wait_until(lambda: abs(program.cell.scene.joint_positions[2] - HOME[2]) < 0.01, "joint 3")
    assert abs(program.cell.scene.joint_positions[1]) < 0.02
    ask(program.cell, "/fault/clear")
    program.await_frame(protocol.STATUS, lambda data: data[1] == 0 and data[7] == 0)
    wait_until(lambda: np.abs(program.cell.scene.joint_positions - HOME).max() < 0.01, "all")


def test_a_broken_motor_loses_its_power_and_says_so(program: Program) -> None:
    ask(program.cell, "/fault/broken_motor?joint=3")
    program.await_frame(protocol.DRIVER + 2, lambda data: data[5] == protocol.ERROR_BIT)
    program.await_frame(protocol.STATUS, lambda data: data[1] == protocol.JOINT_ERROR)


def test_slow_replies_come_late(program: Program) -> None:
    cell = program.cell
    ask(cell, "/fault/slow_replies?delay=0.5&seconds=0")
    start = program.await_frame(protocol.JOINT_STATE, lambda data: True)
    program.send(*protocol.joint_commands(HOME))
    wait_until(lambda: cell.scene.joint_positions[1] > 0.1, "the arm moves")
    moved = cell.scene.time
    program.await_frame(protocol.JOINT_STATE, lambda data: protocol.read_joint_pair(data)[1] > 0.1)
    assert cell.scene.time - moved > 0.4
    assert start[4:] != protocol.joint_commands(HOME)[0].data[4:]
    ask(cell, "/fault/clear")
    wait_until(lambda: not cell.arm.delayed, "what was delayed has come")


def test_the_truth_names_the_faults_that_are_on(program: Program) -> None:
    ask(program.cell, "/fault/silent_bus?seconds=0.3")
    assert ask(program.cell, "/truth")["faults"] == ["silent_bus"]
    wait_until(lambda: not ask(program.cell, "/truth")["faults"], "it ends by itself")


def test_every_fault_begins_ends_and_is_described(program: Program) -> None:
    described = ask(program.cell, "/fault")
    for name in described:
        ask(program.cell, f"/fault/{name}?seconds=0")
    assert sorted(ask(program.cell, "/truth")["faults"]) == sorted(described)
    ask(program.cell, "/fault/clear")
    assert ask(program.cell, "/truth")["faults"] == []
    assert program.cell.hub.path.exists() and program.cell.keypad.link.exists()


class TestClock:
    """When faults end, without a cell."""

    def make(self) -> tuple[Faults, list[str]]:
        log: list[str] = []
        faults = Faults()
        faults.add("noise", Fault("it is loud", lambda level: log.append(f"on {level:g}"),
                                  lambda: log.append("off"), {"level": (1.0, "how loud")}))
        return faults, log

    def test_it_ends_after_its_seconds(self) -> None:
        faults, log = self.make()
        assert faults.start("noise", 10.0, {"seconds": "2", "level": "5"}) == 12.0
        faults.expire(11.9)
        assert log == ["on 5"]
        faults.expire(12.0)
        assert log == ["on 5", "off"] and not faults.active

    def test_zero_seconds_last_until_cleared(self) -> None:
        faults, log = self.make()
        faults.start("noise", 0.0, {"seconds": "0"})
        faults.expire(1e9)
        faults.clear()
        assert log == ["on 1", "off"]

    def test_the_same_fault_begins_anew(self) -> None:
        faults, log = self.make()
        faults.start("noise", 0.0, {})
        faults.start("noise", 1.0, {"level": "2"})
        assert log == ["on 1", "off", "on 2"] and faults.active == {"noise": 4.0}

    @pytest.mark.parametrize("query", [{"volume": "1"}, {"level": "loud"}, {"level": "-1"},
                                       {"seconds": "nan"}])
    def test_wrong_parameters_start_nothing(self, query: dict[str, str]) -> None:
        faults, log = self.make()
        with pytest.raises(FaultError, match="noise"):
            faults.start("noise", 0.0, query)
        assert not log and not faults.active
