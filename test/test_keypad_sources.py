"""Keys come in from a serial line, a USB keypad's event device and a terminal, and come back."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from robot_support import CONFIG, wait_until

from poco_ros.core.config import from_dict, load
from poco_ros.core.errors import ConfigError
from poco_ros.robot import key_input_device, keypad
from poco_ros.robot.key_input_device import EVENT, KEY_NAMES, decode_events
from poco_ros.robot.key_source import CharacterDecoder, KeypadError, RawKey
from poco_ros.robot.key_terminal import TerminalKeys
from poco_ros.robot.keypad import Debouncer, Keypad, KeypadConfig, KeyPress, Meaning

MILLISECOND = 1_000_000
ANOTHER_PROGRAM = """
import sys, time
from poco_ros.robot.key_serial import SerialKeys
keys = SerialKeys(sys.argv[1], 9600)
keys.open()
print("open", flush=True)
time.sleep(600)
"""


class Recorded:
    """A keypad that runs, and what was pressed on it."""

    def __init__(self, **changes: object) -> None:
        self.presses: list[KeyPress] = []
        values = {"debounce": 0.0, "reconnect_period": 0.02, **changes}
        self.keypad = Keypad(from_dict(KeypadConfig, values), self.presses.append)
        self.keypad.start()

    def wait_plugged(self) -> None:
        wait_until(lambda: not self.keypad.trouble, what=self.keypad.trouble)

    def wait_pressed(self, *meanings: Meaning) -> None:
        wait_until(lambda: [press.meaning for press in self.presses] == list(meanings))


@pytest.fixture
def running() -> Iterator[Callable[..., Recorded]]:
    started: list[Recorded] = []

    def start(**changes: object) -> Recorded:
        started.append(Recorded(**changes))
        return started[-1]

    yield start
    for recorded in started:
        recorded.keypad.stop()


class SerialLine:
    """A serial line whose other end is here, behind a name as udev gives one."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.plug()

    def plug(self) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(slave))
        self.slave = slave

    def unplug(self) -> None:
        os.close(self.slave)
        os.close(self.master)
        self.link.unlink()


def test_a_serial_keypad_is_stamped_at_the_key(tmp_path: Path, running: Callable[..., Recorded]
                                               ) -> None:
    line = SerialLine(tmp_path / "keypad")
    recorded = running(source="serial", device=str(line.link))
    recorded.wait_plugged()
    before = time.monotonic_ns()
    os.write(line.master, b"1")
    recorded.wait_pressed(Meaning.SUCCESS)
    press = recorded.presses[0]
    assert before <= press.monotonic_ns <= time.monotonic_ns()
    assert abs(press.wall_ns - time.time_ns()) < 2e9 and press.key == "1"
    os.write(line.master, b"0.\r\n*")
    recorded.wait_pressed(Meaning.SUCCESS, Meaning.FAILURE, Meaning.DISCARD, Meaning.READY,
                          Meaning.STOP)
    line.unplug()


def test_a_keypad_is_unplugged_and_replugged_without_restart(
        tmp_path: Path, running: Callable[..., Recorded]) -> None:
    line = SerialLine(tmp_path / "keypad")
    recorded = running(source="serial", device=str(line.link))
    recorded.wait_plugged()
    line.unplug()
    wait_until(lambda: str(line.link) in recorded.keypad.trouble)
    line.plug()
    recorded.wait_plugged()
    os.write(line.master, b"1")
    recorded.wait_pressed(Meaning.SUCCESS)
    line.unplug()


def test_a_keypad_that_is_plugged_in_later_is_found(tmp_path: Path,
                                                    running: Callable[..., Recorded]) -> None:
    recorded = running(source="serial", device=str(tmp_path / "keypad"))
    wait_until(lambda: "is it plugged in" in recorded.keypad.trouble)
    line = SerialLine(tmp_path / "keypad")
    recorded.wait_plugged()
    os.write(line.master, b"*")
    recorded.wait_pressed(Meaning.STOP)
    line.unplug()


def test_keys_that_mean_nothing_are_counted(tmp_path: Path, running: Callable[..., Recorded]
                                            ) -> None:
    line = SerialLine(tmp_path / "keypad")
    recorded = running(source="serial", device=str(line.link))
    recorded.wait_plugged()
    os.write(line.master, b"x\xff71")
    recorded.wait_pressed(Meaning.SUCCESS)
    assert recorded.keypad.unknown == 2
    line.unplug()


