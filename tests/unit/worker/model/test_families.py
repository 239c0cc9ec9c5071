"""Every family gives the logits of transformers' own processor and model, called as their documentation does."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from prelabel.schemas import ConfigError, Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.model.encoder import Encoder
from prelabel.worker.model.registry import load_encoder
from prelabel.worker.model.similarity import normalise, pair_logits
from tests.checkpoints import BASES, MAKERS
from tests.unit.worker.model.samples import SIZES, drawings

LABELS = ["circle", "Red Star", "a very small, crooked square!", "γάτα", "猫"]
TEXTS = [text for (text,) in Taxonomy.flat(LABELS).prompts()]
TOLERANCE = 1e-4  # fp32

SIGMOID = [name for name in MAKERS if name.startswith("siglip")]
SOFTMAX = [name for name in MAKERS if name not in SIGMOID]

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def load(checkpoint: Path, **settings: Any) -> Encoder:
    chosen = {"model": str(checkpoint), "device": "cpu", "dtype": "float32", "preprocessing": "exact", **settings}
    return load_encoder(load_settings(**chosen), "m@1")


def reference(name: str, checkpoint: Path, images: list[Image.Image], texts: list[str]) -> np.ndarray:
    """transformers' own processor and model, all pairs in one call: `(n_images, n_texts)`."""
    processor = transformers.AutoProcessor.from_pretrained(checkpoint, backend="pil")
    model = transformers.AutoModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    if name in SOFTMAX or name.startswith("clip"):
        inputs = processor(text=texts, images=images, padding=True, return_tensors="pt")
    else:
        inputs = processor(
            # SigLIP 2 was trained on lower case: its documentation has whoever calls it see to that.
            text=[text.lower() for text in texts] if "2" in name else texts,
            images=images,
            padding="max_length",
            max_length=64,
            truncation=True,
            return_tensors="pt",
            # The processor has its own idea of both, whatever the checkpoint says.
            **{key: getattr(processor.image_processor, key) for key in ("patch_size", "max_num_patches")}
            if "naflex" in name
            else {},
        )
        inputs.pop("attention_mask", None)
    with torch.no_grad():
        return model(**inputs).logits_per_image.numpy()


def prepared(encoder: Encoder, images: list[Image.Image]) -> list[np.ndarray]:
    return [encoder.images.prepare(np.array(image)) for image in images]


def logits(encoder: Encoder, images: list[Image.Image], labels: list[str]) -> np.ndarray:
    vectors = encoder.images.start(prepared(encoder, images))()
    prompts = [text for (text,) in Taxonomy.flat(labels).prompts()]
    texts = normalise(encoder.texts.encode(prompts))  # not rounded for a store yet
    return pair_logits(vectors, texts, encoder.card.logit_scale, encoder.card.logit_bias)


@pytest.mark.parametrize("name", [*MAKERS, *(pytest.param(name, marks=pytest.mark.slow) for name in BASES)])
def test_logits_equal_transformers_own_processor_and_model(name, made, record_property, capsys) -> None:
    images = drawings(2 if name in BASES else len(SIZES))
    expected = reference(name, made(name), images, TEXTS)
    difference = np.abs(logits(load(made(name)), images, LABELS) - expected).max()
    record_property("max_logit_difference", float(difference))
    with capsys.disabled():
        print(f"\nparity, {name}: max |logit difference| {difference:.2e} over {expected.size} pairs")
    assert difference <= TOLERANCE
    for axis in (0, 1):  # images differ in them, and texts do
        assert np.ptp(expected, axis=axis).min() > 100 * TOLERANCE


@pytest.mark.parametrize("name", SOFTMAX)
def test_a_softmax_equals_transformers_zero_shot_pipeline(name, made, capsys) -> None:
    pipeline = transformers.pipeline(
        "zero-shot-image-classification",
        model=str(made(name)),
        image_processor=transformers.AutoImageProcessor.from_pretrained(made(name), backend="pil"),
    )
    encoder, images = load(made(name)), drawings()
    ours = np.exp(logits(encoder, images, LABELS).astype(np.float64))
    ours /= ours.sum(axis=1, keepdims=True)
    worst = 0.0
    for image, row in zip(images, ours, strict=True):
        scored = pipeline(image, LABELS, hypothesis_template="This is a photo of {}.")
        theirs = {one["label"]: one["score"] for one in scored}
        worst = max(worst, *(abs(row[at] - theirs[label]) for at, label in enumerate(LABELS)))
    with capsys.disabled():
        print(f"\nparity, {name}: max |probability difference| to the pipeline {worst:.2e}")
    assert worst < 1e-5


