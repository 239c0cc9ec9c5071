"""One region as Label Studio stores it, as the box that is cut out and the mask of what counts in it.

Label Studio's editor stores x, y, width, height and radii as percent of the image, and degrees about the top-left
corner of a rectangle and the centre of an ellipse; a picture turned in the editor changes none of them
(`libs/editor/src/regions` of https://github.com/HumanSignal/label-studio).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ....schemas import Region
from ....schemas.masks import MASK_POINTS, EllipseMask, Mask, PolygonMask
from ..label_config.region_tags import Shape
from .painted import Blocks, MaskError, Work, bitmap, bounds
from .png import Png
from .rle import painted

SMALLEST = 0.1
"""Least width and height of what is cut out around a key point or a line, of the image's shorter side."""

GEOMETRY: Mapping[Shape, tuple[str, ...]] = {
    "rectangle": ("x", "y", "width", "height", "rotation"),
    "ellipse": ("x", "y", "radiusX", "radiusY", "rotation"),
    "polygon": ("points", "closed"),
    "keypoint": ("x", "y", "width"),
    "vector": ("vertices", "closed"),
    "brush": ("format", "rle"),
    "bitmask": ("format", "imageDataURL"),
}
"""What a result's value says of a shape, as far as Label Studio shows it."""

_NO_AREA = "it has no area in the image"
_MOST_POINTS = 20_000


class ShapeError(Exception):
    """A region cannot be cut out; the message says why."""


class Cut(NamedTuple):
    """What is cut out.

    Attributes:
        region: the box.
        mask: what counts in it; None: all of it, or what was not asked for.
    """

    region: Region
    mask: Mask | None = None


class _Pixels(NamedTuple):
    """What is painted on an image of this many pixels."""

    blocks: Blocks
    width: int
    height: int


def cut_of(shape: Shape, entry: Mapping[str, Any], *, masked: bool, work: Work) -> Cut:
    """The box, and where it is asked for the mask, of a region.

    Args:
        shape: what it is.
        entry: its result; `value` is a mapping.
        masked: whether the mask of painted pixels is wanted, which is read once more for it.
        work: what may be done for the masks of its task.

    Raises:
        ShapeError: it cannot be cut out.
    """
    try:
        if shape in _PAINTED:
            return _of_blocks(*_PAINTED[shape](entry, work), masked=masked)
        return _DRAWN[shape](entry)
    except MaskError as error:
        raise ShapeError(str(error)) from None


def _rectangle(entry: Mapping[str, Any]) -> Cut:
    """Dragged beyond the edge, it is cut off there."""
    x, y, width, height = _numbers(entry["value"], "x", "y", "width", "height")
    (rotation,) = _numbers(entry["value"], "rotation", default=0.0)
    if rotation % 360 == 0:
        return Cut(_box(x, y, x + width, y + height, rotation=rotation))
    if not (0.0 <= x <= 100.0 and 0.0 <= y <= 100.0):
        raise ShapeError("it is rotated, and its first corner lies outside the image")
    if not 0.0 < width <= 100.0 or not 0.0 < height <= 100.0:
        raise ShapeError(_NO_AREA)
    return Cut(Region(x=x, y=y, width=width, height=height, rotation=rotation))


def _ellipse(entry: Mapping[str, Any]) -> Cut:
    x, y, across, down = _numbers(entry["value"], "x", "y", "radiusX", "radiusY")
    (rotation,) = _numbers(entry["value"], "rotation", default=0.0)
    if across <= 0.0 or down <= 0.0:
        raise ShapeError(_NO_AREA)
    half_width, half_height = across, down
    if rotation % 180:
        # Turned in pixels, not in percent. The box of a turned ellipse: half its width is |(a cos t, b sin t)|.
        ratio = _width_by_height(entry)
        if ratio is None:
            raise ShapeError("it is rotated, and its original_width and original_height are not there")
        cos, sin = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
        half_width = math.hypot(across * cos, down / ratio * sin)
        half_height = math.hypot(across * ratio * sin, down * cos)
    mask = EllipseMask(kind="ellipse", x=x, y=y, radius_x=across, radius_y=down, rotation=rotation)
    return Cut(_box(x - half_width, y - half_height, x + half_width, y + half_height), mask)


