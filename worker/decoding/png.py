"""A PNG without what is not pixels: text, profiles and whatever else may be broken and nobody looks at."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

PNG = b"\x89PNG\r\n\x1a\n"
"""How every PNG begins."""

_FRAME_BYTES = 12
"""A chunk's length, name and checksum, four bytes each."""

_WANTED = (b"tRNS", b"eXIf")
"""Chunks that a decoder may pass over, but that change what a person sees: transparency and orientation."""


class _Chunk(NamedTuple):
    name: bytes
    whole: bytes

    @property
    def is_critical(self) -> bool:
        """Whether there is no picture without it (PNG specification, 5.4: the first letter is a capital)."""
        return not self.name[0] & 0x20

    @property
    def is_sound(self) -> bool:
        """Whether its checksum is right."""
        return zlib.crc32(self.whole[4:-4]) == int.from_bytes(self.whole[-4:], "big")


def pixels_only(data: bytes) -> bytes:
    """A PNG reduced to its picture, its transparency and its orientation, as far as the last two are sound.

    Browsers pass over the other chunks when something is wrong with them: a checksum, or more text than they read.
    """
    kept = [chunk.whole for chunk in _chunks(data) if chunk.is_critical or (chunk.name in _WANTED and chunk.is_sound)]
    return PNG + b"".join(kept)


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """The chunks behind the signature, the last one as far as it goes."""
    place = len(PNG)
    while place + _FRAME_BYTES <= len(data):
        end = place + _FRAME_BYTES + int.from_bytes(data[place : place + 4], "big")
        yield _Chunk(data[place + 4 : place + 8], data[place:end])
        place = end
