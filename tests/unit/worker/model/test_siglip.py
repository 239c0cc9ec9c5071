"""Parity: the same checkpoint, image and labels give the same logits as transformers' own code."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from benchmarks.checkpoint import make_base_checkpoint
from prelabel.schemas import ModelLoadError, Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.decoding.pixels import decode_pixels
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.model.encoder import Encoder
from prelabel.worker.model.registry import load_encoder
from prelabel.worker.model.similarity import normalise, pair_logits
from prelabel.worker.model.torchvision_ops import make_importable
from tests.answering import Answers

LABELS = ["circle", "red star", "a very small, crooked square!", "ring"]
TOLERANCE = 1e-4  # fp32

make_importable()  # transformers' own processors need it too

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def load(checkpoint: Path | str = CHECKPOINT, **settings) -> Encoder:
    return load_encoder(load_settings(**{"model": str(checkpoint), "device": "cpu", **settings}), "m@1")


@pytest.fixture(scope="module")
def full_size_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of google/siglip-base-patch16-512, random weights, the demo's tokenizer.

    The real weights cannot be had without the hub; the real shapes, sizes and code path can.
    """
    return make_base_checkpoint(tmp_path_factory.mktemp("base-patch16-512"))


def reference_logits(checkpoint: Path, images: list[Image.Image], texts: list[str]) -> np.ndarray:
    """transformers' own processor and model, all pairs in one call: `(n_images, n_texts)`."""
    processor = transformers.AutoProcessor.from_pretrained(checkpoint, backend="pil")
    model = transformers.AutoModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    inputs = processor(
        text=texts, images=images, padding="max_length", max_length=64, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        output = model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"])
    return output.logits_per_image.numpy()


def our_logits(checkpoint: Path, images: list[Image.Image], taxonomy: Taxonomy) -> np.ndarray:
    encoder = load(checkpoint, preprocessing="exact")
    vectors = encoder.images.encode(np.stack([encoder.images.prepare(np.array(image)) for image in images]))
    texts = normalise(encoder.texts.encode([text for (text,) in taxonomy.prompts()]))  # not rounded for a store
    return pair_logits(vectors, texts, encoder.card.logit_scale, encoder.card.logit_bias)


@pytest.mark.parametrize("which", ["demo", pytest.param("random base-patch16-512", marks=pytest.mark.slow)])
def test_logits_equal_transformers_own_processor_and_model(which, pictures, request, record_property, capsys):
    checkpoint = CHECKPOINT
    if which != "demo":
        checkpoint = request.getfixturevalue("full_size_checkpoint")
        pictures = pictures[:2]  # seconds each
    taxonomy = Taxonomy.flat(LABELS)
    reference = reference_logits(checkpoint, pictures, [text for (text,) in taxonomy.prompts()])
    difference = np.abs(our_logits(checkpoint, pictures, taxonomy) - reference).max()
    record_property("max_logit_difference", float(difference))
    with capsys.disabled():
        print(f"\nparity, {which}: max |logit difference| {difference:.2e} over {reference.size} pairs")
    assert difference < TOLERANCE
    assert np.ptp(reference) > 100 * TOLERANCE  # the logits do differ from one another


def test_sigmoids_equal_transformers_zero_shot_pipeline(pictures, capsys) -> None:
    pipeline = transformers.pipeline(
        "zero-shot-image-classification",
        model=str(CHECKPOINT),
        image_processor=transformers.AutoImageProcessor.from_pretrained(CHECKPOINT, backend="pil"),
    )
    taxonomy = Taxonomy.flat(["circle", "star", "ring"], "multiple", template="This is a photo of {label}.")
    logits = our_logits(CHECKPOINT, pictures, taxonomy)
    worst = 0.0
    for image, row in zip(pictures, logits, strict=True):
        theirs = {
            one["label"]: one["score"]
            for one in pipeline(image, ["circle", "star", "ring"], hypothesis_template="This is a photo of {}.")
        }
        ours = Answers(taxonomy)(row)
        worst = max(worst, *(abs(score.sigmoid - theirs[score.label]) for score in ours.scores))
    with capsys.disabled():
        print(f"\nparity, pipeline: max |probability difference| {worst:.2e}")
    assert worst < 1e-5


@pytest.mark.parametrize("which", ["demo", pytest.param("random base-patch16-512", marks=pytest.mark.slow)])
def test_fast_preprocessing_is_within_2_of_255_and_moves_no_embedding(which, pictures, request, capsys) -> None:
    checkpoint = CHECKPOINT if which == "demo" else request.getfixturevalue("full_size_checkpoint")
    exact, fast = (load(checkpoint, preprocessing=preprocessing) for preprocessing in ("exact", "fast"))
    pixels, cosines = 0, []
    for picture in pictures if which == "demo" else pictures[:1]:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        one = exact.images.prepare(decode_pixels(buffer.getvalue(), max_pixels=10**7, exact=True))
        other = fast.images.prepare(decode_pixels(buffer.getvalue(), max_pixels=10**7))
        pixels = max(pixels, int(np.abs(one.astype(int) - other).max()))
        (a,), (b,) = exact.images.encode(one[None]), fast.images.encode(other[None])
        cosines.append(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    with capsys.disabled():
        print(f"\nfast preprocessing, {which}: {pixels} of 255, cosine {min(cosines):.6f}")
    assert pixels <= 2
    assert min(cosines) > 0.9999


def test_an_image_scores_the_same_alone_and_in_any_batch(pictures) -> None:
    encoder = load()
    prepared = np.stack([encoder.images.prepare(np.array(image)) for image in pictures])
    together = encoder.images.encode(prepared)
    alone = np.concatenate([encoder.images.encode(one[None]) for one in prepared])
    assert np.abs(together - alone).max() < 1e-4


def test_a_text_scores_the_same_alone_and_in_any_batch() -> None:
    encoder = load()
    texts = ["ring", "this is a rather longer prompt about a red star", "a"]
    together = encoder.texts.encode(texts)
    alone = np.concatenate([encoder.texts.encode([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-4


def test_case_and_punctuation_of_a_prompt_do_not_matter() -> None:
    encoder = load()
    one, other = encoder.texts.encode(["This is a photo of a Red Star.", "this is a photo of a red star"])
    assert np.array_equal(one, other)


def test_a_prompt_longer_than_64_tokens_is_cut_with_a_warning_that_names_it(caplog) -> None:
    encoder = load()
    with caplog.at_level(logging.WARNING):
        vectors = encoder.texts.encode(["ring " * 200, "ring"])
    assert np.isfinite(vectors).all()
    assert [record.message for record in caplog.records] == [
        f"prompt of {201} tokens cut to 64, its end is not scored: {('ring ' * 200)[:80]}…"
    ]


def test_a_missing_directory_is_one_clear_line() -> None:
    with pytest.raises(ModelLoadError, match=r"PRELABEL_MODEL=/no/such: no such directory"):
        load("/no/such")


def test_a_hub_checkpoint_that_is_not_cached_says_what_to_do_offline(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelLoadError, match=r"HF_HUB_OFFLINE is set.*PRELABEL_MODEL to a local directory"):
        load("google/siglip-not-there")


def test_a_directory_without_a_checkpoint_is_one_clear_line(tmp_path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelLoadError, match="cannot load the checkpoint in") as refused:
        load(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_named_with_the_fix() -> None:
    with pytest.raises(ModelLoadError, match=r"PRELABEL_DEVICE=cuda.*sees no such device"):
        load(device="cuda")
