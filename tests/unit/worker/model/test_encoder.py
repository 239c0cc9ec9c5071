"""What every encoder keeps to: the real ones, those that squash and those that crop, and their in-memory twin."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from prelabel.schemas import ModelCard
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.model.colour import ColourEncoder
from prelabel.worker.model.encoder import Encoder
from prelabel.worker.model.registry import load_encoder
from tests.openclip import make

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

TEXTS = ["red", "This is a photo of a green star.", "blue"]


@pytest.fixture(scope="module", params=["colour", "demo", "clip", "open_clip", "open_clip with a bias"])
def encoder(request: pytest.FixtureRequest, made, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    if request.param == "colour":
        return ColourEncoder()
    kind = {"open_clip": "CLIP", "open_clip with a bias": "SigLIP"}.get(request.param)
    if kind:
        folder = make(tmp_path_factory.mktemp("made") / kind, kind)
    else:
        folder = CHECKPOINT if request.param == "demo" else made(request.param)
    return load_encoder(load_settings(model=str(folder), device="cpu"), "m@00000000")


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in [(50, 70), (1, 1), (64, 64)]]


@pytest.fixture(scope="module")
def prepared(encoder, pictures) -> list[np.ndarray]:
    return [encoder.images.prepare(picture) for picture in pictures]


def test_the_card_is_data(encoder) -> None:
    assert ModelCard.model_validate_json(encoder.card.model_dump_json()) == encoder.card


def test_an_image_of_any_size_is_prepared_to_the_cards_input_size(encoder, prepared) -> None:
    assert {(one.shape, one.dtype.name) for one in prepared} == {((*encoder.card.input_size, 3), "uint8")}


def test_preparing_leaves_the_image_as_it_is_and_many_threads_may_do_it(encoder, pictures, prepared) -> None:
    kept = [picture.copy() for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(encoder.images.prepare, pictures * 8))
    assert all(np.array_equal(one, other) for one, other in zip(again, prepared * 8, strict=True))
    assert all(np.array_equal(one, other) for one, other in zip(pictures, kept, strict=True))


def test_images_and_texts_become_float32_vectors_of_the_cards_length(encoder, prepared) -> None:
    for vectors in (encoder.images.encode(np.stack(prepared)), encoder.texts.encode(TEXTS)):
        assert vectors.shape == (3, encoder.card.dim)
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()


def test_an_image_has_its_vector_in_any_batch_and_the_batch_its_order(encoder, prepared) -> None:
    together = encoder.images.encode(np.stack(prepared))
    for one, vector in zip(prepared, together, strict=True):
        assert encoder.images.encode(one[None])[0] == pytest.approx(vector, abs=1e-4)


def test_batches_that_are_started_give_what_batches_that_are_awaited_give(encoder, prepared) -> None:
    first, second = encoder.images.start(prepared[:2]), encoder.images.start(prepared[2:])
    later, sooner = second(), first()
    assert np.concatenate([sooner, later]) == pytest.approx(encoder.images.encode(np.stack(prepared)), abs=1e-4)


def test_a_text_has_its_vector_in_any_batch_and_the_batch_its_order(encoder) -> None:
    together = encoder.texts.encode(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        assert encoder.texts.encode([text])[0] == pytest.approx(vector, abs=1e-4)


def test_measuring_memory_does_the_work_once(encoder) -> None:
    done: list[int] = []
    memory = encoder.images.memory_of(lambda: done.append(1))
    assert done == [1]
    assert memory is None or (memory.needed >= 0 and memory.free > 0)


def test_tuning_changes_no_vector(encoder, prepared) -> None:
    before = encoder.images.encode(np.stack(prepared))
    encoder.images.tune(3)
    assert encoder.images.encode(np.stack(prepared)) == pytest.approx(before, abs=1e-4)


def test_a_device_without_memory_of_its_own_tells_none(encoder) -> None:
    assert encoder.device == "cpu"
    assert encoder.device_memory() == {}
