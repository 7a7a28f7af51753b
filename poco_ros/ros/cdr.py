"""Plain CDR, the encoding in which DDS carries messages: values to bytes and back.

Values stand one after the other, each at a multiple of its size, little endian; strings and
sequences begin with their length. Messages of a topic differ in their values and hardly ever in
the lengths of their strings and sequences, and for given lengths a message is one fixed
:class:`struct.Struct`: so encoding and decoding take a microsecond each.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

LITTLE_ENDIAN = b"\x00\x01\x00\x00"
"""First bytes of a message in plain CDR, little endian."""
SIZES = {"B": 1, "?": 1, "i": 4, "I": 4, "f": 4, "Q": 8}
"""Bytes of a value, by its letter in :mod:`struct`."""
MAX_LAYOUTS = 256
"""Layouts that are remembered; with free text in a message there may be any number."""

Lengths = tuple[int, ...]
Pick = Callable[[tuple[Any, ...]], tuple[Any, ...]]


class _Layout:
    """A message whose strings and sequences have certain lengths."""

    def __init__(self, kinds: Iterable[str], lengths: Lengths) -> None:
        form, at = ["<4s"], 0
        self.counts: list[int] = []
        packed, fields, counts = [], [], []  # places in values + counts, and in what is unpacked
        place, remaining = 1, iter(lengths)
        number = len(tuple(kinds))

        def add(letters: str, size: int, alignment: int) -> None:
            nonlocal at
            padding = -at % alignment
            form.append(f"{padding}x{letters}")
            at += padding + size

        for index, kind in enumerate(kinds):
            if kind in SIZES:
                add(kind, SIZES[kind], SIZES[kind])
            else:
                length = next(remaining)
                packed.append(number + len(self.counts))
                counts.append(place)
                place += 1
                add("I", 4, 4)
                if kind == "s":
                    self.counts.append(length + 1)
                    add(f"{length}sx", length + 1, 1)
                else:
                    self.counts.append(length // SIZES[kind[1]])
                    add(f"{length}s", length, 1)
            packed.append(index)
            fields.append(place)
            place += 1
        whole = struct.Struct("".join(form))
        self.size, self._unpack, self._pack = whole.size, whole.unpack_from, whole.pack
        self._counts = tuple(self.counts)
        self._packed: Pick = itemgetter(*packed)
        self._fields: Pick = itemgetter(*fields)
        self._places: Pick = itemgetter(*counts)

    def encode(self, values: tuple[Any, ...]) -> bytes:
        return self._pack(LITTLE_ENDIAN, *self._packed(values + self._counts))

    def decode(self, data: bytes) -> tuple[Any, ...] | None:
        """Return the values; None when the message has other lengths."""
        if not 0 <= len(data) - self.size < 4:  # there may be padding at the end
            return None
        unpacked = self._unpack(data)
        if unpacked[0] != LITTLE_ENDIAN or self._places(unpacked) != self._counts:
            return None
        return self._fields(unpacked)


class Codec:
    """Encodes and decodes one type of message."""

    def __init__(self, kinds: str) -> None:
        """Take a word a field: a letter of :data:`SIZES`; ``s`` for a string, its value the bytes
        of its UTF-8; ``*`` and a letter for a sequence, its value the bytes of its elements. Of
        the last two there are at least two.
        """
        self._kinds = tuple(kinds.split())
        self._variable: Pick = itemgetter(
            *(i for i, kind in enumerate(self._kinds) if kind not in SIZES))
        self._layouts: dict[Lengths, _Layout] = {}
        self._last: _Layout | None = None

    def encode(self, *values: Any) -> bytes:
        """Return the message; struct.error when a value does not fit its kind."""
        lengths = tuple(map(len, self._variable(values)))
        layout = self._layouts.get(lengths) or self._layout(lengths)
        return layout.encode(values)

    def decode(self, data: bytes) -> tuple[Any, ...] | None:
        """Return the values of a message; None when it is not one in this encoding."""
        values = self._last.decode(data) if self._last is not None else None
        if values is None:
            lengths = self._lengths_in(data)
            if lengths is None:
                return None
            self._last = self._layouts.get(lengths) or self._layout(lengths)
            values = self._last.decode(data)
        return values

    def _layout(self, lengths: Lengths) -> _Layout:
        if len(self._layouts) >= MAX_LAYOUTS:
            self._layouts.clear()
        layout = self._layouts[lengths] = _Layout(self._kinds, lengths)
        return layout

    def _lengths_in(self, data: bytes) -> Lengths | None:
        """Return the lengths of strings and sequences; None when they leave the message."""
        lengths, at = [], 0
        for kind in self._kinds:
            if kind in SIZES:
                at += -at % SIZES[kind] + SIZES[kind]
                continue
            at += -at % 4
            if at + 8 > len(data):
                return None
            count = int.from_bytes(data[at + 4:at + 8], "little")
            length = count - 1 if kind == "s" else count * SIZES[kind[1]]
            if not 0 <= length <= len(data):
                return None
            lengths.append(length)
            at += 4 + length + (kind == "s")
        return tuple(lengths)
