"""Masks of regions: what they leave out is grey, what they hold is the image's own pixels."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from prelabel.schemas import ConfigError, ImageRef, ItemError, Region
from prelabel.schemas.masks import MASK_POINTS, BitmapMask, EllipseMask, Mask, PolygonMask
from prelabel.worker.decoding.crop import OUTSIDE, crop
from prelabel.worker.vectors.keys import ImageKeys
from tests.unit.worker.decoding.files import RED

SIZE = (200, 100)


def inside(mask: Mask, x: float = 0, y: float = 0, width: float = 100, height: float = 100) -> np.ndarray:
    """`(height, width)` bool: which pixels of a red image's part are left."""
    image = Image.new("RGB", SIZE, RED)
    part = np.array(crop(image, Region(x=x, y=y, width=width, height=height, mask=mask)))
    assert image.getextrema() == Image.new("RGB", SIZE, RED).getextrema(), "the image itself is changed"
    left = (part == RED).all(axis=2)
    assert ((part == OUTSIDE).all(axis=2) | left).all()
    return left


def polygon(*points: tuple[float, float]) -> PolygonMask:
    return PolygonMask(kind="polygon", points=points)


def test_a_polygon_leaves_what_lies_in_it() -> None:
    left = inside(polygon((0, 0), (50, 0), (0, 50)), width=50, height=50)
    rows, columns = np.mgrid[0:50, 0:100]
    exact = (columns + 0.5) / 100 + (rows + 0.5) / 50 < 1
    assert np.count_nonzero(left != exact) < 0.02 * left.size
    assert left[1, 1]
    assert not left[-2, -2]


def test_a_polygon_is_placed_by_the_image_not_by_its_box() -> None:
    square = ((25.0, 50.0), (50.0, 50.0), (50.0, 100.0), (25.0, 100.0))
    left = inside(polygon(*square), x=20, y=40, width=40, height=60)
    found_rows, found_columns = np.nonzero(left)
    found = (found_columns.min(), found_columns.max(), found_rows.min(), found_rows.max())
    assert np.abs(np.subtract(found, (10, 59, 10, 59))).max() <= 1, "Pillow draws the outline itself, too"


@pytest.mark.parametrize("rotation", [0.0, 30.0, 90.0, 215.0])
def test_an_ellipse_leaves_what_lies_in_it_turned_about_its_centre(rotation: float) -> None:
    left = inside(EllipseMask(kind="ellipse", x=50, y=50, radius_x=20, radius_y=15, rotation=rotation))
    rows, columns = np.mgrid[0:100, 0:200]
    turn = np.deg2rad(rotation)
    x, y = columns + 0.5 - 100, rows + 0.5 - 50
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    exact = (u / 40) ** 2 + (v / 15) ** 2 <= 1
    assert np.count_nonzero(left != exact) < 0.06 * np.count_nonzero(exact)


def test_a_bitmap_is_spread_over_the_box() -> None:
    left = inside(BitmapMask.of(2, bytes([0b10000000, 0b01000000])), x=10, y=10, width=50, height=50)
    assert left.shape == (50, 100)
    assert left[:25, :50].all()
    assert left[25:, 50:].all()
    assert np.count_nonzero(left) == left.size // 2


@pytest.mark.parametrize(
    "mask",
    [
        polygon((90, 90), (99, 90), (99, 99)),
        EllipseMask(kind="ellipse", x=90, y=90, radius_x=3, radius_y=3),
        BitmapMask.of(3, b"\x00\x00"),
    ],
    ids=lambda mask: mask.kind,
)
def test_a_mask_that_leaves_nothing_is_refused(mask: Mask) -> None:
    with pytest.raises(ItemError, match="mask covers no pixel"):
        inside(mask, width=50, height=50)


MASKS = st.one_of(
    st.builds(
        EllipseMask,
        kind=st.just("ellipse"),
        x=st.floats(-1e9, 1e9),
        y=st.floats(0, 100),
        radius_x=st.floats(1e-9, 1e9),
        radius_y=st.floats(0.1, 200),
        rotation=st.floats(-1e6, 1e6),
    ),
    st.builds(
        PolygonMask,
        kind=st.just("polygon"),
        points=st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-200, 200)), min_size=3, max_size=9).map(tuple),
    ),
    st.builds(BitmapMask.of, st.just(11), st.binary(min_size=1, max_size=9).map(lambda rows: rows * 2)),
)


@given(MASKS)
def test_whatever_a_mask_says_it_leaves_pixels_of_the_image_or_is_refused(mask: Mask) -> None:
    region = Region(x=0, y=0, width=100, height=100, mask=mask)
    assert Region.model_validate_json(region.model_dump_json(exclude_defaults=True)) == region
    try:
        left = inside(mask)
    except ItemError:
        return
    assert left.any()


@pytest.mark.parametrize(
    "mask",
    [
        {"kind": "polygon", "points": [[0, 0], [1, 1]]},
        {"kind": "polygon", "points": [[0, 0]] * (MASK_POINTS + 1)},
        {"kind": "polygon", "points": [[0, 0], [1, 1], [float("nan"), 0]]},
        {"kind": "ellipse", "x": 0, "y": 0, "radius_x": 0, "radius_y": 1},
        {"kind": "bitmap", "columns": 8, "rows": 2, "bits": BitmapMask.of(8, b"\xff").bits},
        {"kind": "bitmap", "columns": 8, "rows": 1, "bits": base64.b64encode(zlib.compress(bytes(2**21))).decode()},
        {"kind": "bitmap", "columns": 8, "rows": 1, "bits": "AAAA"},
        {"kind": "bitmap", "columns": 8, "rows": 1, "bits": "no base64!"},
        {"kind": "star"},
    ],
)
def test_a_mask_that_cannot_be_is_refused(mask: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Region(x=0, y=0, width=100, height=100, mask=mask)


def test_a_region_without_a_mask_keeps_the_key_of_its_stored_vector() -> None:
    plain = Region(x=1, y=2, width=3, height=4)
    assert plain.model_dump_json(exclude_none=True) == '{"x":1.0,"y":2.0,"width":3.0,"height":4.0,"rotation":0.0}'
    masked = plain.model_copy(update={"mask": polygon((0, 0), (1, 0), (0, 1))})
    keys = [ImageKeys("space", ImageRef(uri="a.jpg", region=region)).content(b"file") for region in (plain, masked)]
    assert keys[0].hex() == "5f5a30e55ceff92214f82c7cb566ba3f"
    assert keys[0] != keys[1]
