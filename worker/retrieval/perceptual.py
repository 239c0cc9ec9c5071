"""A hash that pictures share which look the same: scaled, re-compressed, brighter. It needs no model."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image

from ..arrays import Pixels

_WIDTH: Final = 9
_HEIGHT: Final = 8


def perceptual_hash(pixels: Pixels) -> int:
    """The picture's difference hash, 64 bits: is each cell of an 8 x 9 grid darker than the one to its right?

    From N. Krawetz, "Kind of Like That", hackerfactor.com, 2013. The picture is made grey (ITU-R BT.601), each cell is
    the mean of what is in it, and rows are read from the top, the first bit being the highest. Pictures with up to
    about 10 of the bits different look the same; those without any structure all have the hash 0.

    Args:
        pixels: `(height, width, 3)` uint8, RGB, 1 x 1 or more.
    """
    grey = Image.fromarray(pixels).convert("L").resize((_WIDTH, _HEIGHT), Image.Resampling.BOX)
    cells = np.asarray(grey)
    return int.from_bytes(np.packbits(cells[:, :-1] < cells[:, 1:]).tobytes(), "big")


def hamming(one: int, other: int) -> int:
    """How many bits of two hashes differ, 0 to 64."""
    return (one ^ other).bit_count()
