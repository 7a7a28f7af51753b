"""The emulated cell as a whole: scene, arm on a bus, cameras, keypad, operator, faults."""

from __future__ import annotations

import json
import logging
import os
import selectors
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from poco_ros.cell.cameras import make_camera
from poco_ros.cell.can_bus import INTERFACE
from poco_ros.cell.can_hub import CanHub, Tap
from poco_ros.cell.config import CameraConfig, CellConfig
from poco_ros.cell.fault_list import make_faults
from poco_ros.cell.frames import Frame
from poco_ros.cell.leader import Leader
from poco_ros.cell.operator import Operator
from poco_ros.cell.piper_arm import PiperArm
from poco_ros.cell.ports import SerialPort
from poco_ros.cell.renderer import Snapshot
from poco_ros.cell.requests import Errands, Requests
from poco_ros.cell.scene import CONTROL_PERIOD, Scene
from poco_ros.cell.slcan import SlcanAdapter
from poco_ros.cell.streams import CameraStream
from poco_ros.cell.web import WebServer
from poco_ros.core.files import write_atomic
from poco_ros.core.seeding import derive_seed

log = logging.getLogger("poco.cell")
DESCRIPTION = "cell.json"
_BEHIND = 0.1  # further behind real time than this, the cell gives the time up [s]


