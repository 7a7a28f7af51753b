"""CAN frames, and how they travel in packets between the cell and the programs on its bus."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

EXTENDED, REMOTE = 0x8000_0000, 0x4000_0000
"""Flags in the identifier word, as Linux has them."""
NOT_TO_OWN_PROCESS, ECHO = 1, 2
"""Flags of a packet that a program sends: who on its own machine hears it too."""

_HEADER = struct.Struct("<dI")
_FRAME = struct.Struct("<IB3x8s")
PACKET_LIMIT = _HEADER.size + 64 * _FRAME.size
"""No packet is longer [bytes]."""


class Frame(NamedTuple):
    """One CAN 2.0 frame."""

    identifier: int
    """11 or 29 bits; with the flags above in a packet."""
    data: bytes
    """Up to 8 bytes."""


def pack(frames: Iterable[Frame], stamp: float, flags: int = 0) -> bytes:
    """Return one packet of up to 64 frames, sent at ``stamp`` [s, wall clock]."""
    parts = [_HEADER.pack(stamp, flags)]
    parts += [_FRAME.pack(frame.identifier, len(frame.data), frame.data) for frame in frames]
    return b"".join(parts)


def unpack(packet: bytes) -> tuple[float, int, list[Frame]]:
    """Return stamp, flags and frames of a packet.

    Raises:
        ValueError: it is not a whole packet.
    """
    size = len(packet) - _HEADER.size
    if size < 0 or size % _FRAME.size:
        raise ValueError(f"a packet of {len(packet)} bytes is not whole")
    stamp, flags = _HEADER.unpack_from(packet)
    return stamp, flags, list(_frames(packet))


def _frames(packet: bytes) -> Iterator[Frame]:
    for identifier, length, data in _FRAME.iter_unpack(packet[_HEADER.size:]):
        if length > 8:
            raise ValueError(f"frame 0x{identifier:X} claims {length} bytes, at most 8 exist")
        yield Frame(identifier, data[:length])
