"""A Piper that is not there: a program that answers the arm's CAN protocol on a serial adapter.

It opens a pseudo terminal and is the slcan adapter behind it, so the product's own process drives
it through python-can and piper_sdk as it would a real arm. Run as a program it prints the name of
the terminal; then each line on its standard input is a JSON request, answered by a JSON line.
"""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
import time
import tty
from pathlib import Path
from typing import Any

JOINT_RATE = 100.0  # measurements a second
REST = [0, 68_755, -57_296, 0, 51_566, 0]  # 0.001 degree: (0, 1.2, -1.0, 0, 0.9, 0) rad


class Emulator:
    """Joints that move to their targets at a speed; integers as on the bus."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.joints = [float(value) for value in REST]
        self.targets = list(self.joints)
        self.opening, self.opening_target = 30_000.0, 30_000.0
        self.speed = 150_000.0  # 0.001 degree a second
        self.enabled = False
        self.mode, self.status, self.error_bits = 0, 0, 0
        self.motor_faults = [0] * 6
        self.refuse_power = False
        self.blocked = False
        self.silent = False
        self.drop: set[int] = set()
        self.commands = 0
        self.resets = 0
        self.received: dict[int, int] = {}
        self.foreign: list[tuple[int, list[int]]] = []
        self.noise = ""  # what comes beside each round of frames, a character a byte
        self.buffer = b""
        self.ticks = 0

    def frame(self, identifier: int, data: bytes) -> bytes:
        return b"t%03X%d%s\r" % (identifier, len(data), data.hex().upper().encode())

    def advance(self, duration: float) -> None:
        if self.enabled and self.mode == 1 and not self.status and not self.blocked:
            for index, target in enumerate(self.targets):
                gap = target - self.joints[index]
                reach = self.speed * duration
                self.joints[index] += max(-reach, min(reach, gap))
            gap = self.opening_target - self.opening
            self.opening += max(-160_000 * duration, min(160_000 * duration, gap))

    def feedback(self) -> bytes:
        joints = [round(value) for value in self.joints]
        frames = [(0x2A5 + part, struct.pack(">ii", *joints[2 * part:2 * part + 2]))
                  for part in range(3)]
        frames.append((0x2A8, struct.pack(">ihBB", round(self.opening), 0, 0x40, 0)))
        if self.ticks % 4 == 0:
            frames.append((0x2A1, bytes([self.mode, self.status, 1, 0, 0, 0,
                                         self.error_bits >> 8, self.error_bits & 0xFF])))
            for motor in range(6):
                state = self.motor_faults[motor] | (0x40 if self.enabled else 0)
                frames.append((0x261 + motor, struct.pack(">HhbBH", 240, 30, 30, state, 0)))
                frames.append((0x251 + motor, struct.pack(">hhi", 0, 0, 0)))
        frames += [(identifier, bytes(data)) for identifier, data in self.foreign]
        self.ticks += 1
        return b"".join(self.frame(identifier, data) for identifier, data in frames
                        if identifier not in self.drop)

    def take(self, identifier: int, data: bytes) -> None:
        self.received[identifier] = self.received.get(identifier, 0) + 1
        if identifier == 0x151:
            self.mode = data[0]
        elif 0x155 <= identifier <= 0x157 and self.mode == 1:
            part = identifier - 0x155
            self.targets[2 * part:2 * part + 2] = struct.unpack(">ii", data)
            self.commands += 1
        elif identifier == 0x159:
            self.opening_target = struct.unpack(">i", data[:4])[0]
        elif identifier == 0x471 and not self.refuse_power:
            self.enabled = data[1] == 2
            if self.enabled:
                self.targets = list(self.joints)
        elif identifier == 0x475 and data[5] == 0xAE and data[1] == 0:
            self.motor_faults = [0] * 6
            self.status = 0 if self.status == 9 else self.status
        elif identifier == 0x150 and data[0] == 1:
            self.status = 1
        elif identifier == 0x150 and data[0] == 2:
            self.status, self.enabled, self.mode = 0, False, 0
            self.resets += 1

    def read_bus(self) -> None:
        self.buffer += os.read(self.master, 4096)
        *lines, self.buffer = self.buffer.split(b"\r")
        for line in lines:
            if line[:1] == b"t" and not self.silent:
                length = int(line[4:5])
                self.take(int(line[1:4], 16), bytes.fromhex(line[5:5 + 2 * length].decode()))

    def write_bus(self, data: bytes) -> None:
        try:
            os.write(self.master, data)
        except BlockingIOError:
            pass  # nobody has read for long: a full adapter loses frames

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        for name, value in request.items():
            if not hasattr(self, name):
                raise KeyError(name)
            setattr(self, name, set(value) if name == "drop" else value)
        return {"joints": self.joints, "targets": self.targets, "enabled": self.enabled,
                "opening": self.opening, "opening_target": self.opening_target,
                "status": self.status, "resets": self.resets, "mode": self.mode,
                "commands": self.commands, "received": self.received}


def main() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    print(os.ttyname(slave), flush=True)
    emulator = Emulator(master)
    due = time.monotonic()
    period = 1.0 / JOINT_RATE
    while True:
        ready, _, _ = select.select([master, sys.stdin], [], [],
                                    max(0.0, due - time.monotonic()))
        if master in ready:
            emulator.read_bus()
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                return
            print(json.dumps(emulator.answer(json.loads(line))), flush=True)
        if time.monotonic() >= due:
            due = max(due + period, time.monotonic())
            emulator.advance(period)
            if not emulator.silent:
                emulator.write_bus(emulator.feedback())
            emulator.write_bus(emulator.noise.encode("latin-1"))


class EmulatedPiper:
    """The program above in a process of its own, as tests use it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", str(Path(__file__).resolve())], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.channel = self._process.stdout.readline().strip()

    def ask(self, **changes: Any) -> dict[str, Any]:
        """Change the emulated arm; return its state."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(changes) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(5)
        self._process.stdout.close()


if __name__ == "__main__":
    main()
