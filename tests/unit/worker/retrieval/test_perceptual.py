"""Pictures that look the same have nearly the same hash."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from prelabel.worker.retrieval.perceptual import hamming, perceptual_hash

hashes = st.integers(0, 2**64 - 1)


def picture(seed: int) -> Image.Image:
    """Smooth, as photos are."""
    coarse = np.random.default_rng(seed).integers(40, 200, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((400, 300), Image.Resampling.BICUBIC)


def hash_of(image: Image.Image) -> int:
    return perceptual_hash(np.asarray(image))


def compressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file)


CHANGES = {
    "scaled": lambda image: image.resize((131, 97), Image.Resampling.BILINEAR),
    "stretched": lambda image: image.resize((500, 200), Image.Resampling.BILINEAR),
    "compressed": compressed,
    "brighter": lambda image: image.point(lambda value: value + 30),
    "less contrast": lambda image: image.point(lambda value: 60 + value // 2),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_copy_looks_the_same(change) -> None:
    for seed in range(20):
        assert hamming(hash_of(picture(seed)), hash_of(change(picture(seed)))) <= 10


def test_other_pictures_and_a_mirrored_one_look_different() -> None:
    own = [hash_of(picture(seed)) for seed in range(20)]
    mirrored = [hash_of(picture(seed).transpose(Image.Transpose.FLIP_LEFT_RIGHT)) for seed in range(20)]
    assert min(hamming(one, other) for at, one in enumerate(own) for other in own[:at]) > 10
    assert min(hamming(one, other) for one, other in zip(own, mirrored, strict=True)) > 10


def test_each_bit_says_whether_a_cell_is_darker_than_the_next() -> None:
    rng = np.random.default_rng(0)
    cells = rng.permutation(72).reshape(8, 9).astype(np.uint8)
    bits = "".join("1" if left < right else "0" for row in cells for left, right in itertools.pairwise(row))
    pixels = np.repeat(np.kron(cells, np.ones((5, 4), dtype=np.uint8))[..., np.newaxis], 3, axis=2)
    assert perceptual_hash(pixels) == int(bits, 2)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (64, 64)])
def test_a_picture_without_structure_has_no_bits(size) -> None:
    assert perceptual_hash(np.full((*size, 3), 120, dtype=np.uint8)) == 0


@given(hashes, hashes, hashes)
def test_the_distance_is_a_metric_of_64_bits(one, two, three) -> None:
    assert hamming(one, two) == hamming(two, one) == bin(one ^ two).count("1")
    assert (hamming(one, two) == 0) == (one == two)
    assert hamming(one, three) <= hamming(one, two) + hamming(two, three) <= 128
