"""Bitmasks as Label Studio stores them: a PNG the browser made, painted where its alpha is not 0.

Of a PNG only what browsers write is read: eight bits a channel, with alpha, not interlaced
(https://www.w3.org/TR/png-3/). Filters work on each channel alone, so only the alphas are unfiltered. Of a row that
repeats the one above, as most rows of a mask do, nothing is computed.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise

from .painted import Block, MaskError, Work

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PREFIX = "data:image/png;base64,"
_WITH_ALPHA = {4: 2, 6: 4}
"""Colour type -> channels, the last of them the alpha."""

_LARGEST_SIDE = 65_535
_PIECE = 16 * 2**10
_PIXELS_A_STEP = 16
_PAINTED = re.compile(rb"[^\0]+")


class Png:
    """A PNG whose header has been read.

    Args:
        url: a `data:` URL.
        work: a step for each of its characters is taken before it is decoded.

    Attributes:
        width: pixels.
        height: pixels.

    Raises:
        MaskError: it is none, or not such as browsers write, or too much work.
    """

    def __init__(self, url: str, work: Work) -> None:
        if not url.startswith(_PREFIX):
            raise MaskError("its bitmask is no PNG")
        work.take(len(url))
        try:
            data = base64.b64decode(url[len(_PREFIX) :], validate=True)
        except (binascii.Error, ValueError):
            raise MaskError("its bitmask is no PNG") from None
        pieces: dict[bytes, list[bytes]] = {b"IHDR": [], b"IDAT": []}
        for kind, content in _chunks(data):
            if kind in pieces:
                pieces[kind].append(content)
        header = b"".join(pieces[b"IHDR"])
        if not data.startswith(_SIGNATURE) or len(header) != 13:
            raise MaskError("its bitmask is no PNG")
        self.width, self.height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
        if depth != 8 or colour not in _WITH_ALPHA or interlaced:
            raise MaskError("its bitmask is not an RGBA PNG as browsers write them")
        if not 0 < self.width <= _LARGEST_SIDE or not 0 < self.height <= _LARGEST_SIDE:
            raise MaskError(f"its bitmask has {self.width} x {self.height} pixels")
        self._channels = _WITH_ALPHA[colour]
        self._packed = b"".join(pieces[b"IDAT"])

    def painted(self, work: Work) -> Iterator[Block]:
        """The painted pixels.

        Args:
            work: a step for every sixteenth pixel is taken, and one for each that is computed by itself.

        Raises:
            MaskError: damaged, or too much work.
        """
        work.take(len(self._packed) + self.width * self.height // _PIXELS_A_STEP)
        top, last = 0, bytes(self.width)
        row = 0
        for row, alphas in enumerate(self._alphas(work)):
            if alphas != last:
                yield from _blocks(last, top, row)
                top, last = row, alphas
        yield from _blocks(last, top, row + 1)

    def _alphas(self, work: Work) -> Iterator[bytes]:
        """The alphas of each row."""
        above = bytes(self.width)
        unfilter = _Unfilter(self.width)
        for line in self._lines():
            filtered = line[self._channels :: self._channels]
            kind = line[0]
            if any(filtered) or kind in (3, 4):
                if kind in (3, 4) and (any(filtered) or any(above)):
                    work.take(self.width)
                above = unfilter(kind, filtered, above)
            elif kind != 2:  # nothing is added: to nothing, or in filter 2 to what is above
                above = filtered
            yield above

    def _lines(self) -> Iterator[bytes]:
        """The filtered rows, each behind its filter's number."""
        size = 1 + self._channels * self.width
        unpacker = zlib.decompressobj()
        held = bytearray()
        left = self.height
        try:
            for start in range(0, len(self._packed), _PIECE):
                piece = self._packed[start : start + _PIECE]
                while piece and left:
                    held += unpacker.decompress(piece, max(size, 2**18))
                    piece = unpacker.unconsumed_tail
                    whole = min(len(held) // size, left)
                    for number in range(whole):
                        yield bytes(held[number * size : (number + 1) * size])
                    del held[: whole * size]
                    left -= whole
        except zlib.error:
            raise MaskError("its bitmask is damaged") from None
        if left:
            raise MaskError("its bitmask ends in the middle")


class _Unfilter:
    """Undoes PNG's filters on one channel, whose pixels are neighbours.

    Rows are added as one long number: eight bits a pixel, kept apart by setting each byte's highest bit aside.

    Args:
        width: pixels of a row.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._low = int.from_bytes(b"\x7f" * width)
        self._high = int.from_bytes(b"\x80" * width)

    def __call__(self, kind: int, filtered: bytes, above: bytes) -> bytes:
        """The pixels of a row.

        Raises:
            MaskError: there is no such filter.
        """
        if kind == 0:
            return filtered
        if kind == 1:
            return self._sums(filtered)
        if kind == 2:
            return self._sum(int.from_bytes(filtered), int.from_bytes(above)).to_bytes(self._width)
        if kind == 3:
            return _averaged(filtered, above)
        if kind == 4:
            return _paeth(filtered, above)
        raise MaskError("its bitmask is damaged")

    def _sum(self, one: int, other: int) -> int:
        return ((one & self._low) + (other & self._low)) ^ ((one ^ other) & self._high)

    def _sums(self, filtered: bytes) -> bytes:
        """Of each pixel the sum of itself and all before it."""
        row = int.from_bytes(filtered)
        step = 1
        while step < self._width:
            row = self._sum(row, row >> (8 * step))
            step *= 2
        return row.to_bytes(self._width)


def _averaged(filtered: bytes, above: bytes) -> bytes:
    row = bytearray()
    left = 0
    for value, up in zip(filtered, above, strict=True):
        left = (value + (left + up) // 2) & 255
        row.append(left)
    return bytes(row)


def _paeth(filtered: bytes, above: bytes) -> bytes:
    row = bytearray()
    left = 0
    for value, (corner, up) in zip(filtered, pairwise(b"\0" + above), strict=True):
        by_left, by_up, by_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
        near = min((by_left, 0, left), (by_up, 1, up), (by_corner, 2, corner))[2]
        left = (value + near) & 255
        row.append(left)
    return bytes(row)


def _blocks(alphas: bytes, top: int, bottom: int) -> Iterator[Block]:
    """The painted pixels of rows that are alike."""
    if top < bottom:
        for stretch in _PAINTED.finditer(alphas):
            yield Block(stretch.start(), top, stretch.end(), bottom)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """A PNG's chunks: kind, content. Checksums are not looked at."""
    at = len(_SIGNATURE)
    while at + 8 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += 12 + size
