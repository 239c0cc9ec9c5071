"""Regions of an image: cut before anything else is done with it."""

import numpy as np
import pytest
from PIL import Image

from prelabel.schemas import Region
from prelabel.schemas.errors import ConfigError, ItemError
from prelabel.worker.decoding.crop import OUTSIDE
from tests.unit.worker.decoding.files import BLUE, GREEN, RED, WHITE, corners, encoded, opened, quarters

# --- regions ----------------------------------------------------------------------------------------------------------


def region(x, y, width, height, rotation=0.0):
    return Region(x=x, y=y, width=width, height=height, rotation=rotation)


def test_a_region_is_percent_of_the_image():
    image = opened(encoded(quarters()), region(50, 0, 50, 50))
    assert image.size == (20, 10)
    assert corners(image) == [GREEN] * 4


def test_the_whole_image_as_a_region_is_the_image():
    assert opened(encoded(quarters()), region(0, 0, 100, 100)).tobytes() == quarters().tobytes()


def test_a_region_refers_to_the_upright_image():
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = encoded(quarters().transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    assert corners(opened(stored, region(50, 0, 50, 50))) == [GREEN] * 4


@pytest.mark.parametrize("turn", [0, 360])
def test_a_region_that_sticks_out_is_cut_off(turn):
    image = opened(encoded(quarters()), region(75, 50, 50, 100, turn))
    assert image.size == (10, 10)
    assert corners(image) == [WHITE] * 4


def test_a_quarter_turn_is_clockwise_about_the_top_left_corner():
    # The box starts at the image's top-right corner and its width runs down the right edge.
    image = opened(encoded(quarters(40, 40)), region(100, 0, 100, 50, 90))
    assert image.size == (40, 20)
    assert corners(image) == [GREEN, WHITE, GREEN, WHITE]


def test_half_a_turn_shows_the_box_upside_down():
    image = opened(encoded(quarters()), region(100, 100, 100, 100, 180))
    assert image.tobytes() == quarters().transpose(Image.Transpose.ROTATE_180).tobytes()


def test_a_slanted_box_shows_what_lies_in_it():
    canvas = Image.new("RGB", (200, 200), WHITE)
    side = 60
    cos = sin = 2**-0.5
    for u in np.arange(0, side, 0.4):
        for v in np.arange(0, side / 2, 0.4):
            canvas.putpixel((int(100 + u * cos - v * sin), int(40 + u * sin + v * cos)), RED if u < side / 2 else BLUE)
    image = opened(encoded(canvas), region(50, 20, 30, 15, 45))
    assert image.size == (60, 30)
    assert corners(image) == [RED, BLUE, RED, BLUE]


def test_a_rotated_box_is_grey_beyond_the_image():
    image = opened(encoded(quarters(40, 40)), region(0, 0, 50, 50, 45))
    assert image.getpixel((0, 19)) == OUTSIDE
    assert image.getpixel((10, 1)) == RED


@pytest.mark.parametrize(
    "box",
    [region(0, 0, 1, 1), region(10, 10, 100, 0.5, 30), region(100, 0, 50, 50), region(0, 99.99, 50, 50)],
    ids=["tiny", "thin", "right of the image", "below the image"],
)
def test_a_region_without_a_whole_pixel_is_refused(box):
    with pytest.raises(ItemError, match="smaller than a pixel"):
        opened(encoded(quarters()), box)


def test_a_rotated_region_outside_the_image_is_refused():
    with pytest.raises(ItemError, match="outside the image"):
        opened(encoded(quarters()), region(100, 0, 50, 50, -45))


@pytest.mark.parametrize("rotation", [float("nan"), float("inf")])
def test_a_rotation_that_is_no_number_is_refused(rotation):
    with pytest.raises(ConfigError, match="finite"):
        region(0, 0, 50, 50, rotation)


@pytest.mark.parametrize("x", range(0, 100, 7))
def test_a_region_of_one_pixel_is_one_pixel_wherever_it_starts(x):
    image = opened(encoded(Image.new("L", (10, 10))), region(min(x, 90), min(x, 90), 10, 10))
    assert image.size == (1, 1)
