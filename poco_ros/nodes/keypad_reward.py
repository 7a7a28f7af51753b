"""The node of the operator's keypad: labels become rewards, ready and stop reach who they are for.

A key counts at the moment when it went down, whenever it gets here. The stop key is asked of the
arm again and again until the arm says that it has stopped, in every state in which the keypad is
open. The heartbeat tells that the stop key would be heard; it ceases with the keypad.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass

from poco_msgs.msg import EpisodeStatus, Reward
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from poco_ros import processes
from poco_ros.core import config
from poco_ros.core.config import setting
from poco_ros.core.episode import Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.joining import RewardSample
from poco_ros.robot.keypad import Keypad, KeypadConfig, KeyPress, Meaning
from poco_ros.robot.labels import LabelDesk
from poco_ros.ros import convert, names
from poco_ros.ros.lifecycle import HardwareNode
from poco_ros.ros.node import run
from poco_ros.ros.parameters import declare_settings

SOURCE = "keypad"
KEYPAD = "keypad"
STOP = "stop (arm_controller)"
LOOK = 0.02
"""Longest time that a message waits for its handling; a press is handled at once [s]."""
BEAT = 0.2
"""Time between two heartbeats [s]."""
AGAIN = 0.2
"""The stop is asked for again when it was not acknowledged for so long [s]."""
UNHEARD = 0.5
"""A stop that was not acknowledged for so long is a fault [s]."""
LIVE = 1.0
"""A message that seems older than this was kept for late joiners, or a clock jumped [s]."""
OUTCOMES = {Meaning.SUCCESS: Outcome.SUCCESS, Meaning.FAILURE: Outcome.FAILURE,
            Meaning.DISCARD: Outcome.DISCARD}


@dataclass(frozen=True)
class KeypadRewardSettings:
    """Parameters of the node."""

    config: str = setting("", "YAML file of keypad and labels, such as config/robot/keypad.yaml;"
                          " empty: the defaults")
    source: str = setting("", "kind of keypad in place of the one in config; empty: that one",
                          choices=("", "serial", "input", "terminal"))
    device: str = setting("", "device in place of the one in config; empty: that one")
    autostart: bool = setting(True, "configure and activate by itself")


class KeypadReward(HardwareNode):
    """Publishes ``reward``, ``operator_ready`` and ``operator_heartbeat``; calls ``stop``."""

    def __init__(self) -> None:
        super().__init__("keypad_reward")
        self.settings = declare_settings(self, KeypadRewardSettings, self.given)
        given = {name: value for name in ("source", "device")
                 if (value := getattr(self.settings, name))}
        self.config = config.load(KeypadConfig, self.settings.config, given) \
            if self.settings.config else KeypadConfig(**given)
        # Not a SimpleQueue: in Python 3.11 its get() may wait for ever in spite of a timeout.
        self._presses: queue.Queue[KeyPress] = queue.Queue()
        self.keypad = Keypad(self.config, self._presses.put, processes.keeper())
        self.desk = LabelDesk(self.config.labels)
        self._stop = StopCall(self)
        self._next_beat = self._error_at = 0.0
        self._pressed = dict.fromkeys(Meaning, 0)
        self._reward = self.create_publisher(Reward, names.REWARD, names.TICK_QOS)
        self._ready = self.create_publisher(Header, names.OPERATOR_READY, names.OPERATOR_QOS)
        self._heartbeat = self.create_publisher(Header, names.OPERATOR_HEARTBEAT,
                                                names.OPERATOR_QOS)
        self.loop.subscribe(EpisodeStatus, names.EPISODE, self._on_episode, names.STATUS_QOS)
        self.health.figures = self._figures
        keymap = ", ".join(f"{meaning.value} {' '.join(getattr(self.config.keys, meaning.value))}"
                           for meaning in Meaning)
        self.get_logger().info(f"{self.config.source} keypad on {self.config.device}: {keymap}")
        if self.settings.autostart:
            self.autostart()

    # -- lifecycle ----------------------------------------------------------------------------

    def connect(self) -> None:
        """Begin to read the keypad; one that is not plugged in yet is waited for."""
        self.health.wait_for(KEYPAD)
        self._next_beat = time.monotonic() + BEAT
        self._error_at = time.monotonic() + self.health.patience
        self.keypad.start()

    def disconnect(self) -> None:
        """Give the keypad back."""
        self.keypad.stop()
        self.health.give_up(KEYPAD)
        self.health.healed(KEYPAD)

    # -- work ---------------------------------------------------------------------------------

    def work(self) -> None:
        """Handle presses as they come, messages soon after, until stopped."""
        while not self.stopping.is_set():
            self.bring_up()
            try:
                press = self._presses.get(timeout=LOOK)
            except queue.Empty:
                press = None
            if press is not None and press.meaning is Meaning.STOP:
                self._stop.press()
            while self.loop.poll():  # what came before the press is known before it counts
                pass
            if press is not None:
                self._take(press)
            self._stop.update()
            if time.monotonic() >= self._next_beat:
                self._next_beat = time.monotonic() + BEAT
                self._beat()

    def _take(self, press: KeyPress) -> None:
        """Do what a key means."""
        self._pressed[press.meaning] += 1
        self.get_logger().info(f"key {press.key}: {press.meaning.value}")
        if press.meaning is Meaning.STOP:
            return
        if self.state != "active":
            self.health.event("refused key", f"{press.meaning.value} (key {press.key}): the node"
                              f" is {self.state}; activate it")
        elif press.meaning is Meaning.READY:
            self._ready.publish(Header(stamp=convert.stamp_to_msg(press.wall_ns),
                                       frame_id=SOURCE))
        else:
            self._label(press, OUTCOMES[press.meaning])

    def _label(self, press: KeyPress, outcome: Outcome) -> None:
        try:
            label = self.desk.label(outcome, press.monotonic_ns)
        except DataError as error:
            self.health.event("refused label", f"{press.meaning.value} (key {press.key}): {error}")
            return
        self._reward.publish(convert.reward_to_msg(RewardSample(
            press.wall_ns, label.episode_id, 1.0 if outcome is Outcome.SUCCESS else 0.0, outcome,
            source=SOURCE)))
        before = f", no longer {label.corrects.name}" \
            if label.corrects not in (Outcome.NONE, outcome) else ""
        self.get_logger().info(f"episode {label.episode_id}: {outcome.name}{before}")

    def _on_episode(self, status: EpisodeStatus) -> None:
        """Open and close episodes at the desk, at the time that the message was made."""
        desk, now = self.desk, time.monotonic_ns()
        age = time.time_ns() - convert.stamp_of(status.header.stamp)
        at = now - age if 0 <= age <= LIVE * 1e9 else now
        if status.phase == EpisodeStatus.RUNNING:
            desk.open(status.episode_id, at)
        elif status.phase in (EpisodeStatus.WAITING, EpisodeStatus.RESETTING):
            desk.end(at)
        elif status.episode_id == desk.open_id:
            desk.end(at)
        elif status.phase == EpisodeStatus.ENDED and not desk.open_id and not desk.ended_id \
                and 0 <= age <= self.config.labels.late * 1e9:
            desk.open(status.episode_id, now - age)  # it ended while this node was started again
            desk.end(now - age)

    def _beat(self) -> None:
        """Look after the keypad; say that it works when it does."""
        if self.state not in ("inactive", "active"):
            return
        if not self.keypad.readable:
            if time.monotonic() < self._error_at:
                return
            why = self.keypad.trouble or "its reader hangs; restart the node"
            self.health.fault(KEYPAD, f"no key can be read: {why}")
            return
        self._error_at = 0.0  # one that is gone again is an error at once
        self.health.got(KEYPAD)
        self.health.healed(KEYPAD)
        if self.state == "active":
            self._heartbeat.publish(Header(stamp=self.get_clock().now().to_msg(),
                                           frame_id=SOURCE))

    def _figures(self) -> dict[str, object]:
        return {"state": self.state, "readable": self.keypad.readable,
                "device": self.config.device, "open_episode": self.desk.open_id,
                **{f"{meaning.value} (keys)": count for meaning, count in self._pressed.items()},
                "unknown (keys)": self.keypad.unknown}


class StopCall:
    """Asks the arm to stop until it says that it has."""

    def __init__(self, node: HardwareNode) -> None:
        self._node = node
        self._client = node.loop.client(SetBool, names.STOP)
        self._pressed_at: float | None = None
        self._asked_at = 0.0
        self._refusal = ""

    def press(self) -> None:
        """Ask, now."""
        if self._pressed_at is None:
            self._pressed_at, self._refusal = time.monotonic(), ""
        self._ask()

    def update(self) -> None:
        """Ask again when it is time; call it often."""
        if self._pressed_at is None:
            return
        now = time.monotonic()
        if now - self._asked_at >= AGAIN:
            self._ask()
        if now - self._pressed_at >= UNHEARD:
            why = self._refusal or "no arm_controller answers"
            self._node.health.fault(STOP, f"the stop key was pressed and the arm has NOT"
                                    f" acknowledged it: {why}; use the emergency button")

    def _ask(self) -> None:
        self._asked_at = time.monotonic()
        self._client.call(SetBool.Request(data=True), self._on_answer)

    def _on_answer(self, response: SetBool.Response) -> None:
        if self._pressed_at is None:
            return
        if not response.success:
            self._refusal = f"it refuses ({response.message})"
            return
        took = time.monotonic() - self._pressed_at
        self._pressed_at = None
        self._client.forget()
        self._node.health.healed(STOP)
        self._node.health.event("stop key", f"acknowledged after {1e3 * took:.0f} ms:"
                                f" {response.message}; release it with the service stop,"
                                " data: false")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node; return its exit code."""
    return run(KeypadReward, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
