"""A stop that outlives the process that latched it: a file beside the lock of the bus."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from poco_ros.robot.arm import ArmError

logger = logging.getLogger(__name__)


class StopLatch:
    """The file is the latch, whatever is in it; it says why. Whoever has the bus owns it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str:
        """Return why the arm is stopped; empty when it is not."""
        try:
            return self._path.read_text(errors="replace").strip() or "stopped"
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"stopped, it seems: {error}"

    def latch(self, reason: str) -> None:
        """Make the file. A stop does not fail because of a full disk: an error is only told."""
        try:
            self._path.write_text(f"{reason}\n")
        except OSError as error:
            logger.error("the stop (%s) would not outlive this process: %s", reason, error)

    def lift(self) -> None:
        """Remove the file.

        Raises:
            ArmError: it cannot be removed.
        """
        try:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
        except OSError as error:
            raise ArmError(f"the stop stays latched: {error}; remove that file") from error