def test_an_event_device_gives_keys_that_go_down(tmp_path: Path,
                                                 running: Callable[..., Recorded]) -> None:
    pipe = tmp_path / "event0"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    recorded = running(source="input", device=str(pipe))
    recorded.wait_plugged()
    down = b"".join(EVENT.pack(7, 5, kind, code, value) for kind, code, value in
                    ((4, 4, 458841), (1, 79, 1), (0, 0, 0), (1, 79, 2), (1, 79, 0), (1, 96, 1)))
    os.write(writer, down[:40])  # a read may end within a structure
    os.write(writer, down[40:])
    recorded.wait_pressed(Meaning.SUCCESS, Meaning.READY)
    os.close(writer)
    wait_until(lambda: "gone" in recorded.keypad.trouble or "is not open" in
               recorded.keypad.trouble, what="the device was unplugged")


def test_a_terminal_gives_keys_without_enter_and_is_put_right_again(
        running: Callable[..., Recorded]) -> None:
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    recorded = running(source="terminal", device=os.ttyname(slave))
    recorded.wait_plugged()
    assert termios.tcgetattr(slave)[3] != before[3], "no line editing, no echo"
    os.write(master, b"1")
    recorded.wait_pressed(Meaning.SUCCESS)
    recorded.keypad.stop()
    assert termios.tcgetattr(slave) == before
    os.close(slave)
    os.close(master)


def test_a_terminal_is_none_where_the_graph_was_launched_without_one() -> None:
    launcher = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, start_new_session=True)
    keys = TerminalKeys("/dev/tty", launcher.pid)
    with pytest.raises(KeypadError, match=r"not launched in one;.* name one as device"):
        keys.open()
    launcher.communicate(b"\n")
    with pytest.raises(KeypadError, match="has ended"):
        keys.open()
    keys.close()


@pytest.mark.parametrize("source", ["serial", "input", "terminal"])
def test_a_keypad_of_any_kind_is_relied_on_while_nobody_presses_and_no_longer_when_it_is_gone(
        source: str, tmp_path: Path, running: Callable[..., Recorded],
        monkeypatch: pytest.MonkeyPatch) -> None:
    """What the heartbeat of the operator hangs on."""
    monkeypatch.setattr(keypad, "_HUNG", 0.3)
    if source == "input":
        place = tmp_path / "event0"
        os.mkfifo(place)
        ends = [os.open(place, os.O_RDWR)]
    else:
        ends = list(os.openpty())
        tty.setraw(ends[1])
        place = Path(os.ttyname(ends[1]))
    recorded = running(source=source, device=str(place))
    recorded.wait_plugged()
    looks = [recorded.keypad.readable for _ in range(40) if not time.sleep(0.02)]
    assert all(looks), "0.8 s without a key"
    for end in ends:
        os.close(end)
    wait_until(lambda: not recorded.keypad.readable)


def test_a_serial_keypad_that_another_program_has_is_not_relied_on(
        tmp_path: Path, running: Callable[..., Recorded]) -> None:
    """Two that read one line share its characters. The lock of one that was killed is gone."""
    line = SerialLine(tmp_path / "keypad")
    other = subprocess.Popen([sys.executable, "-c", ANOTHER_PROGRAM, str(line.link)],
                             stdout=subprocess.PIPE, cwd=CONFIG.parents[1])
    try:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        recorded = running(source="serial", device=str(line.link))
        wait_until(lambda: "another program has taken it" in recorded.keypad.trouble)
        assert not recorded.keypad.readable
    finally:
        other.kill()
        other.communicate()
    recorded.wait_plugged()
    os.write(line.master, b"*")
    recorded.wait_pressed(Meaning.STOP)
    line.unplug()