def _polygon(entry: Mapping[str, Any]) -> Cut:
    points = [_point(point) for point in _list(entry["value"], "points")]
    if len(points) < 3:
        raise ShapeError("it has fewer than three points")
    few = points[:: -(-len(points) // MASK_POINTS)]
    mask = PolygonMask(kind="polygon", points=tuple((round(x, 3), round(y, 3)) for x, y in few))
    return Cut(_around(points), mask)


def _keypoint(entry: Mapping[str, Any]) -> Cut:
    """A square: `width` is half of its side, in percent of the image's width, as the editor has it."""
    x, y = _numbers(entry["value"], "x", "y")
    (half,) = _numbers(entry["value"], "width", default=0.0)
    if not (0.0 <= x <= 100.0 and 0.0 <= y <= 100.0):
        raise ShapeError("it lies outside the image")
    ratio = _width_by_height(entry) or 1.0
    across = max(half, 50 * SMALLEST / max(ratio, 1.0))
    down = across * ratio
    return Cut(_box(x - across, y - down, x + across, y + down))


def _vector(entry: Mapping[str, Any]) -> Cut:
    """What lies around a line's points; of a curve, around those that bend it, which it never leaves."""
    points = []
    for vertex in _list(entry["value"], "vertices"):
        bends = [vertex.get(name) for name in ("controlPoint1", "controlPoint2")] if isinstance(vertex, Mapping) else ()
        points += [_point(point) for point in (vertex, *filter(None, bends))]
    if not points:
        raise ShapeError("it has no points")
    return Cut(_around(points, least=SMALLEST, ratio=_width_by_height(entry) or 1.0))


def _brush(entry: Mapping[str, Any], work: Work) -> _Pixels:
    value = entry["value"]
    if not value.get("rle"):
        raise ShapeError("Label Studio has no pixels of it until the annotation is submitted")
    size = _size(entry)
    if size is None:
        raise ShapeError("its original_width and original_height are not there")
    try:
        code = bytes(value["rle"]) if isinstance(value["rle"], list) else b""
    except (TypeError, ValueError):
        code = b""
    return _Pixels(partial(painted, code, *size, work), *size)


def _bitmask(entry: Mapping[str, Any], work: Work) -> _Pixels:
    url = entry["value"].get("imageDataURL")
    png = Png(url if isinstance(url, str) else "", work)
    return _Pixels(partial(png.painted, work), png.width, png.height)


def _of_blocks(blocks: Blocks, width: int, height: int, *, masked: bool) -> Cut:
    box = bounds(blocks())
    if box is None:
        raise ShapeError("nothing is painted")
    region = _box(box.left / width * 100, box.top / height * 100, box.right / width * 100, box.bottom / height * 100)
    return Cut(region, bitmap(blocks(), box) if masked else None)


_DRAWN: Mapping[Shape, Callable[[Mapping[str, Any]], Cut]] = {
    "rectangle": _rectangle,
    "ellipse": _ellipse,
    "polygon": _polygon,
    "keypoint": _keypoint,
    "vector": _vector,
}
_PAINTED: Mapping[Shape, Callable[[Mapping[str, Any], Work], _Pixels]] = {"brush": _brush, "bitmask": _bitmask}


def _box(left: float, top: float, right: float, bottom: float, *, rotation: float = 0.0) -> Region:
    """What of a box lies in the image.

    Raises:
        ShapeError: nothing.
    """
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, 100.0), min(bottom, 100.0)
    if left >= right or top >= bottom:
        raise ShapeError(_NO_AREA)
    return Region(x=left, y=top, width=right - left, height=bottom - top, rotation=rotation)


def _around(points: Sequence[tuple[float, float]], *, least: float = 0.0, ratio: float = 1.0) -> Region:
    """The box around points.

    Args:
        points: percent.
        least: its least width and height, of the image's shorter side.
        ratio: the image's width by its height.

    Raises:
        ShapeError: it has no area in the image.
    """
    sides = []
    for axis, smallest in enumerate((100 * least / max(ratio, 1.0), 100 * least * min(ratio, 1.0))):
        low, high = min(point[axis] for point in points), max(point[axis] for point in points)
        missing = max(smallest - (high - low), 0.0) / 2
        sides.append((low - missing, high + missing))
    (left, right), (top, bottom) = sides
    return _box(left, top, right, bottom)


def _numbers(value: Mapping[str, Any], *names: str, default: float | None = None) -> Iterator[float]:
    """The numbers of these names.

    Raises:
        ShapeError: one is missing, or no finite number.
    """
    for name in names:
        number = value.get(name, default)
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 1e9:
            raise ShapeError(f"its {name} is no number")
        yield float(number)


def _list(value: Mapping[str, Any], name: str) -> Sequence[Any]:
    points = value.get(name)
    if not isinstance(points, list):
        raise ShapeError(f"its {name} are no list")
    if len(points) > _MOST_POINTS:
        raise ShapeError(f"it has {len(points):,} points, at most {_MOST_POINTS:,} are read")
    return points


def _point(point: object) -> tuple[float, float]:
    """A point, stored as `[x, y]` or as `{"x": …, "y": …}`."""
    if isinstance(point, list) and len(point) == 2:
        point = {"x": point[0], "y": point[1]}
    if not isinstance(point, Mapping):
        raise ShapeError("one of its points is none")
    x, y = _numbers(point, "x", "y")
    return x, y


def _size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """The image's width and height in pixels, as the editor saw them; None where it does not say."""
    width, height = entry.get("original_width"), entry.get("original_height")
    if isinstance(width, int) and isinstance(height, int) and 0 < width < 2**31 and 0 < height < 2**31:
        return width, height
    return None


def _width_by_height(entry: Mapping[str, Any]) -> float | None:
    size = _size(entry)
    return size[0] / size[1] if size else None
