"""The Piper behind the arm contract, through piper_sdk, on an emulated arm's CAN frames."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from piper_emulator import EmulatedPiper
from robot_support import robot_config, wait_until

from poco_ros.core.errors import DataError
from poco_ros.robot.arm import ArmCommand, ArmError, ArmState
from poco_ros.robot.can_receivers import raw_receivers
from poco_ros.robot.config import PiperConfig
from poco_ros.robot.piper import CONFIRMATION, Piper
from poco_ros.robot.piper_link import PiperLink
from poco_ros.robot.stop_latch import StopLatch

HOME = np.array([0.0, 1.2, -1.0, 0.0, 0.9, 0.0])


@pytest.fixture
def emulator() -> Iterator[EmulatedPiper]:
    emulated = EmulatedPiper()
    yield emulated
    emulated.close()


@pytest.fixture
def config(emulator: EmulatedPiper, tmp_path: Path) -> PiperConfig:
    # A loaded test machine may keep the emulator waiting; silence has a test of its own.
    return replace(robot_config(emulator.channel, tmp_path).arm, silence_timeout=0.8,
                   listen_time=0.1)


@pytest.fixture
def arm(config: PiperConfig) -> Iterator[Piper]:
    piper = Piper(config)
    piper.open()
    yield piper
    piper.close()


def codes(state: ArmState) -> set[str]:
    return {fault.code for fault in state.faults}


def settled(arm: Piper, positions: np.ndarray) -> Callable[[], bool]:
    return lambda: bool(np.abs(arm.read().positions - positions).max() < 1e-3)


def test_reading_gives_joints_by_name_in_si_units(arm: Piper) -> None:
    state = arm.read()
    assert state.joint_names == ("joint1", "joint2", "joint3", "joint4", "joint5", "joint6")
    np.testing.assert_allclose(state.positions, HOME, atol=1e-5)
    assert state.gripper == pytest.approx(0.03)
    assert abs(state.wall_ns - time.time_ns()) < 1e9
    assert abs(state.monotonic_ns - time.monotonic_ns()) < 1e9
    wait_until(lambda: arm.read().velocities is not None)


def test_opening_moves_nothing_and_powers_nothing(arm: Piper, emulator: EmulatedPiper) -> None:
    state = emulator.ask()
    assert not state["enabled"] and state["commands"] == 0
    assert codes(arm.read()) == {"not_enabled"}


def test_enabling_powers_all_motors_and_holds_the_measured_pose(
        arm: Piper, emulator: EmulatedPiper) -> None:
    arm.enable()
    assert arm.read().enabled and not arm.read().faults
    state = emulator.ask()
    np.testing.assert_allclose(state["targets"], state["joints"], atol=1)
    assert state["opening_target"] == 30_000, "enabling must not close the gripper"


def test_an_arm_that_rests_outside_its_limits_is_not_asked_to_stay_there(
        arm: Piper, emulator: EmulatedPiper) -> None:
    folded = [0.0, -800.0, 900.0, 0.0, 20_000.0, 0.0]
    emulator.ask(joints=folded, targets=folded)
    wait_until(lambda: arm.read().positions[1] < 0.0)
    arm.enable()
    assert emulator.ask()["targets"][1:3] == [0, 0]


def test_an_arm_far_beyond_its_limits_is_not_asked_to_go_there(
        arm: Piper, emulator: EmulatedPiper) -> None:
    arm.enable()
    emulator.ask(joints=[0.0, -9_000.0, 0.0, 0.0, 0.0, 0.0], blocked=True)
    wait_until(lambda: arm.read().positions[1] < -0.1)
    before = emulator.ask()["received"]
    with pytest.raises(ArmError, match=r"joint2 is 0\.157 rad beyond the arm's own limit"):
        arm.hold()
    assert emulator.ask()["received"] == before


def test_a_command_is_reached(arm: Piper) -> None:
    arm.enable()
    goal = HOME + np.array([0.1, -0.1, 0.05, 0.2, -0.1, 0.3])
    arm.command(ArmCommand(goal, 0.055))
    wait_until(settled(arm, goal))
    wait_until(lambda: abs(arm.read().gripper - 0.055) < 1e-4)


@pytest.mark.parametrize("positions", [
    np.zeros(5), np.full(6, np.nan), np.array([0.0, -0.1, -1.0, 0.0, 0.9, 0.0])])
def test_a_partial_unfinite_or_impossible_command_is_refused(
        arm: Piper, emulator: EmulatedPiper, positions: np.ndarray) -> None:
    arm.enable()
    before = emulator.ask()["targets"]
    with pytest.raises(DataError):
        arm.command(ArmCommand(positions, 0.03))
    assert emulator.ask()["targets"] == before


def test_a_stop_holds_the_measured_pose_and_latches(arm: Piper, emulator: EmulatedPiper) -> None:
    arm.enable()
    emulator.ask(speed=20_000.0)
    arm.command(ArmCommand(HOME + np.array([0.5, 0.5, 0.5, 0.5, 0.2, 0.5]), 0.03))
    wait_until(lambda: arm.read().positions[0] > 0.05)
    arm.stop("red button")
    stopped_at = arm.read().positions
    with pytest.raises(ArmError, match="red button"):
        arm.command(ArmCommand(HOME, 0.03))
    with pytest.raises(ArmError, match="red button"):
        arm.enable()
    wait_until(lambda: emulator.ask()["targets"] == pytest.approx(
        [round(joint) for joint in emulator.ask()["joints"]], abs=800))
    assert np.abs(arm.read().positions - stopped_at).max() < 0.1
    assert emulator.ask()["status"] == 0, "a stop does not need a reset that drops the arm"
    arm.release()
    assert arm.stopped == ""
    arm.command(ArmCommand(HOME, 0.03))
    wait_until(settled(arm, HOME))


BEYOND = {"joints": [0.0, -9_000.0, 0.0, 0.0, 0.0, 0.0], "blocked": True}


@pytest.mark.parametrize("mode, change, words", [
    ("hold", {}, "the arm holds"),
    ("hold", {"mode": 2}, "nothing was sent to the arm: teaching"),
    ("hold", BEYOND, r"no hold reached the arm: joint2 is 0\.157 rad beyond"),
    ("emergency", {}, "own emergency stop was sent, in which it sinks slowly"),
    ("emergency", {"mode": 2}, "own emergency stop was sent, in which it sinks slowly")])
def test_a_stop_says_what_the_arm_does_now(
        config: PiperConfig, emulator: EmulatedPiper, mode: str, change: dict, words: str) -> None:
    arm = Piper(replace(config, stop_mode=mode))
    assert "bus is not open" in arm.stop("pressed early")
    arm.open()
    arm.release()
    arm.enable()
    emulator.ask(**change)
    changed = arm.read().monotonic_ns + 100_000_000
    wait_until(lambda: arm.read().monotonic_ns > changed)
    assert re.search(words, arm.stop("red button"))
    wait_until(lambda: emulator.ask()["status"] == (mode == "emergency"))
    arm.close()


@pytest.mark.parametrize("mode, words, sent", [
    ("hold", "the leader still leads the arm: let go of it", {}),
    ("emergency", "own emergency stop was sent", {str(0x150): 1})])
def test_a_stop_while_a_leader_leads_says_so_and_sends_an_emergency_stop_alone(
        config: PiperConfig, emulator: EmulatedPiper, mode: str, words: str,
        sent: dict[str, int]) -> None:
    emulator.ask(foreign=[[0x155, [0] * 8]])
    arm = Piper(replace(config, other_controllers="leader", stop_mode=mode))
    arm.open()
    before = emulator.ask()["received"]
    said = arm.stop("red button")
    assert words in said and "holds" not in said and arm.stopped == "red button"
    wait_until(lambda: {identifier: count for identifier, count
                        in emulator.ask()["received"].items()
                        if count != before.get(identifier)} == sent)
    arm.close()


def test_the_arm_is_never_dropped_without_the_words(arm: Piper, emulator: EmulatedPiper) -> None:
    arm.enable()
    for drop in (arm.reset, arm.power_off):
        with pytest.raises(ArmError, match="cuts the power"):
            drop("yes")
    assert emulator.ask()["resets"] == 0 and emulator.ask()["enabled"]
    arm.reset(CONFIRMATION)
    wait_until(lambda: emulator.ask()["resets"] == 1)


def test_a_stop_outlives_the_process_until_it_is_released(
        arm: Piper, config: PiperConfig) -> None:
    arm.stop("red button")
    arm.close()  # without a release, as a killed process leaves it
    for _ in range(2):
        following = Piper(config)
        following.open()
        assert following.stopped == "red button"
        with pytest.raises(ArmError, match="red button"):
            following.enable()
        following.close()
    following.open()
    following.release()
    following.close()
    following = Piper(config)
    following.open()
    assert not following.stopped
    following.close()


def test_a_stop_is_latched_also_before_the_bus_is_open_and_by_nobody_who_has_it_not(
        arm: Piper, config: PiperConfig) -> None:
    other = Piper(config)
    other.stop("pressed early")
    assert other.stopped == "pressed early"
    assert not list(config.lock_folder.glob("*.stopped"))
    arm.close()
    other.open()
    other.close()
    assert len(list(config.lock_folder.glob("*.stopped"))) == 1


def test_a_stop_is_not_released_by_who_has_not_the_bus(arm: Piper, config: PiperConfig) -> None:
    arm.stop("red button")
    arm.close()
    with pytest.raises(ArmError, match=r"stays latched \(red button\).*slcan.*is not open"):
        arm.release()
    assert arm.stopped == "red button" and len(list(config.lock_folder.glob("*.stopped"))) == 1
    arm.open()
    arm.release()
    assert not arm.stopped and not list(config.lock_folder.glob("*.stopped"))


def test_a_latch_that_cannot_be_kept_or_lifted_says_so(tmp_path: Path,
                                                       caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "x.stopped").mkdir()
    latch = StopLatch(tmp_path / "x.stopped")
    latch.latch("red button")
    assert "red button" in caplog.text and "would not outlive" in caplog.text
    assert latch.read(), "when in doubt it is stopped"
    with pytest.raises(ArmError, match=r"x\.stopped.*remove that file"):
        latch.lift()


@pytest.mark.parametrize("change, words", [
    ({"mode": 2}, "teaching mode; press its button"),
    ({"status": 0x0B}, "it records teaching"), ({"status": 0x0C}, "it replays teaching"),
    ({"status": 0x0D}, "teaching is paused"), ({"status": 1}, r"support the arm.*poco arm reset"),
    ({"foreign": [[0x155, [0] * 8]]}, "commands the arm")])
@pytest.mark.parametrize("powered", [False, True])
def test_an_arm_that_somebody_else_has_is_sent_nothing(
        arm: Piper, emulator: EmulatedPiper, change: dict, words: str, powered: bool) -> None:
    if powered:
        arm.enable()
    emulator.ask(**change)
    wait_until(lambda: bool(codes(arm.read()) - {"not_enabled"}))
    before = emulator.ask()["received"]
    with pytest.raises(ArmError, match=words):
        arm.enable()
    for send in (arm.hold, lambda: arm.command(ArmCommand(HOME, 0.03))):
        with pytest.raises(ArmError, match=words):
            send()
    arm.stop("red button")
    assert emulator.ask()["received"] == before


@pytest.mark.parametrize("away", ["led", "closed"])
def test_fingers_that_others_may_have_moved_stay_there_when_the_arm_holds(
        arm: Piper, emulator: EmulatedPiper, away: str) -> None:
    arm.enable()
    arm.command(ArmCommand(HOME, 0.01))
    wait_until(lambda: abs(arm.read().gripper - 0.01) < 1e-4)
    if away == "led":
        emulator.ask(mode=2)
        wait_until(lambda: "teaching" in codes(arm.read()))
    else:
        arm.close()
    emulator.ask(mode=0, opening=55_000.0)
    if away == "closed":
        arm.open()
    wait_until(lambda: not arm.read().faults and abs(arm.read().gripper - 0.055) < 1e-4)
    arm.stop("red button")
    wait_until(lambda: emulator.ask()["mode"] == 1)
    assert emulator.ask()["opening_target"] == 55_000


def test_a_stop_does_not_let_go_of_what_the_gripper_holds(
        arm: Piper, emulator: EmulatedPiper) -> None:
    arm.enable()
    arm.command(ArmCommand(HOME, 0.0))
    wait_until(lambda: emulator.ask()["opening_target"] == 0)
    emulator.ask(opening=20_000.0, blocked=True)
    wait_until(lambda: abs(arm.read().gripper - 0.02) < 1e-4)
    arm.stop("red button")
    received = emulator.ask()["received"][str(0x159)]
    wait_until(lambda: emulator.ask()["received"][str(0x159)] >= received)
    assert emulator.ask()["opening_target"] == 0


def test_a_person_who_takes_the_arm_while_it_is_enabled_is_left_alone(
        config: PiperConfig, emulator: EmulatedPiper) -> None:
    emulator.ask(refuse_power=True)
    arm = Piper(config)
    arm.open()
    refusal: list[ArmError] = []

    def enable() -> None:
        try:
            arm.enable()
        except ArmError as error:
            refusal.append(error)

    thread = threading.Thread(target=enable)
    thread.start()
    wait_until(lambda: str(0x471) in emulator.ask()["received"])
    emulator.ask(mode=2, refuse_power=False, enabled=True)
    thread.join(5)
    assert "teaching mode" in str(refusal[0])
    received = emulator.ask()["received"]
    assert not {str(0x151), str(0x155), str(0x159)} & set(received) and emulator.ask()["mode"] == 2
    arm.close()


def test_a_reset_lifts_the_arms_own_emergency_stop_and_cuts_the_power(
        arm: Piper, emulator: EmulatedPiper) -> None:
    arm.enable()
    emulator.ask(status=1)
    wait_until(lambda: "arm_status" in codes(arm.read()))
    arm.reset(CONFIRMATION)
    wait_until(lambda: codes(arm.read()) == {"not_enabled"})
    arm.enable()
    assert not arm.read().faults


def test_closing_leaves_the_motors_powered_and_no_thread(
        arm: Piper, emulator: EmulatedPiper) -> None:
    arm.enable()
    arm.close()
    assert emulator.ask()["enabled"]
    assert not [thread for thread in threading.enumerate() if "piper" in thread.name.lower()]
    with pytest.raises(ArmError, match="not open"):
        arm.read()


@pytest.mark.parametrize("change, code, words", [
    ({"error_bits": 1 << 2}, "joint_communication", "joint3 does not communicate"),
    ({"error_bits": 1 << 13}, "joint_limit", "joint6 is beyond"),
    ({"motor_faults": [0, 16, 0, 0, 0, 0]}, "motor", "joint2: collision"),
    ({"status": 9}, "arm_status", "a joint is in error"),
    ({"mode": 2}, "teaching", "teaching mode"),
    ({"status": 11}, "teaching", "records teaching"),
    ({"enabled": False}, "not_enabled", "no power on joint1"),
    ({"drop": [0x2A1]}, "report_missing", "the status of the arm"),
])
def test_faults_are_read_and_named(arm: Piper, emulator: EmulatedPiper, change: dict,
                                   code: str, words: str) -> None:
    arm.enable()
    emulator.ask(**change)
    wait_until(lambda: code in codes(arm.read()))
    fault = next(fault for fault in arm.read().faults if fault.code == code)
    assert words in fault.detail


def test_motors_that_do_not_come_on_are_named(config: PiperConfig, emulator: EmulatedPiper
                                              ) -> None:
    emulator.ask(refuse_power=True)
    arm = Piper(replace(config, enable_timeout=0.3))
    arm.open()
    with pytest.raises(ArmError, match=r"joint1.*did not come on.*emergency switch"):
        arm.enable()
    arm.close()


def test_latched_errors_are_cleared_by_enabling(arm: Piper, emulator: EmulatedPiper) -> None:
    arm.enable()
    emulator.ask(motor_faults=[0, 16, 0, 0, 0, 0], status=9)
    wait_until(lambda: {"motor", "arm_status"} <= codes(arm.read()))
    assert all(fault.clears for fault in arm.read().faults)
    arm.enable()
    assert not arm.read().faults


def test_silence_is_noticed_and_the_bus_comes_back(config: PiperConfig, emulator: EmulatedPiper
                                                   ) -> None:
    arm = Piper(replace(config, silence_timeout=0.12))
    arm.open()
    emulator.ask(silent=True)
    silent_since = time.monotonic()
    wait_until(lambda: "bus_silent" in codes(arm.read()))
    last = arm.read()
    assert time.monotonic() - last.monotonic_ns * 1e-9 >= 0.12
    assert time.monotonic() - silent_since < 1.0
    assert all(fault.mute for fault in last.faults if fault.code == "bus_silent")
    wait_until(lambda: arm.diagnostics["reconnections"] != "0")
    emulator.ask(silent=False)
    wait_until(lambda: "bus_silent" not in codes(arm.read()))
    arm.close()


@pytest.mark.parametrize("line", ["tXY38", "t1", "B1", "D0000", "D2A5800000000000", "0F3",
                                  "t2A5800", "t2A520102", "t2A2800", "\xfe\xff"])
def test_a_line_of_which_a_part_was_lost_is_skipped(arm: Piper, emulator: EmulatedPiper,
                                                    line: str) -> None:
    """A serial adapter loses bytes, and what is read first may be the end of a line. The bus was
    opened again for it, which took seconds in which nothing was sent.
    """
    arm.enable()
    emulator.ask(noise=line + "\r")
    since = time.monotonic()
    goal = HOME + np.array([0.02, 0.0, 0.0, 0.0, 0.0, 0.0])
    arm.command(ArmCommand(goal, 0.03))
    wait_until(settled(arm, goal))
    wait_until(lambda: time.monotonic() > since + 0.3)
    assert not arm.read().faults and arm.diagnostics["reconnections"] == "0"


def test_nothing_but_such_lines_is_a_lost_bus(arm: Piper, emulator: EmulatedPiper) -> None:
    emulator.ask(silent=True, noise="tXY38\r")
    wait_until(lambda: "bus_silent" in codes(arm.read()))
    wait_until(lambda: int(arm.diagnostics["garbled_frames"]) > 2)
    wait_until(lambda: arm.diagnostics["reconnections"] != "0")
    emulator.ask(silent=False, noise="")
    wait_until(lambda: "bus_silent" not in codes(arm.read()))


def test_an_adapter_that_is_unplugged_is_a_fault_not_a_crash(
        arm: Piper, emulator: EmulatedPiper) -> None:
    arm.enable()
    emulator.close()  # the pseudo terminal hangs up
    wait_until(lambda: bool(arm.read().faults))

    def refused() -> bool:
        try:
            arm.command(ArmCommand(HOME, 0.03))
        except ArmError:
            return True
        return False

    wait_until(refused)
    arm.stop("still works")
    assert arm.stopped == "still works"


def test_a_bus_without_an_arm_says_so(config: PiperConfig, emulator: EmulatedPiper) -> None:
    emulator.ask(silent=True)
    with pytest.raises(ArmError, match="no arm answered"):
        Piper(replace(config, open_timeout=0.2)).open()


def test_a_bus_that_does_not_exist_says_so(tmp_path: Path) -> None:
    nowhere = robot_config(str(tmp_path / "tty"), tmp_path).arm
    with pytest.raises(ArmError, match="cannot be opened"):
        Piper(nowhere).open()


def test_a_second_controller_in_another_process_is_refused(
        arm: Piper, config: PiperConfig) -> None:
    program = ("import sys; from pathlib import Path; from poco_ros.robot.bus_lock import BusLock;"
               f"BusLock(Path({str(config.lock_folder)!r}), 'slcan', {config.channel!r}).take()")
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                           cwd=Path(__file__).parents[1], check=False)
    assert other.returncode != 0 and "controlled by another process" in other.stderr
    arm.close()
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1],
                          check=False).returncode == 0, "given back when its holder closes"


def test_commands_of_somebody_else_on_the_bus_are_a_fault(
        arm: Piper, emulator: EmulatedPiper) -> None:
    arm.enable()
    emulator.ask(foreign=[[0x155, [0, 0, 0, 1, 0, 0, 0, 2]]])
    wait_until(lambda: "other_controller" in codes(arm.read()))
    with pytest.raises(ArmError, match="another controller commands the arm"):
        arm.enable()
    emulator.ask(foreign=[])
    wait_until(lambda: not arm.read().faults)


LISTENING = """
receive list 'rx_all':
  device   can_id   can_mask      function          userdata       matches  ident
   any     000    00000000  00000000b7d93bb2  000000005c2f1b6e        12  raw
   can0    000    00000000  00000000b7d93bb2  00000000d1d3a4fb    913370  raw
   can0    000    00000000  00000000b7d93bb2  0000000086c26ac9    913370  raw
   can0    000    00000000  000000001b8c2f41  00000000aa51be27         7  gw
   can1    000    00000000  00000000b7d93bb2  0000000019f0ee31         0  raw
  (vcan0: no entry)
