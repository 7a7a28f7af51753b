"""The person at the keypad, the leader arm, and the keypad itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import can
import numpy as np
import pytest
import serial
from cell_support import ask, quick_config, running, wait_until

from poco_ros.cell import piper_protocol as protocol
from poco_ros.cell.can_bus import INTERFACE
from poco_ros.cell.cell import Cell

STEADY = {"position_noise": 0.0, "yaw_noise": 0.0, "action_noise": 0.0}
BLIND = {**STEADY, "approach_height": 0.16, "speed": 0.3, "position_noise": 0.2}


def quick_cell(folder: Path, **overrides: object) -> Cell:
    operator = {"enabled": True, **overrides.pop("operator", {})}
    return quick_config(folder, cameras=[], speed=8.0, operator=operator, **overrides)


@contextmanager
def keypad(cell: Cell) -> Iterator[serial.Serial]:
    with serial.Serial(str(cell.keypad.link), 9600, timeout=10) as port:
        yield port


def test_the_leader_demonstrates_and_the_operator_labels_what_he_sees(tmp_path: Path) -> None:
    config = quick_cell(tmp_path, leader={"demonstrations": 3}, script=STEADY)
    with running(config) as cell, keypad(cell) as port:
        assert port.read(6) == b"\r1\r1\r1"
        wait_until(lambda: ask(cell, "/truth")["operator"]["successes"] == 3, "three successes")
        wait_until(lambda: np.abs(cell.scene.joint_positions - config.scene.home).max() < 0.02,
                   "the leader leaves the arm at home")
        assert cell.leader.remaining == 0


def test_a_missed_cube_is_labelled_a_failure(tmp_path: Path) -> None:
    config = quick_cell(tmp_path, leader={"demonstrations": 2}, script=BLIND)
    with running(config) as cell, keypad(cell) as port:
        assert port.read(4) == b"\r0\r0"
        wait_until(lambda: cell.operator.trials == 2, "two labels")
        assert cell.operator.successes == 0


def test_a_leaders_commands_are_heard_on_the_bus_and_the_arm_follows(tmp_path: Path) -> None:
    config = quick_cell(tmp_path, leader={"demonstrations": 1}, script=STEADY)
    with running(config) as cell, keypad(cell) as port, can.Bus(
            channel=str(cell.hub.path), interface=INTERFACE) as bus:
        port.read(1)  # ready: from now on it demonstrates
        heard, targets = Counter(), []
        while len(targets) < 60:
            message = bus.recv(5)
            heard[message.arbitration_id] += 1
            if message.arbitration_id == protocol.JOINTS_12:
                targets.append(protocol.read_joint_pair(bytes(message.data))[1])
        assert heard[protocol.JOINTS_34] > 50 and heard[protocol.GRIPPER] > 50
        assert heard[protocol.MODE] > 0
        changes = np.abs(np.diff(targets))
        step = config.script.joint_step
        assert 0 < changes.max() <= step * config.script.period * config.leader.rate + 1e-6
        assert np.ptp(targets) > 0.05


def test_a_hand_leads_the_arm_itself_in_drag_teaching(tmp_path: Path) -> None:
    config = quick_cell(tmp_path, leader={"demonstrations": 1}, script=STEADY)
    with running(config) as cell, can.Bus(channel=str(cell.hub.path),
                                          interface=INTERFACE) as bus:
        wait_until(lambda: all(cell.arm.enabled), "the leader switches the motors on")
        wait_until(lambda: cell.operator.activity.name == "PRESS_READY", "scene and arm are ready")
        teach = protocol.teach_command(1)
        bus.send(can.Message(arbitration_id=teach.identifier, data=teach.data,
                             is_extended_id=False))
        wait_until(lambda: cell.arm.led_by_hand, "teaching")
        with keypad(cell) as port:
            assert port.read(2) == b"\r1"
        while bus.recv(0):
            pass
        commands = {bus.recv(1).arbitration_id for _ in range(300)}
        assert not commands & {protocol.JOINTS_12, protocol.GRIPPER, protocol.MODE}


def test_ready_is_pressed_again_when_nothing_moves(tmp_path: Path) -> None:
    with running(quick_cell(tmp_path)) as cell, keypad(cell) as port:
        cell.scene.place_arm(np.asarray(cell.config.scene.home))
        assert port.read(2) == b"\r\r"
        assert cell.operator.trials == cell.operator.began == 0, "nothing has moved"


def test_nobody_presses_when_nobody_listens(tmp_path: Path) -> None:
    """Keys from before a program opened the port must not reach it."""
    with running(quick_cell(tmp_path)) as cell:
        wait_until(lambda: cell.operator.activity.name == "PRESS_READY", "about to press ready")
        since = cell.scene.time
        wait_until(lambda: cell.scene.time > since + 2.0, "he waits")
        assert cell.operator.activity.name == "PRESS_READY"
        with keypad(cell) as port:
            assert port.read(1) == b"\r"
            assert port.in_waiting <= 1


@pytest.mark.parametrize("name", ["success", "failure", "discard", "ready", "stop"])
def test_every_key_can_be_pressed_on_request(tmp_path: Path, name: str) -> None:
    with running(quick_config(tmp_path, cameras=[])) as cell:
        assert ask(cell, f"/key/{name}") == {"key": name, "heard": False}
        with keypad(cell) as port:
            assert ask(cell, f"/key/{name}")["heard"]
            assert port.read(1).decode() == cell.keys()[name]


def test_an_unplugged_keypad_breaks_and_comes_back_under_the_same_name(tmp_path: Path) -> None:
    with running(quick_config(tmp_path, cameras=[])) as cell:
        link = cell.keypad.link
        with keypad(cell) as port:
            ask(cell, "/fault/unplugged_keypad?seconds=0.5")
            assert not link.exists()
            with pytest.raises(serial.SerialException):
                while True:
                    port.read(1)
        wait_until(link.exists, "the keypad is back")
        with keypad(cell) as port:
            ask(cell, "/key/success")
            assert port.read(1) == b"1"


def test_an_operator_who_is_switched_off_presses_nothing(tmp_path: Path) -> None:
    with running(quick_cell(tmp_path)) as cell:
        ask(cell, "/operator/off")
        with keypad(cell) as port:
            port.timeout = 0.5
            assert port.read(1) == b""
            ask(cell, "/operator/on")
            port.timeout = 10
            assert port.read(1) == b"\r"
