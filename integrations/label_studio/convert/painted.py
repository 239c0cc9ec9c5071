"""What is painted in a mask, whatever it is stored as: the box around it, and a coarse picture of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ....schemas.masks import MASK_CELLS, BitmapMask

MASK_WORK = 4 * 2**20
"""Steps that reading all masks of a task may take, some seconds: bytes of a brush's RLE, or characters of a PNG and
those of its pixels that take one each."""


class MaskError(Exception):
    """A mask cannot be read; the message says why."""


class Work:
    """Steps that may still be taken.

    Args:
        left: see `MASK_WORK`.
    """

    def __init__(self, left: int = MASK_WORK) -> None:
        self._left = left

    def take(self, steps: int) -> None:
        """Take some.

        Raises:
            MaskError: so many are not left.
        """
        if steps > self._left:
            raise MaskError("the masks of the task are too large to be read")
        self._left -= steps


class Block(NamedTuple):
    """Painted pixels: rows `top` to before `bottom`, and of each the columns `left` to before `right`."""

    left: int
    top: int
    right: int
    bottom: int


Blocks = Callable[[], Iterator[Block]]
"""Reads a mask from its beginning. Raises `MaskError`."""


def bounds(blocks: Iterable[Block]) -> Block | None:
    """The box around all of them; None when there are none."""
    box: Block | None = None
    for one in blocks:
        box = one if box is None else Block(*map(min, box[:2], one[:2]), *map(max, box[2:], one[2:]))
    return box


def bitmap(blocks: Iterable[Block], box: Block) -> BitmapMask:
    """A picture of them in the box around them; a cell is set where any pixel in it is painted."""
    columns, column_of = _cells(box.right - box.left)
    rows, row_of = _cells(box.bottom - box.top)
    lines = [0] * rows
    for one in blocks:
        first, end = column_of(one.left - box.left), column_of(one.right - 1 - box.left) + 1
        line = ((1 << (end - first)) - 1) << (columns - end)
        for row in range(row_of(one.top - box.top), row_of(one.bottom - 1 - box.top) + 1):
            lines[row] |= line
    across = -(-columns // 8)
    return BitmapMask.of(columns, b"".join((line << (8 * across - columns)).to_bytes(across) for line in lines))


def _cells(pixels: int) -> tuple[int, Callable[[int], int]]:
    """How many cells there are along a side, and the cell that a pixel's middle lies in."""
    count = min(pixels, MASK_CELLS)
    return count, lambda pixel: (2 * pixel + 1) * count // (2 * pixels)
