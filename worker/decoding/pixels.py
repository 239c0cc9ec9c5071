"""Decoding at speed: JPEGs through libjpeg-turbo's own interface, everything else through Pillow.

Pillow keeps an image in four bytes a pixel and hands rows out as copies; for a large JPEG that costs more than the
decoding. simplejpeg decodes into the array that is needed. Pillow still reads the header: formats, size caps, EXIF
and error messages are the same on both ways, and what simplejpeg refuses Pillow judges.
"""

from __future__ import annotations

import numpy as np
import simplejpeg
from PIL import Image

from ...schemas.items import Region
from ..arrays import Pixels
from .crop import crop
from .pillow import open_packed, orientation, unpack

_LARGEST_DIVISOR = 8
_SCALED_SIDE = 1024
"""A JPEG is read at 1/2, 1/4 or 1/8 of its size while both sides keep so many pixels: twice what the model looks at.
To 512 alone the error was five times as large."""

# Bytes a pixel, rounded up. A JPEG of several scans is kept as coefficients, at its full size, until the last has come.
_RGB_BYTES = 3
_COEFFICIENT_BYTES = 6
_RESIZED_BYTES = 8
_IMAGE_BYTES = 11


class EncodedImage:
    """An image file whose header is read and checked, and which can be decoded.

    Args:
        data: an image file.
        max_pixels: see `decode`.
        exact: Pillow for everything, as transformers' own processor does. JPEGs may else differ from that by 2 of 255.
        scaled: read large JPEGs at a fraction of their size, which the decoder makes of fewer DCT coefficients.
            Resized they differ by 4 of 255.

    Raises:
        ItemError: not an image, of another format, too large, or built to keep a decoder busy.
    """

    def __init__(self, data: bytes, *, max_pixels: int, exact: bool = False, scaled: bool = False) -> None:
        self._packed = open_packed(data, max_pixels)
        image = self._packed.image
        self._fast = not exact and image.format == "JPEG" and image.mode in ("RGB", "L")
        self._divisor = 1
        while scaled and self._divisor < _LARGEST_DIVISOR and min(image.size) >= 2 * self._divisor * _SCALED_SIDE:
            self._divisor *= 2

    @property
    def memory(self) -> int:
        """Bytes that `pixels` takes at its peak, and resizing after it. A damaged JPEG may take twice as much."""
        if not self._fast:
            return self._packed.memory
        width, height = self._packed.image.size
        packed = _COEFFICIENT_BYTES * width * height if self._packed.scans > 1 else 0
        unpacked = -(-width // self._divisor) * -(-height // self._divisor)
        return max(packed + _RGB_BYTES * unpacked, _RESIZED_BYTES * unpacked) + len(self._packed.data)

    @property
    def image_memory(self) -> int:
        """Bytes that `image` takes at its peak."""
        return self._packed.memory

    @property
    def kept_memory(self) -> int:
        """Bytes that what `image` gives takes afterwards, and a region of it besides."""
        width, height = self._packed.image.size
        return width * height * _IMAGE_BYTES

    def image(self) -> Image.Image:
        """The image as a person sees it: RGB, upright; exactly what Pillow makes of it. Once only.

        Raises:
            ItemError: damaged, or no memory for it.
        """
        return unpack(self._packed)

    def pixels(self) -> Pixels:
        """The image as a person sees it: `(height, width, 3)` uint8, RGB, upright. Once only.

        Raises:
            ItemError: damaged, or no memory for it.
        """
        pixels = self._jpeg_pixels() if self._fast else None
        return np.array(self.image()) if pixels is None else pixels

    def _jpeg_pixels(self) -> Pixels | None:
        """None: leave it to Pillow."""
        width, height = (-(-side // self._divisor) for side in self._packed.image.size)
        least = {"min_height": height, "min_width": width, "min_factor": self._divisor} if self._divisor > 1 else {}
        try:
            pixels = simplejpeg.decode_jpeg(self._packed.data, "RGB", **least)
        except (ValueError, MemoryError):  # damaged, or larger than memory: Pillow has the words for it
            return None
        if pixels.shape != (height, width, 3):
            return None
        return np.ascontiguousarray(_upright(pixels, orientation(self._packed.image)))


def decode_pixels(
    data: bytes, *, max_pixels: int, region: Region | None = None, exact: bool = False, scaled: bool = False
) -> Pixels:
    """The image as a person sees it: `(height, width, 3)` uint8, RGB, upright, cropped to `region` if one is given.

    Args:
        data: an image file.
        max_pixels: see `decode`.
        region: see `decode`.
        exact: see `EncodedImage`.
        scaled: see `EncodedImage`.

    Raises:
        ItemError: see `decode`.
    """
    encoded = EncodedImage(data, max_pixels=max_pixels, exact=exact, scaled=scaled)
    return encoded.pixels() if region is None else np.array(crop(encoded.image(), region))


def _upright(pixels: Pixels, turn: int) -> Pixels:
    """The pixels turned as EXIF orientation 1..8 says (CIPA DC-008, tag 274)."""
    if turn in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
