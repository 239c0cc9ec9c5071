"""Resizing is transformers' own to the bit where that is asked for; the fast one gives the same within 2 of 255."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import transformers
from PIL import Image, ImageDraw

from prelabel.worker.arrays import Pixels
from prelabel.worker.model.resize import Crop, Squash

SIZE = (64, 64)


def drawing(width: int, height: int) -> Pixels:
    """Thin lines on white: sharp edges, at which a bicubic filter overshoots."""
    rng = np.random.default_rng(width * 10_000 + height)
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    for _ in range(40):
        ends = [(int(rng.integers(width)), int(rng.integers(height))) for _ in range(2)]
        pen.line(ends, fill=tuple(int(value) for value in rng.integers(0, 256, 3)))
    return np.array(image)


def off(image: Pixels, resample: Image.Resampling) -> int:
    fast, exact = (Squash(SIZE, resample, exact=exact)(image).astype(int) for exact in (False, True))
    assert fast.shape == exact.shape == (*SIZE, 3)
    return int(np.abs(fast - exact).max())


@pytest.mark.parametrize("resample", [Image.Resampling.BICUBIC, Image.Resampling.BILINEAR])
@pytest.mark.parametrize(
    ("width", "height"),
    [
        (200, 400),
        (400, 200),
        (100, 192),
        (100, 136),
        (100, 137),
        (40, 300),
        (300, 40),
        (1080, 1920),
        (64, 200),
        (7, 999),
    ],
)
def test_sharp_edges_of_any_proportions_stay_within_2_of_255(width, height, resample) -> None:
    assert off(drawing(width, height), resample) <= 2


@pytest.mark.parametrize(("width", "height"), [(64, 64), (32, 128), (128, 32), (63, 65), (40, 40), (1, 1), (1, 4096)])
def test_a_picture_of_no_more_pixels_than_the_models_input_is_resized_exactly(width, height) -> None:
    assert off(drawing(width, height), Image.Resampling.BICUBIC) == 0


EDGE = 32
CROPPED = [
    *[(1, 1), (1, 2), (2, 1), (7, 7), (31, 33), (33, 31), (32, 32), (32, 33), (33, 32), (64, 64), (100, 101)],
    *[(101, 100), (123, 457), (457, 123), (640, 480), (480, 640), (301, 777), (1601, 1199), (33, 500), (500, 33)],
    *[(63, 1000), (1000, 63), (100, 1600), (1600, 100), (5, 79), (79, 5)],
]
"""Width and height; the longest are 16 times as long as wide, nearly."""

LONGER = [(33, 2000), (2000, 33), (3, 2000), (2000, 3), (10, 999), (999, 10), (1, 3000), (3000, 1), (70, 1500)]


def theirs(image: Pixels, resample: Image.Resampling, shortest: int, cut: int) -> Pixels:
    """transformers' own processor, before it rescales."""
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": shortest},
        crop_size={"height": cut, "width": cut},
        resample=resample,
        do_rescale=False,
        do_normalize=False,
    )
    (planes,) = processor(Image.fromarray(image), return_tensors="np")["pixel_values"]
    return planes.transpose(1, 2, 0)


@pytest.mark.parametrize("resample", [Image.Resampling.BICUBIC, Image.Resampling.BILINEAR])
@pytest.mark.parametrize(("shortest", "cut"), [(EDGE, EDGE), (37, 32), (48, 31)])
@pytest.mark.parametrize(("width", "height"), CROPPED)
def test_a_crop_is_transformers_own_to_the_bit_and_nearly_so_where_it_is_fast(
    width, height, shortest, cut, resample
) -> None:
    image = drawing(width, height)
    expected = theirs(image, resample, shortest, cut)
    exact, fast = (Crop(shortest, (cut, cut), resample, exact=exact)(image) for exact in (True, False))
    assert exact.shape == (cut, cut, 3)
    assert exact.dtype == np.uint8
    assert np.array_equal(exact, expected)
    assert np.abs(fast.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("resample", [Image.Resampling.BICUBIC, Image.Resampling.BILINEAR])
@pytest.mark.parametrize(("width", "height"), LONGER)
def test_of_a_very_long_image_only_what_stays_is_scaled_and_that_is_within_1_of_255(width, height, resample) -> None:
    image = drawing(width, height)
    expected = theirs(image, resample, EDGE, EDGE)
    for exact in (True, False):
        cropped = Crop(EDGE, (EDGE, EDGE), resample, exact=exact)(image)
        assert np.abs(cropped.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(1, 10_000), (10_000, 1)])
def test_a_line_of_pixels_takes_no_memory_for_what_is_cut_off(height, width) -> None:
    """Scaled whole it would have 1.5 GB."""
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cropped = Crop(224, (224, 224), Image.Resampling.BICUBIC, exact=True)(image)
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert cropped.shape == (224, 224, 3)
    assert kib < 2**17
