"""One controller a bus on this machine: a second one is refused before it sends a frame."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from poco_ros.robot.arm import ArmError


class BusLock:
    """A lock that the kernel gives back when its holder ends, however it ends."""

    def __init__(self, folder: Path, interface: str, channel: str) -> None:
        self._bus = f"{interface} {channel}"
        # /dev/ttyACM0 and /dev/serial/by-id/... may be the same adapter.
        where = str(Path(channel).resolve()) if channel.startswith("/") else channel
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{interface}-{where}")
        self.path = folder / f"{name}.lock"
        """The file that is locked."""
        self._descriptor = -1

    def take(self) -> None:
        """Take the lock.

        Raises:
            ArmError: another process of this machine has it; its process id is named.
        """
        try:
            self.path.parent.mkdir(mode=0o777, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ArmError(f"{self.path}: the lock of bus {self._bus} cannot be made ({error});"
                           " set arm.lock_folder to a folder that can be written") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 64).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise ArmError(f"bus {self._bus} is controlled by another process (id {holder}); two"
                           " controllers on one bus fight over the arm: end the other one"
                           ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def give_back(self) -> None:
        """Give the lock back; without effect when it is not held."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
