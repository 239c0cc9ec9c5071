"""Brushes as Label Studio stores them: the RGBA pixels of the whole image in rle-pack's run-length coding.

The format is that of https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack, which
`label_studio_sdk.converter.brush` reads pixel by pixel and with numpy. Here runs are not unpacked: reading takes time
and memory by the length of the code, whatever size it claims. A pixel is painted where its alpha is not 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .painted import Block, MaskError, Work

_PAINTED = re.compile(rb"[^\0]+")


def painted(code: bytes, width: int, height: int, work: Work) -> Iterator[Block]:
    """The painted pixels of a brush.

    Args:
        code: the values of `rle`.
        width: pixels of the image.
        height: pixels of the image.
        work: `len(code)` steps of it are taken.

    Raises:
        MaskError: it is no such code, or of an image of another size.
    """
    work.take(len(code))
    bits = _Bits(code)
    if bits.read(32) != 4 * width * height or bits.read(5) != 7:
        raise MaskError(f"its RLE is no mask of {width} x {height} pixels")
    sizes = [bits.read(4) + 1 for _ in range(4)]
    total = 4 * width * height
    at = 0
    while at < total:
        kind = bits.read(3)
        end = at + 1 + bits.read(sizes[kind & 3])
        if kind & 4:
            end = min(end, total)
            if bits.read(8):
                yield from _run(_pixels(at), _pixels(end), width)
        else:
            if end > total:
                raise MaskError("its RLE has more pixels than the image")
            alphas = bits.read_bytes(end - at)[3 - at % 4 :: 4]
            yield from _stretches(alphas, _pixels(at), width)
        at = end


def _pixels(values: int) -> int:
    """How many pixels' alphas, each pixel's last value, are among the first values: the number of the next pixel."""
    return values // 4


def _run(first: int, end: int, width: int) -> Iterator[Block]:
    """The pixels from `first` to before `end` in reading order: at most three blocks."""
    if first >= end:
        return
    (top, left), (bottom, right) = divmod(first, width), divmod(end, width)
    if top == bottom:
        yield Block(left, top, right, top + 1)
        return
    if left:
        yield Block(left, top, width, top + 1)
        top += 1
    if top < bottom:
        yield Block(0, top, width, bottom)
    if right:
        yield Block(0, bottom, right, bottom + 1)


def _stretches(alphas: bytes, first: int, width: int) -> Iterator[Block]:
    """The painted ones of pixels from `first` on whose alphas are given."""
    for stretch in _PAINTED.finditer(alphas):
        yield from _run(first + stretch.start(), first + stretch.end(), width)


class _Bits:
    """Numbers of any number of bits, the highest bit first.

    Args:
        code: what they are read from.
    """

    def __init__(self, code: bytes) -> None:
        self._code = code
        self._at = 0

    def read(self, count: int) -> int:
        """The next bits as a number.

        Raises:
            MaskError: so many are not left.
        """
        end = self._at + count
        if end > 8 * len(self._code):
            raise MaskError("its RLE ends in the middle")
        value = int.from_bytes(self._code[self._at >> 3 : (end + 7) >> 3]) >> (-end & 7)
        self._at = end
        return value & ((1 << count) - 1)

    def read_bytes(self, count: int) -> bytes:
        """The next bytes, wherever in a byte they begin.

        Raises:
            MaskError: so many are not left.
        """
        return self.read(8 * count).to_bytes(count)
