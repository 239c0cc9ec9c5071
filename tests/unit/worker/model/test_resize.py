"""The fast resize gives what Pillow's gives whatever an image's proportions, of small images to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from prelabel.worker.arrays import Pixels
from prelabel.worker.model.resize import Squash

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