class Cell:
    """Everything that sits behind the plugs. :meth:`run` drives it until :meth:`stop`.

    One thread moves the scene, the arm, the operator and the leader, in ticks of the scene's
    control period; cameras and HTTP requests have threads of their own.
    """

    def __init__(self, config: CellConfig) -> None:
        """Make all plugs.

        Raises:
            OSError: another cell has the folder or the port, or the folder cannot be written.
        """
        self.config = config
        self.late_ticks = 0
        """Control periods that were given up because the computer was too slow."""
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._errands = Errands()
        self._selector = selectors.DefaultSelector()
        self._plugs = ExitStack()
        self._plugs.callback(self._selector.close)
        self._make_folder(config.folder)
        self.scene = Scene(config.scene)
        self.scene.place_arm(np.asarray(config.scene.folded))
        self.arm = PiperArm(self.scene, config.can)
        try:
            self._make_plugs()
        except BaseException:
            self._plugs.close()
            raise

    def _make_folder(self, folder: Path) -> None:
        """Make the folder of the plugs; one that was not there goes when the cell closes."""
        if not folder.exists():
            self._plugs.callback(_remove_if_empty, folder)
        folder.mkdir(parents=True, exist_ok=True)

    def _make_plugs(self) -> None:
        config, plugs = self.config, self._plugs
        self.hub = CanHub(config.folder / "can0", self._selector, self.arm.receive)
        plugs.callback(self.hub.close)
        self.slcan: SlcanAdapter | None = None
        if config.can.slcan:
            port = SerialPort(config.folder / "slcan0")
            plugs.callback(port.close)
            self.slcan = SlcanAdapter(port, self._from_slcan)
            self.hub.tap(self.slcan.forward)
        self.keypad = SerialPort(config.folder / "keypad")
        plugs.callback(self.keypad.close)
        self.operator = Operator(config.operator, self.scene, self.press, self._rng(1))
        self.leader = Leader(config.leader, config.script, self.scene, self.arm, self.operator,
                             self._rng(2))
        self.streams = {camera.name: self._make_stream(index, camera)
                        for index, camera in enumerate(config.cameras)}
        self.faults = make_faults(self.hub, self.arm, self.keypad, self.streams.values())
        self.web = WebServer(
            config.host, config.port, self.streams, Requests(self, self._errands).commands(),
            {"key": list(self.keys()), "fault": list(self.faults.describe())})
        plugs.callback(self.web.close)
        for stream in self.streams.values():  # closed before the server, whose threads watch them
            plugs.callback(stream.close)
        path = config.folder / DESCRIPTION
        write_atomic(path, json.dumps(self.description(), indent=2) + "\n")
        plugs.callback(path.unlink, missing_ok=True)

    def _make_stream(self, index: int, camera: CameraConfig) -> CameraStream:
        stream = CameraStream(
            make_camera(self.scene.model, camera, self.config.renderer,
                        derive_seed(self.config.seed, 3, index)),
            self.snapshot, self.config.speed, self._rng(4, index))
        self._plugs.callback(stream.close)
        return stream

    def _rng(self, *name: int) -> np.random.Generator:
        return np.random.default_rng(derive_seed(self.config.seed, *name))

    # -- what is where ----------------------------------------------------------------------------
    def description(self) -> dict[str, Any]:
        """Return the names of all devices, for configurations and for launching."""
        described: dict[str, Any] = {
            "can": {"interface": INTERFACE, "channel": str(self.hub.path)},
            "cameras": {name: f"{self.web.address}/camera/{name}.mjpg" for name in self.streams},
            "keypad": {"port": str(self.keypad.link), "keys": self.keys()},
            "control": self.web.address,
            "process": os.getpid(),
        }
        if self.slcan:
            described["can"]["slcan"] = str(self.slcan.port.link)
        return described

    def truth(self) -> dict[str, Any]:
        """Return what is really going on, as JSON values; no robot could know it."""
        cube, operator = self.scene.cube, self.operator
        return {
            "time": self.scene.time,
            "joints": self.scene.joint_positions.tolist(),
            "velocities": self.scene.joint_velocities.tolist(),
            "gripper": self.scene.gripper_opening,
            "tool": self.scene.tool_position.tolist(),
            "cube": {"position": cube.position.tolist(), "yaw": cube.yaw},
            "lifted": self.scene.lifted(self.config.operator.lift_height),
            "powered": list(self.arm.enabled),
            "operator": {"enabled": operator.enabled, "activity": operator.activity.value,
                         "began": operator.began, "trials": operator.trials,
                         "successes": operator.successes},
            "demonstrations_left": self.leader.remaining,
            "faults": list(self.faults.active),
            "connections": self.hub.clients,
            "frames_lost": self.hub.overflows,
            "pictures": {name: stream.pictures for name, stream in self.streams.items()},
            "late_ticks": self.late_ticks,
        }

    def keys(self) -> dict[str, str]:
        """Return the keypad's keys: name -> what it types."""
        keys = self.config.operator
        return {"success": keys.success_key, "failure": keys.failure_key,
                "discard": keys.discard_key, "ready": keys.ready_key, "stop": keys.stop_key}

    def press(self, key: str) -> bool:
        """Type ``key`` on the keypad; return whether a program listened."""
        heard = self.keypad.write(key.encode())
        if heard:
            log.info("key %s", next((n for n, k in self.keys().items() if k == key), key))
        return heard

    def snapshot(self) -> Snapshot:
        """Return what a renderer needs of this instant; any thread may ask."""
        with self._lock:
            return self.scene.snapshot()

    # -- time -------------------------------------------------------------------------------------
    def run(self, duration: float = 0.0) -> None:
        """Live for ``duration`` [s] of real time, or until :meth:`stop` when it is 0."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(0.0005)  # the bus must not wait long for a thread that renders
        try:
            self._run(duration)
        finally:
            sys.setswitchinterval(interval)

    def _run(self, duration: float) -> None:
        period = CONTROL_PERIOD / self.config.speed
        began = due = time.monotonic()
        while not self._stopping.is_set() and (not duration or due - began < duration):
            due += period
            self._serve_until(due)
            behind = time.monotonic() - due
            if behind > _BEHIND:
                self.late_ticks += round(behind / period)
                due += behind
            self._tick()

    def stop(self) -> None:
        """End :meth:`run`; any thread or signal handler may call it."""
        self._stopping.set()

    def close(self) -> None:
        """Pull all plugs and remove their names; :meth:`run` must have ended."""
        self.stop()
        self._errands.answer()
        self._plugs.close()

    def _serve_until(self, due: float) -> None:
        """Hand frames on as they come, until it is time for the next tick."""
        while True:
            for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
                key.data()
            if time.monotonic() >= due:
                return

    def _tick(self) -> None:
        if self.slcan:
            self.slcan.poll()
        self._errands.answer()
        self.faults.expire(self.scene.time)
        self.operator.step()
        self._command(self.leader.step())
        frames = self.arm.tick()
        with self._lock:
            self.scene.step()
        self.hub.send(frames)

    def _command(self, frames: Sequence[Frame], sender: Tap | None = None) -> None:
        """Put commands on the bus, where the arm hears them too."""
        if self.hub.silent:
            return
        self.hub.send(frames, except_for=sender)
        for frame in frames:
            self.arm.receive(frame)

    def _from_slcan(self, frames: Sequence[Frame]) -> None:
        assert self.slcan is not None
        self._command(frames, self.slcan.forward)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
