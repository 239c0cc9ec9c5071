"""SigLIP 2 NaFlex: images keep their proportions, and a batch of different ones is filled up no further than needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from prelabel.schemas import Control, Item, Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.arrays import Pixels
from prelabel.worker.fetching.fetcher import Fetcher
from prelabel.worker.model.batch_size import find_batch_size
from prelabel.worker.model.encoder import Encoder
from prelabel.worker.model.naflex import PatchRules
from prelabel.worker.model.registry import load_encoder
from prelabel.worker.scoring.local import score_items
from tests.oracle import right_answer

PATCH, MOST = 8, 24  # of the tiny checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

ODD_SIZES = [
    *[(1, 1), (1, 2), (2, 1), (7, 7), (8, 8), (9, 31), (31, 9), (64, 64), (100, 101), (101, 100), (123, 457)],
    *[(457, 123), (640, 480), (480, 640), (1000, 999), (33, 1000), (1000, 33), (3, 2000), (2000, 3)],
    *[(1, 10_000), (10_000, 1), (1999, 1501)],
]
"""Width and height."""


def load(checkpoint: Path, **settings: Any) -> Encoder:
    chosen = {"model": str(checkpoint), "device": "cpu", "preprocessing": "exact", **settings}
    return load_encoder(load_settings(**chosen), "m@1")


def noise(width: int, height: int) -> Pixels:
    rng = np.random.default_rng(width * 10_000 + height)
    # Coarse, so that a filter's overshoot at its edges counts.
    coarse = rng.integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(3, axis=0).repeat(3, axis=1)[:height, :width])


@pytest.fixture(scope="module")
def encoder(made) -> Encoder:
    return load(made("siglip 2 naflex"))


@pytest.fixture(scope="module")
def processor(made) -> Any:
    return transformers.AutoProcessor.from_pretrained(made("siglip 2 naflex"), backend="pil").image_processor


@pytest.fixture
def passes(encoder, monkeypatch) -> list[tuple[int, int]]:
    """Images of each pass through the model, and the patches they were filled up to."""
    seen: list[tuple[int, int]] = []
    model = encoder.images._model
    forward = model.get_image_features

    def watched(**inputs: Any) -> Any:
        seen.append(tuple(inputs["pixel_values"].shape[:2]))
        return forward(**inputs)

    monkeypatch.setattr(model, "get_image_features", watched)
    monkeypatch.setattr(encoder.images, "_budget", None)
    return seen


def patches(image: Pixels) -> int:
    return image.shape[0] * image.shape[1] // PATCH**2


@pytest.mark.parametrize(("width", "height"), ODD_SIZES)
def test_an_image_is_resized_to_the_bit_as_transformers_does(width, height, encoder, processor) -> None:
    image = noise(width, height)
    told = processor(Image.fromarray(image), do_rescale=False, do_normalize=False, return_tensors="np")
    (down, across) = told["spatial_shapes"][0]
    theirs = told["pixel_values"][0][: down * across].reshape(down, across, PATCH, PATCH, 3)
    ours = encoder.images.prepare(image)
    assert ours.dtype == np.uint8
    assert np.array_equal(ours, theirs.swapaxes(1, 2).reshape(down * PATCH, across * PATCH, 3))


@pytest.mark.parametrize(("width", "height"), ODD_SIZES)
def test_the_faster_resize_is_within_2_of_255(width, height, encoder, made) -> None:
    image = noise(width, height)
    fast = load(made("siglip 2 naflex"), preprocessing="fast").images.prepare(image)
    assert np.abs(fast.astype(int) - encoder.images.prepare(image)).max() <= 2


@given(
    height=st.integers(1, 20_000),
    width=st.integers(1, 20_000),
    patch=st.sampled_from([8, 14, 16, 32]),
    most=st.integers(1, 1024),
)
def test_an_image_of_any_size_becomes_whole_patches_of_its_proportions_and_never_too_many(
    height, width, patch, most
) -> None:
    rules = PatchRules(
        patch=patch, most=most, resample=Image.Resampling.BILINEAR, rescale=1 / 255, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    tall, wide = rules.size(height, width)
    assert tall % patch == wide % patch == 0
    assert 1 <= tall * wide // patch**2 <= most
    # There is one scale of which both sides are what it gives, brought up to whole patches.
    least = max((tall - patch) / height, (wide - patch) / width)
    assert least < min(tall / height, wide / width) * (1 + 1e-9)


def test_images_of_one_batch_are_filled_up_to_the_longest_and_no_further(encoder, passes) -> None:
    ready = [encoder.images.prepare(noise(*size)) for size in [(50, 50), (100, 110)]]
    assert [patches(image) for image in ready] == [16, 20]  # of 24 that are allowed
    encoder.images.start(ready)()
    assert passes == [(2, 20)]


def test_a_batch_beyond_the_budget_goes_in_parts_and_keeps_its_order(encoder, passes) -> None:
    ready = [encoder.images.prepare(noise(*size)) for size in ODD_SIZES]
    whole = encoder.images.start(ready)()
    assert passes == [(len(ready), MOST)]
    passes.clear()
    encoder.images.tune(4)
    parts = encoder.images.start(ready)()
    assert len(passes) > 5
    assert all(count * longest <= 4 * MOST for count, longest in passes)
    assert sum(count for count, _ in passes) == len(ready)
    assert np.abs(parts - whole).max() < 1e-5


def test_a_batch_of_the_size_that_was_settled_on_is_one_pass(encoder, passes) -> None:
    encoder.images.tune(4)
    encoder.images.start([encoder.images.prepare(noise(640, 480))] * 4)()
    assert len(passes) == 1


def test_stacked_images_of_one_size_are_a_batch_too(encoder) -> None:
    one = encoder.images.prepare(noise(640, 480))
    stacked, listed = encoder.images.encode(np.stack([one, one])), encoder.images.encode([one, one])
    assert np.array_equal(stacked, listed)
    assert stacked.shape == (2, encoder.card.dim)


def test_half_the_bits_give_nearly_the_same_vectors(encoder, made) -> None:
    rough = load(made("siglip 2 naflex"), dtype="bfloat16").images
    ready = [encoder.images.prepare(noise(*size)) for size in ODD_SIZES]
    some, others = encoder.images.encode(ready), rough.encode(ready)
    assert others.dtype == np.float32
    cosines = (some * others).sum(axis=1) / np.linalg.norm(some, axis=1) / np.linalg.norm(others, axis=1)
    assert cosines.min() > 0.99


def test_the_batch_size_is_found_and_tuned_for(made) -> None:
    encoder = load(made("siglip 2 naflex"))
    size = find_batch_size(encoder, largest=4, budget_s=1)
    encoder.images.tune(size)
    assert 1 <= size <= 4


def test_an_image_that_is_stretched_has_another_vector_than_one_that_is_not(encoder) -> None:
    """What the model is told of an image's proportions reaches its vector."""
    flat = np.full((80, 80, 3), 90, dtype=np.uint8)
    square, wide = encoder.images.encode([encoder.images.prepare(flat), encoder.images.prepare(flat[:20])])
    assert np.abs(square - wide).max() > 1e-3