@pytest.mark.parametrize("name", MAKERS)
def test_an_image_has_its_vector_alone_and_in_any_batch(name, made) -> None:
    encoder = load(made(name))
    ready = prepared(encoder, drawings())
    alone = np.concatenate([encoder.images.start([one])() for one in ready])
    for order in (range(6), [5, 3, 1, 0, 2, 4], [3, 3, 3, 5]):
        together = encoder.images.start([ready[at] for at in order])()
        assert np.abs(together - alone[list(order)]).max() < 1e-5 * np.abs(alone).max()


@pytest.mark.parametrize("name", MAKERS)
def test_a_text_has_its_vector_alone_and_in_any_batch(name, made) -> None:
    encoder = load(made(name))
    texts = ["ring", "a", "this is a rather longer prompt about a red star", "猫", "ring " * 100]
    alone = np.concatenate([encoder.texts.encode([text]) for text in texts])
    for order in (range(5), [4, 2, 0, 1, 3], [1] * 70):  # the last is more than goes in a pass
        together = encoder.texts.encode([texts[at] for at in order])
        assert np.abs(together - alone[list(order)]).max() < 1e-5 * np.abs(alone).max()


@pytest.mark.parametrize("name", SOFTMAX)
def test_what_a_text_is_filled_up_with_does_not_change_its_vector(name, made) -> None:
    """transformers fills up to the longest of a batch and tells the model; we fill up all texts alike."""
    encoder = load(made(name))
    tokenizer = transformers.AutoTokenizer.from_pretrained(made(name))
    model = transformers.AutoModel.from_pretrained(made(name)).eval()
    for text in ("a", "ring", "a small red star on the bridge"):
        with torch.no_grad():
            bare = model.get_text_features(**tokenizer([text], return_tensors="pt")).pooler_output.numpy()
        assert np.abs(encoder.texts.encode([text]) - bare).max() < 1e-5 * np.abs(bare).max()


@pytest.mark.parametrize("name", MAKERS)
def test_a_longer_text_is_cut_where_the_model_has_no_place_left_and_still_ends_with_eos(name, made, caplog) -> None:
    encoder = load(made(name))
    with caplog.at_level(logging.WARNING):
        vectors = encoder.texts.encode(["ring " * 200, "ring " * 300])
    assert np.isfinite(vectors).all()
    assert np.array_equal(vectors[0], vectors[1])
    assert f"cut to {encoder.card.text_length}, its end is not scored: ring ring" in caplog.text


CARDS = {
    "siglip": ("siglip", 32, "sigmoid", "squash", 64, False, False, "SiglipTokenizer 64 own right no mask"),
    "siglip i18n": ("siglip", 32, "sigmoid", "squash", 64, False, False, "SiglipTokenizer 64 own right no mask"),
    "siglip 2": ("siglip", 32, "sigmoid", "squash", 64, True, False, "GemmaTokenizer 64 lower right no mask"),
    "siglip 2 naflex": (
        "siglip2",
        32,
        "sigmoid",
        "patches",
        64,
        True,
        False,
        "Siglip2Tokenizer 64 lower right no mask",
    ),
    "clip": ("clip", 24, "softmax", "crop", 77, False, False, "CLIPTokenizer 77 own right no mask"),
    "metaclip 2": ("metaclip_2", 24, "softmax", "crop", 77, False, False, "XLMRobertaTokenizer 77 own right no mask"),
    "altclip": ("altclip", 24, "softmax", "crop", 77, False, True, "XLMRobertaTokenizer 77 own right mask"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_card_says_how_a_checkpoint_is_run(name, made) -> None:
    card = load(made(name)).card
    told = (card.family, card.dim, card.head, card.resize, card.text_length, card.lower_case, card.mask)
    assert (*told, card.tokenisation) == CARDS[name]
    assert card.logit_scale == pytest.approx(109.95, abs=0.01)
    assert card.logit_bias == (pytest.approx(-12.9) if name in SIGMOID else None)
    assert card.input_size == (32, 32)
    assert card.padding_side == "right"
    assert card.ends_with_eos
    assert card.gflop == pytest.approx(0.00085, abs=0.00005)


@pytest.mark.parametrize("name", MAKERS)
def test_a_token_that_the_model_has_not_is_no_text_for_it(name, made, tmp_path) -> None:
    """On CUDA it would break the device for every job; added tokens are not in the tokenizer's `vocab_size`."""
    folder = tmp_path / "copied"
    shutil.copytree(made(name), folder)
    tokenizer = transformers.AutoProcessor.from_pretrained(folder, backend="pil").tokenizer
    known = len(tokenizer)
    tokenizer.add_tokens(["<defect>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    texts = load(folder).texts
    told = (
        rf"^the text 'a <defect>' holds a special token .* \(number {known}\), and the model knows {known:,} tokens .*"
    )
    with pytest.raises(ConfigError, match=told + "write the label or its prompt without it$"):
        texts.encode(["a cat", "a <defect>"])
    assert (texts.encode(["a cat"]) == load(made(name)).texts.encode(["a cat"])).all()
