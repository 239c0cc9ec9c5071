"""Decoding at speed: JPEGs through libjpeg-turbo's own interface, everything else through Pillow.

Pillow keeps an image in four bytes a pixel and hands rows out as copies; for a large JPEG that costs more than the
decoding. simplejpeg decodes into the array that is needed. Pillow still reads the header: formats, size caps, EXIF
and error messages are the same on both ways, and what simplejpeg refuses Pillow judges.
"""

from __future__ import annotations

import numpy as np
import simplejpeg

from ...schemas.items import Region
from ..arrays import Pixels
from .jpeg import JPEG
from .pillow import decode, open_checked, orientation

_LARGEST_DIVISOR = 8
_SCALED_SIDE = 1024
"""A JPEG is read at 1/2, 1/4 or 1/8 of its size while both sides keep so many pixels: twice what the model looks at.
To 512 alone the error was five times as large."""


def decode_pixels(
    data: bytes, *, max_pixels: int, region: Region | None = None, exact: bool = False, scaled: bool = False
) -> Pixels:
    """The image as a person sees it: `(height, width, 3)` uint8, RGB, upright, cropped to `region` if one is given.

    Args:
        data: an image file.
        max_pixels: see `decode`.
        region: see `decode`.
        exact: Pillow for everything, as transformers' own processor does. JPEGs may else differ from that by 2 of 255.
        scaled: read large JPEGs at a fraction of their size, which the decoder makes of fewer DCT coefficients.
            Resized they differ by 4 of 255.

    Raises:
        ItemError: see `decode`.
    """
    if not exact and region is None and data.startswith(JPEG):
        pixels = _decode_jpeg(data, max_pixels, scaled)
        if pixels is not None:
            return pixels
    return np.array(decode(data, max_pixels=max_pixels, region=region))


def _decode_jpeg(data: bytes, max_pixels: int, scaled: bool) -> Pixels | None:
    """None: leave it to Pillow."""
    with open_checked(data, max_pixels) as header:
        if header.format != "JPEG" or header.mode not in ("RGB", "L"):
            return None
        turn = orientation(header)
        width, height = header.size
    divisor = 1
    while scaled and divisor < _LARGEST_DIVISOR and min(width, height) >= 2 * divisor * _SCALED_SIDE:
        divisor *= 2
    width, height = -(-width // divisor), -(-height // divisor)
    least = {"min_height": height, "min_width": width, "min_factor": divisor} if divisor > 1 else {}
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", **least)
    except (ValueError, MemoryError):  # damaged, or larger than memory: Pillow has the words for it
        return None
    if pixels.shape != (height, width, 3):
        return None
    return np.ascontiguousarray(_upright(pixels, turn))


def _upright(pixels: Pixels, turn: int) -> Pixels:
    """The pixels turned as EXIF orientation 1..8 says (CIPA DC-008, tag 274)."""
    if turn in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