def test_the_card_says_how_many_patches_of_which_size(encoder, made) -> None:
    card = encoder.card
    assert card.resize == "patches"
    assert card.input_size == (32, 32)  # the largest square of at most 24 patches
    assert card.preprocessing == "24 patches of 8 BILINEAR 0.5,0.5,0.5/0.5,0.5,0.5 exact"
    assert load(made("siglip 2 naflex"), preprocessing="fast").card.preprocessing.endswith(" fast 2")


def test_scoring_answers_images_of_all_proportions_as_one_at_a_time(encoder, tmp_path) -> None:
    settings = load_settings(image_roots=(tmp_path,), fetch_threads=2, batch_size=4, preprocessing="exact")
    paths = [tmp_path / f"{width}x{height}.png" for width, height in ODD_SIZES]
    for path, size in zip(paths, ODD_SIZES, strict=True):
        Image.fromarray(noise(*size)).save(path)
    taxonomy = Taxonomy.flat(["circle", "ring", "a red star"])
    fetcher = Fetcher(settings)
    items = [Item.of(str(path)) for path in paths]
    found = list(
        score_items(items, [Control(taxonomy=taxonomy)], encoder=encoder, fetch=fetcher.fetch, settings=settings)
    )
    fetcher.close()
    assert [prediction.error for prediction in found] == [None] * len(paths)
    for prediction, path in zip(found, paths, strict=True):
        right = right_answer(encoder, taxonomy, path.read_bytes(), settings)
        assert {score.path: score.logit for score in prediction.scores} == pytest.approx(
            {score.path: score.logit for score in right.scores}, abs=1e-3
        )
