"""Masks in pixels: what a region's mask leaves out is filled."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from ...schemas.errors import ItemError
from ...schemas.items import Region
from ...schemas.masks import BitmapMask, EllipseMask, PolygonMask

OUTSIDE = (127, 127, 127)
"""Colour of what is no part of a region: the model's zero after normalisation."""

_CORNERS = 180
"""Corners of an ellipse; of one across 4,000 pixels none is off by a whole one."""


def fill_outside(part: Image.Image, region: Region, left: int, top: int, size: tuple[int, int]) -> None:
    """Fill what the region's mask leaves out, in place.

    Args:
        part: what was cut out of the image, upright.
        region: its region, which has a mask.
        left: column of the image where `part` begins.
        top: row of the image where it begins.
        size: width and height of the image.

    Raises:
        ItemError: the mask leaves no pixel.
    """
    mask = region.mask
    if isinstance(mask, BitmapMask):
        outside = _stretched(mask, part.size)
    elif isinstance(mask, PolygonMask):
        outside = _drawn([(x / 100 * size[0] - left, y / 100 * size[1] - top) for x, y in mask.points], part.size)
    elif isinstance(mask, EllipseMask):
        outside = _drawn([(x - left, y - top) for x, y in _around(mask, size)], part.size)
    else:
        return
    if outside.getextrema() == (255, 255):
        raise ItemError("the region's mask covers no pixel of the image")
    part.paste(OUTSIDE, mask=outside)


def _drawn(corners: Sequence[tuple[float, float]], size: tuple[int, int]) -> Image.Image:
    """`L`: 0 in the polygon, 255 outside."""
    outside = Image.new("L", size, 255)
    # Pillow takes a pixel by its centre at whole numbers, the image's coordinates have it at a half.
    ImageDraw.Draw(outside).polygon([(x - 0.5, y - 0.5) for x, y in corners], fill=0)
    return outside


def _around(mask: EllipseMask, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Points on the ellipse, in pixels of the image."""
    x, y = mask.x / 100 * size[0], mask.y / 100 * size[1]
    across, down = mask.radius_x / 100 * size[0], mask.radius_y / 100 * size[1]
    turn = math.radians(mask.rotation)
    points = []
    for number in range(_CORNERS):
        angle = 2 * math.pi * number / _CORNERS
        u, v = across * math.cos(angle), down * math.sin(angle)
        points.append((x + u * math.cos(turn) - v * math.sin(turn), y + u * math.sin(turn) + v * math.cos(turn)))
    return points


def _stretched(mask: BitmapMask, size: tuple[int, int]) -> Image.Image:
    """`L`: 0 in cells that are set, 255 elsewhere."""
    inside = Image.frombytes("1", (mask.columns, mask.rows), mask.unpacked)
    return inside.convert("L").resize(size, Image.Resampling.NEAREST).point(lambda value: 255 - value)