def test_an_event_device_that_another_program_has_is_not_relied_on(
        tmp_path: Path, running: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gives its keys to who has taken it alone; no kernel here has such a device."""
    place = tmp_path / "event0"
    os.mkfifo(place)
    writer = os.open(place, os.O_RDWR)
    taken = [True]

    def kernel(descriptor: int, request: int, argument: object) -> int:
        if taken[0] and request == 0x40044590:  # EVIOCGRAB
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return 0

    monkeypatch.setattr(key_input_device, "fcntl", SimpleNamespace(ioctl=kernel))
    recorded = running(source="input", device=str(place))
    wait_until(lambda: "another program has taken it" in recorded.keypad.trouble)
    assert not recorded.keypad.readable
    taken[0] = False
    recorded.wait_plugged()
    os.write(writer, EVENT.pack(7, 5, 1, 55, 1))
    recorded.wait_pressed(Meaning.STOP)
    os.close(writer)


def test_event_structures_of_the_evdev_library_are_decoded() -> None:
    evdev = pytest.importorskip("evdev")
    event = evdev.InputEvent(12, 345_678, evdev.ecodes.EV_KEY, evdev.ecodes.KEY_KPENTER, 1)
    data = struct.pack("@llHHi", event.sec, event.usec, event.type, event.code, event.value)
    assert decode_events(data) == [("enter", 12_345_678_000)]


def test_names_of_keys_agree_with_the_evdev_library() -> None:
    evdev = pytest.importorskip("evdev")
    words = {"minus": "-", "equal": "=", "comma": ",", "dot": ".", "slash": "/", "asterisk": "*",
             "plus": "+", "esc": "escape"}
    for code, name in KEY_NAMES.items():
        known = evdev.ecodes.KEY[code]
        expected = str(known if isinstance(known, str) else known[0]).lower()
        expected = expected.removeprefix("key_").removeprefix("kp")
        assert words.get(expected, expected) == name, f"key code {code}"


def test_one_press_is_one_press_however_its_contact_bounces() -> None:
    debouncer = Debouncer(0.15)
    times = [0, 3, 8, 140, 280, 500, 510]  # ms; held and bouncing until 280
    accepted = [debouncer.accept(RawKey("1", when * MILLISECOND, 0)) for when in times]
    assert accepted == [True, False, False, False, False, True, False]


def test_another_key_is_not_taken_for_a_bounce() -> None:
    debouncer = Debouncer(0.15)
    assert debouncer.accept(RawKey("1", 0, 0)) and debouncer.accept(RawKey("0", MILLISECOND, 0))


def test_a_return_and_a_newline_are_one_enter() -> None:
    decoder = CharacterDecoder()
    assert decoder.decode(b"a\r") + decoder.decode(b"\nB") == ["a", "enter", "b"]
    assert decoder.decode(b"\n\n") == ["enter", "enter"]


def test_a_key_is_found_as_it_is_printed_and_an_unknown_name_is_refused(
        tmp_path: Path, running: Callable[..., Recorded]) -> None:
    line = SerialLine(tmp_path / "keypad")
    recorded = running(source="serial", device=str(line.link), keys={"stop": ["S", "Escape"]})
    recorded.wait_plugged()
    os.write(line.master, b"sS\x1b")
    recorded.wait_pressed(Meaning.STOP, Meaning.STOP, Meaning.STOP)
    line.unplug()
    for name in ("esc", "kp*", "10", "", " ", "\u00e9", "key69"):
        with pytest.raises(ConfigError, match="stop: no key of source serial is named"):
            from_dict(KeypadConfig, {"keys": {"stop": [name]}})
    with pytest.raises(ConfigError, match=r"'esc'; did you mean 'escape'\? Keys are named"):
        from_dict(KeypadConfig, {"keys": {"stop": ["esc"]}})


def test_a_key_that_a_keypad_of_this_kind_does_not_have_is_refused() -> None:
    for source, names, others in (
            ("input", ("s", "delete", "Key69"), ("#", "key79")),
            ("serial", ("#", "tab"), ("delete", "key69")),
            ("terminal", ("#", "tab"), ("delete", "key69"))):
        from_dict(KeypadConfig, {"source": source, "keys": {"stop": names}})
        for name in others:
            with pytest.raises(ConfigError, match=f"no key of source {source} is named"):
                from_dict(KeypadConfig, {"source": source, "keys": {"stop": [name]}})


def test_a_key_that_means_two_things_is_refused() -> None:
    with pytest.raises(ConfigError, match="'1' means both success and stop"):
        from_dict(KeypadConfig, {"keys": {"stop": ["1"]}})
    with pytest.raises(ConfigError, match="'s' means both success and stop"):
        from_dict(KeypadConfig, {"keys": {"success": ["S"], "stop": ["s"]}})


def test_a_keypad_without_a_stop_is_refused() -> None:
    with pytest.raises(ConfigError, match="no key means stop"):
        from_dict(KeypadConfig, {"keys": {"stop": []}})


def test_the_shipped_settings_load() -> None:
    keys = load(KeypadConfig, CONFIG / "keypad.yaml").keys
    assert {meaning: keys.meaning(key) for meaning, key in
            ((Meaning.SUCCESS, "1"), (Meaning.FAILURE, "0"), (Meaning.DISCARD, "."),
             (Meaning.READY, "enter"), (Meaning.STOP, "*"))} == {
        meaning: meaning for meaning in Meaning}
