"""The operator's keypad: keys to meanings, debounced, stamped at the key, replugged at will."""

from __future__ import annotations

import difflib
import enum
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from poco_ros.core.config import setting
from poco_ros.core.errors import ConfigError
from poco_ros.robot.key_input_device import INPUT_NAMES, InputDeviceKeys
from poco_ros.robot.key_source import CHARACTER_NAMES, KeypadError, KeySource, RawKey
from poco_ros.robot.labels import LabelConfig

logger = logging.getLogger(__name__)
_LOOK = 0.1
"""How long one look for keys waits [s]."""
_HUNG = 1.0
"""A keypad that was not looked at for so long cannot be relied on [s]."""


class Meaning(enum.Enum):
    """What the operator says with a key."""

    SUCCESS = "success"
    """The task is done: the episode ends with reward 1."""
    FAILURE = "failure"
    """The episode ends without success."""
    DISCARD = "discard"
    """The episode is kept and never trained on."""
    READY = "ready"
    """The scene is reset; the next episode may begin."""
    STOP = "stop"
    """Stop the arm, latched."""


@dataclass(frozen=True)
class KeyMap:
    """Which keys mean what. Names are what is printed on them, or enter, space, backspace, ...

    Large and small letters are the same.
    """

    success: tuple[str, ...] = setting(("1",), "the task is done")
    failure: tuple[str, ...] = setting(("0",), "the episode failed")
    discard: tuple[str, ...] = setting((".",), "keep the episode, never train on it")
    ready: tuple[str, ...] = setting(("enter",), "the scene is reset")
    stop: tuple[str, ...] = setting(("*",), "stop the arm")

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for meaning in Meaning:
            keys = dict.fromkeys(key.lower() for key in getattr(self, meaning.value))
            object.__setattr__(self, meaning.value, tuple(keys))
            for key in keys:
                if key in seen:
                    raise ConfigError(f"key {key!r} means both {seen[key]} and {meaning.value}")
                seen[key] = meaning.value
        if not self.stop:
            raise ConfigError("no key means stop; name one")

    def meaning(self, key: str) -> Meaning | None:
        """Return what a key means, None when it means nothing."""
        for meaning in Meaning:
            if key in getattr(self, meaning.value):
                return meaning
        return None


@dataclass(frozen=True)
class KeypadConfig:
    """The keypad and its keys."""

    source: str = setting("serial", "kind of keypad", choices=("serial", "input", "terminal"))
    device: str = setting("/dev/ttyUSB0", "serial port, event device (/dev/input/by-id/...) or "
                          "terminal; /dev/tty: the one in which the graph was launched, while it"
                          " is in the foreground there")
    baud_rate: int = setting(9600, "of a serial keypad", unit="1/s", minimum=300)
    debounce: float = setting(0.15, "the same key again within this time is the same press",
                              unit="s", minimum=0.0, maximum=2.0)
    reconnect_period: float = setting(0.5, "pause between attempts to find it again", unit="s",
                                      minimum=0.02)
    keys: KeyMap = setting(KeyMap, "which key means what")
    labels: LabelConfig = setting(LabelConfig, "until when a label counts")

    def __post_init__(self) -> None:
        """Refuse keys that would never be heard."""
        known = INPUT_NAMES if self.source == "input" else CHARACTER_NAMES
        words = sorted(name for name in known if len(name) > 1 and name.isalpha())
        for meaning in Meaning:
            for key in getattr(self.keys, meaning.value):
                if key in known:
                    continue
                near = difflib.get_close_matches(key, words, n=1)
                raise ConfigError(
                    f"{meaning.value}: no key of source {self.source} is named {key!r}"
                    f"{f'; did you mean {near[0]!r}?' if near else '.'} Keys are named by what is"
                    f" printed on them, or {', '.join(words)}"
                    f"{', key<code of the kernel>' if self.source == 'input' else ''}")


@dataclass(frozen=True)
class KeyPress:
    """One press that means something."""

    meaning: Meaning
    key: str
    monotonic_ns: int
    """When the key went down, monotonic clock [ns]."""
    wall_ns: int
    """When the key went down, wall clock [ns]."""


class Debouncer:
    """Lets a key through once for each press: contacts bounce, and held keys repeat."""

    def __init__(self, window: float) -> None:
        """Take the window [s] in which the same key again is the same press."""
        self._window = round(window * 1e9)
        self._last: dict[str, int] = {}

    def accept(self, key: RawKey) -> bool:
        """Return whether ``key`` is a new press; a repeat prolongs the window."""
        last = self._last.get(key.name)
        self._last[key.name] = key.monotonic_ns
        return last is None or key.monotonic_ns - last >= self._window


def make_source(config: KeypadConfig, keeper: int = 0) -> KeySource:
    """Return the source that the settings name; what it needs is imported only here.

    ``keeper`` is the process that keeps this one and has the terminal; 0: nobody does.
    """
    if config.source == "serial":
        from poco_ros.robot.key_serial import SerialKeys
        return SerialKeys(config.device, config.baud_rate)
    if config.source == "input":
        return InputDeviceKeys(config.device)
    from poco_ros.robot.key_terminal import TerminalKeys
    return TerminalKeys(config.device, keeper)


class Keypad:
    """Reads a keypad on a thread of its own, and looks for it again when it is unplugged."""

    def __init__(self, config: KeypadConfig, on_press: Callable[[KeyPress], None],
                 keeper: int = 0) -> None:
        """Take what to read; ``on_press`` is called on the keypad's thread.

        ``keeper``: see :func:`make_source`.
        """
        self.config = config
        self._on_press = on_press
        self._source = make_source(config, keeper)
        self._debouncer = Debouncer(config.debounce)
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self.trouble = "the keypad was not started"
        """Why no key can be read right now; empty when all is well."""
        self.unknown = 0
        """Presses of keys that mean nothing."""
        self._looked = 0.0

    @property
    def readable(self) -> bool:
        """Whether a key that is pressed now would be heard."""
        return not self.trouble and time.monotonic() - self._looked < _HUNG

    def start(self) -> None:
        """Begin to read; returns at once, also when the keypad is not plugged in yet."""
        if self._thread is not None:
            raise RuntimeError("the keypad runs already")
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, name="keypad", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End reading and give the keypad back."""
        self._ending.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        self.trouble = "the keypad was stopped"

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._source.open()
                if self.trouble:
                    logger.info("keypad on %s is there", self.config.device)
                self._looked, self.trouble = time.monotonic(), ""
                while not self._ending.is_set():
                    for key in self._source.read(_LOOK):
                        self._take(key)
                    self._looked = time.monotonic()
            except KeypadError as error:
                if not self.trouble:
                    logger.warning("%s", error)
                self.trouble = str(error)
                self._ending.wait(self.config.reconnect_period)
            finally:
                self._source.close()

    def _take(self, key: RawKey) -> None:
        if not self._debouncer.accept(key):
            return
        meaning = self.config.keys.meaning(key.name)
        if meaning is None:
            self.unknown += 1
            logger.info("key %r means nothing; see the key map", key.name)
            return
        self._on_press(KeyPress(meaning, key.name, key.monotonic_ns, key.wall_ns))
