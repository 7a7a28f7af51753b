"""The faults that an emulated cell can show."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from poco_ros.cell.can_hub import CanHub
from poco_ros.cell.faults import Fault, FaultError, Faults
from poco_ros.cell.piper_arm import PiperArm
from poco_ros.cell.ports import SerialPort
from poco_ros.cell.streams import CameraStream

_JOINT = {"joint": (3.0, "which one, 1 to 6")}


def make_faults(hub: CanHub, arm: PiperArm, keypad: SerialPort,
                streams: Collection[CameraStream]) -> Faults:
    """Return the faults of the parts of one cell."""
    faults = Faults()

    def add(name: str, doc: str, start: Callable[..., None], end: Callable[[], None],
            parameters: dict[str, tuple[float, str]] | None = None) -> None:
        faults.add(name, Fault(doc, start, end, parameters or {}))

    def switch(owner: object, name: str, value: Any) -> Callable[[], None]:
        return lambda: setattr(owner, name, value)

    def cameras(name: str, value: Any) -> None:
        for stream in streams:
            setattr(stream, name, value)

    def drop(share: float) -> None:
        if share > 1.0:
            raise FaultError(f"share={share:g}: expected 0 to 1")
        cameras("drop_share", share)

    add("silent_bus", "nothing arrives on the bus any more, either way",
        switch(hub, "silent", True), switch(hub, "silent", False))
    add("unplugged_can", "the CAN adapter is pulled: connections break", hub.unplug, hub.plug_in)
    add("slow_replies", "what the arm reports comes late",
        lambda delay: setattr(arm, "report_delay", delay), switch(arm, "report_delay", 0.0),
        {"delay": (0.2, "so much later [s]")})
    add("silent_joint", "a joint does not answer its controller: it holds and obeys nothing",
        lambda joint: arm.blocked_joints.add(_index(joint)), arm.blocked_joints.clear, _JOINT)
    add("broken_motor", "a motor's driver fails and cuts its power; afterwards the motor is off"
        " until it is switched on", lambda joint: arm.break_motor(_index(joint)),
        arm.repair_motors, _JOINT)
    add("frozen_camera", "every camera repeats its last picture",
        lambda: cameras("frozen", True), lambda: cameras("frozen", False))
    add("silent_camera", "no picture comes, connections stay open",
        lambda: cameras("silent", True), lambda: cameras("silent", False))
    add("dropped_frames", "pictures are missing", drop, lambda: cameras("drop_share", 0.0),
        {"share": (0.7, "so many of them, 0 to 1")})
    add("unplugged_keypad", "the keypad is pulled, then comes back under the same name",
        keypad.unplug, keypad.plug_in)
    return faults


def _index(number: float) -> int:
    if number not in range(1, 7):
        raise FaultError(f"joint={number:g} does not exist; choose 1 to 6")
    return int(number) - 1
