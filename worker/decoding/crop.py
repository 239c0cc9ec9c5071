"""Regions of images: the upright box a rotated region fills, and what its mask leaves of it."""

from __future__ import annotations

import math

from PIL import Image

from ...schemas.errors import ItemError
from ...schemas.items import Region
from .masking import OUTSIDE, fill_outside


def crop(image: Image.Image, region: Region) -> Image.Image:
    """What a region of an upright image shows, as in Label Studio: percent, clockwise about the top-left corner.

    What a rotated region covers beyond the image, and what a mask leaves out, has the colour `OUTSIDE`. A mask of a
    rotated region is not looked at.

    Raises:
        ItemError: it holds no whole pixel.
    """
    left, top = region.x / 100 * image.width, region.y / 100 * image.height
    width, height = region.width / 100 * image.width, region.height / 100 * image.height
    if region.rotation % 360 == 0:
        width, height = min(width, image.width - left), min(height, image.height - top)
    # Label Studio rounds percentages, so a box of exactly one pixel can come out a trifle smaller.
    if width < 0.99 or height < 0.99:
        raise ItemError("the region is smaller than a pixel of the image")
    size = (max(1, _round(left + width) - _round(left)), max(1, _round(top + height) - _round(top)))
    if region.rotation % 360 == 0:
        x, y = min(_round(left), image.width - size[0]), min(_round(top), image.height - size[1])
        part = image.crop((x, y, x + size[0], y + size[1]))
        if region.mask:
            fill_outside(part, region, x, y, image.size)
        return part
    angle = math.radians(region.rotation)
    cos, sin = round(math.cos(angle), 12), round(math.sin(angle), 12)  # a quarter turn is exact
    corners_x = [left + u * cos - v * sin for u in (0, width) for v in (0, height)]
    corners_y = [top + u * sin + v * cos for u in (0, width) for v in (0, height)]
    if max(corners_x) <= 0 or min(corners_x) >= image.width or max(corners_y) <= 0 or min(corners_y) >= image.height:
        raise ItemError("the region lies outside the image")
    # For each pixel (u, v) of the result: the point of the image it shows.
    return image.transform(
        size,
        Image.Transform.AFFINE,
        (cos, -sin, left, sin, cos, top),
        resample=Image.Resampling.BILINEAR,
        fillcolor=OUTSIDE,
    )


def _round(value: float) -> int:
    """Half up, always: Python's round to even would turn a one-pixel box at 1.5 into none."""
    return math.floor(value + 0.5)