"""


@pytest.mark.parametrize("channel, filtered, receivers", [
    ("can0", "", 3), ("can1", "", 2), ("vcan0", "", 1),
    ("can0", "   can0     2a5    c00007ff  00000000b7d93bb2  0000000033aa8c4d    2  raw\n", 4),
    ("can0", "   can0  80000155  dfffffff  00000000b7d93bb2  0000000033aa8c4d    2  raw\n", 4)])
def test_the_kernels_list_of_receivers_is_read(
        tmp_path: Path, channel: str, filtered: str, receivers: int) -> None:
    (tmp_path / "rcvlist_all").write_text(LISTENING)
    (tmp_path / "rcvlist_sff").write_text(f"\nreceive list 'rx_sff':\n{filtered}")
    errors = LISTENING.replace("000    00000000", "000    1fffffff")
    (tmp_path / "rcvlist_err").write_text(errors)
    assert raw_receivers(channel, tmp_path) == receivers
    assert raw_receivers(channel, tmp_path / "no CAN here") == 0


def test_a_program_of_this_computer_that_nobody_can_hear_is_found_by_its_socket(
        config: PiperConfig, emulator: EmulatedPiper, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    receivers = tmp_path / "rcvlist_all"
    head, *lines = LISTENING.partition("   any")[0], *(
        line for line in LISTENING.splitlines(keepends=True) if "raw" in line)

    def listed(count: int) -> None:
        receivers.write_text(head + "".join(lines[1:2] * count))

    monkeypatch.setattr("poco_ros.robot.piper.PiperLink", partial(
        PiperLink, receivers=lambda channel: raw_receivers("can0", tmp_path)))
    arm = Piper(config)
    listed(1)
    with pytest.raises(ArmError, match=r"another program of this computer.*lsof"):
        arm.open()
    listed(0)
    arm.open()
    listed(2)  # its own two
    arm.enable()
    listed(4)  # and those of a script with piper_sdk
    wait_until(lambda: "other_controller" in codes(arm.read()))
    before = emulator.ask()["received"]
    with pytest.raises(ArmError, match="another program of this computer"):
        arm.hold()
    assert emulator.ask()["received"] == before
    listed(2)
    wait_until(lambda: not arm.read().faults)
    arm.close()


def test_own_frames_that_the_bus_gives_back_are_not_somebody_else(
        arm: Piper, emulator: EmulatedPiper) -> None:
    arm.enable()
    state = arm.read()
    arm.command(ArmCommand(HOME, state.gripper))
    echo = [0, 0, 0, 0, 0, 1, 0x0C, 0x93]  # joints 1 and 2 of that command
    emulator.ask(foreign=[[0x155, echo]])
    wait_until(lambda: arm.read().monotonic_ns > state.monotonic_ns + 100_000_000)
    assert "other_controller" not in codes(arm.read())


def test_a_leader_arm_is_read_and_not_fought(config: PiperConfig, emulator: EmulatedPiper
                                             ) -> None:
    pose = [list(data) for data in (b"\x00\x00\x27\x10\x00\x01\x0c\x93", b"\xff\xff\x20\x30" * 2,
                                    b"\x00\x00\x00\x00" * 2, b"\x00\x00\x75\x30\x00\x00\x01\x00")]
    emulator.ask(foreign=[[0x155, pose[0]], [0x156, pose[1]], [0x157, pose[2]], [0x159, pose[3]]])
    arm = Piper(replace(config, other_controllers="leader"))
    arm.open()
    wait_until(lambda: (leader := arm.leader()) is not None and leader.gripper is not None)
    leader = arm.leader()
    assert leader is not None
    assert leader.positions[0] == pytest.approx(np.deg2rad(10.0))
    assert leader.gripper == pytest.approx(0.03)
    assert "other_controller" not in codes(arm.read())
    with pytest.raises(ArmError, match="only reads"):
        arm.command(ArmCommand(HOME, 0.03))
    arm.close()
