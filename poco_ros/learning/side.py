"""Work that may run beside other work on the same device.

A GPU can do the many small kernels of a critic's update while it leads thousands of candidates.
What is told apart here runs in another stream; in a captured graph it is a branch. Nothing that is
drawn or computed changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch


class Side(Protocol):
    """Where work goes that may run beside what follows it, until they are joined.

    Neither may need or change what the other changes. What is allocated on one side lives until
    they are joined, or is used on that side alone: memory is handed on within a side in order.
    """

    def begin(self) -> AbstractContextManager[object]:
        """Return the context whose work goes there, after all that was asked for before."""

    def join(self) -> None:
        """Have all that follows come after that work."""


class InTurn:
    """No other side: everything is done in the order in which it is asked for."""

    def begin(self) -> AbstractContextManager[object]:
        """Change nothing."""
        return contextlib.nullcontext()

    def join(self) -> None:
        """Nothing to wait for."""


class SideStream:
    """A second stream of a GPU."""

    def __init__(self, device: torch.device, priority: int = 0) -> None:
        """Take the device and the priority; below 0 its kernels go first."""
        self._stream, self._device = torch.cuda.Stream(device, priority), device
        self._apart = False  # there is work in it that has not been joined

    @contextmanager
    def begin(self) -> Iterator[None]:
        """See :class:`Side`."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self._apart = True
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """See :class:`Side`."""
        if self._apart:  # a stream that is in no capture cannot be joined to one
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
        self._apart = False
