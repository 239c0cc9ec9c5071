"""Checkpoints in OpenCLIP's format give the logits of open_clip's own model, transform and tokenizer."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from PIL import Image

from prelabel.schemas import ConfigError, ModelLoadError, Taxonomy
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.model.encoder import Encoder
from prelabel.worker.model.resize import Crop
from prelabel.worker.model.similarity import normalise, pair_logits
from tests.openclip import CONFIGS, export_demo, make, open_clip, write_bert_tokenizer, write_config
from tests.unit.worker.model.samples import load

LABELS = ["circle", "Red Star", "a very small, crooked square!", "ring"]
TAXONOMY = Taxonomy.flat(LABELS)
TOLERANCE = 1e-4  # fp32

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def our_logits(encoder: Encoder, images: list[Image.Image], taxonomy: Taxonomy = TAXONOMY) -> np.ndarray:
    vectors = encoder.images.encode(np.stack([encoder.images.prepare(np.array(image)) for image in images]))
    # Not rounded for a store yet.
    texts = normalise(encoder.texts.encode([text for (text,) in taxonomy.prompts()]))
    return pair_logits(vectors, texts, encoder.card.logit_scale, encoder.card.logit_bias)


def reference_logits(checkpoint: Path, images: list[Image.Image]) -> np.ndarray:
    """open_clip's own transform, tokenizer and model, all pairs in one call: `(n_images, n_texts)`."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{checkpoint}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{checkpoint}")
    texts = tokenizer([text for (text,) in TAXONOMY.prompts()])
    with torch.no_grad():
        logits, _ = model.eval().get_logits(torch.stack([transform(image) for image in images]), texts)
    return logits.numpy()


@pytest.mark.parametrize(
    "which", [pytest.param(name, marks=pytest.mark.slow) if name == "ViT-B-16" else name for name in CONFIGS]
)
def test_logits_equal_open_clips_own_transform_tokenizer_and_model(which, pictures, tmp_path, record_property, capsys):
    checkpoint = make(tmp_path / "model", which)
    reference = reference_logits(checkpoint, pictures)
    encoder = load(checkpoint, preprocessing="exact")
    difference = np.abs(our_logits(encoder, pictures) - reference).max()
    record_property("max_logit_difference", float(difference))
    with capsys.disabled():
        print(f"\nparity, OpenCLIP {which}: max |logit difference| {difference:.2e} over {reference.size} pairs")
    assert difference < TOLERANCE
    assert np.ptp(reference) > 100 * TOLERANCE  # the logits do differ from one another
    assert encoder.card.gflop is not None


def test_the_demos_checkpoint_gives_the_same_logits_in_both_formats(pictures, tmp_path, capsys) -> None:
    exported = export_demo(tmp_path / "exported")
    one, other = (our_logits(load(folder, preprocessing="exact"), pictures) for folder in (CHECKPOINT, exported))
    difference = np.abs(one - other).max()
    with capsys.disabled():
        print(f"\nparity, the demo's checkpoint in both formats: max |logit difference| {difference:.2e}")
    assert difference < TOLERANCE
    assert np.ptp(one) > 1000 * TOLERANCE


def test_its_card_says_all_of_it(tmp_path) -> None:
    sigmoid, softmax = (load(make(tmp_path / name, name)).card for name in ("SigLIP", "CLIP"))
    assert softmax.model_dump(exclude={"logit_scale", "wire_version"}) == {
        "id": "m@1",
        "revision": "1",
        "family": "open_clip",
        "dim": 24,
        "logit_bias": None,
        "head": "softmax",
        "input_size": (64, 64),
        "resize": "crop",
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
        "text_length": 20,
        "lower_case": False,
        "padded": True,
        "padding_side": "right",
        "mask": False,
        "ends_with_eos": True,
        "tokenisation": "open_clip SimpleTokenizer 20 right",
        "preprocessing": (
            "open_clip 64x64 crop of 64 to even BICUBIC "
            "0.48145466,0.4578275,0.40821073/0.26862954,0.26130258,0.27577711 fast 2"
        ),
        "template": "This is a photo of {label}.",
        "threshold": 0.1,
        "licence": None,
        "gflop": 0.00507,
    }
    assert softmax.logit_scale == pytest.approx(np.exp(4.0))
    assert (sigmoid.head, sigmoid.logit_bias, sigmoid.resize) == ("sigmoid", -10.0, "squash")
    assert sigmoid.tokenisation == "open_clip SiglipTokenizer 64 right clean='canonicalize'"
    # Either format of a folder has vectors of its own in a store.
    assert sigmoid.preprocessing == "open_clip " + load(CHECKPOINT).card.preprocessing


def test_a_crop_equals_open_clips_to_the_bit_whatever_the_size(tmp_path) -> None:
    encoder = load(make(tmp_path / "model", "CLIP"), preprocessing="exact")
    _, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'model'}")
    resize, crop, *_ = transform.transforms
    rng = np.random.default_rng(5)
    elsewhere = 0
    sizes = [(64, height) for height in range(64, 80)] + [tuple(rng.integers(1, 400, 2)) for _ in range(40)]
    for width, height in sizes:
        pixels = rng.integers(0, 256, (int(height), int(width), 3), dtype=np.uint8)
        if max(pixels.shape[:2]) > 16 * min(pixels.shape[:2]):
            continue
        theirs = np.asarray(crop(resize(Image.fromarray(pixels))))
        assert np.array_equal(encoder.images.prepare(pixels), theirs), (width, height)
        transformers_own = Crop(64, (64, 64), Image.Resampling.BICUBIC, exact=True)(pixels)
        elsewhere += not np.array_equal(transformers_own, theirs)
    assert elsewhere >= 4  # where half a pixel goes does matter


def test_fast_preprocessing_is_within_2_of_255_of_it(pictures, tmp_path) -> None:
    exact, fast = (load(make(tmp_path / "model", "CLIP"), preprocessing=how).images for how in ("exact", "fast"))
    for picture in pictures:
        pixels = np.array(picture)
        assert np.abs(exact.prepare(pixels).astype(int) - fast.prepare(pixels)).max() <= 2


TEXTS = [
    "",
    "a",
    "A Red  STAR,\n please",
    "Straße & co: naïve &amp;amp; déjà\u2011vu",
    "\uff33\uff21\uff2e\uff24 \ufb01ne",
    "κόσμος ΣΑΣ, İstanbul",
    "写真 фото छवि",
    "🚲👨‍👩‍👧",
    "<start_of_text> x <end_of_text>",
    "one two three " * 40,
]


@pytest.mark.parametrize("which", ["CLIP", "SigLIP"])
def test_texts_become_the_vectors_of_open_clips_own_tokens(which, tmp_path) -> None:
    checkpoint = make(tmp_path / "model", which)
    model, *_ = open_clip.create_model_and_transforms(f"local-dir:{checkpoint}")
    tokens = open_clip.get_tokenizer(f"local-dir:{checkpoint}")(TEXTS)
    with torch.no_grad():
        theirs = model.eval().encode_text(tokens).numpy()
    texts = load(checkpoint).texts
    assert np.abs(texts.encode(TEXTS) - theirs).max() < 1e-5
    alone = np.concatenate([texts.encode([text]) for text in TEXTS])
    assert np.abs(alone - theirs).max() < 1e-5
    assert len({tuple(row) for row in tokens.tolist()}) == len(TEXTS)


@pytest.mark.parametrize(("which", "length", "places"), [("CLIP", 122, 20), ("SigLIP", 201, 64)])
def test_a_prompt_that_is_too_long_is_cut_with_a_warning_that_names_it(which, length, places, tmp_path, caplog) -> None:
    text = "one two three " * 40 if which == "CLIP" else "ring " * 200
    encoder = load(make(tmp_path / "model", which))
    with caplog.at_level(logging.WARNING):
        vectors = encoder.texts.encode([text, "ring"])
    assert np.isfinite(vectors).all()
    assert [record.message for record in caplog.records] == [
        f"prompt of {length} tokens cut to {places}, its end is not scored: {text[:80]}…"
    ]


def test_a_special_token_that_the_model_has_not_is_no_text_for_it(tmp_path) -> None:
    checkpoint = make(tmp_path / "model", "SigLIP")
    words = json.loads((checkpoint / "tokenizer_config.json").read_text())
    words |= {"tokenizer_class": "T5Tokenizer", "extra_ids": 100}  # behind the 390 that the model knows
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(words))
    config = json.loads((checkpoint / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"]["clean"] = "whitespace"
    (checkpoint / "open_clip_config.json").write_text(json.dumps(config))
    texts = load(checkpoint).texts
    with pytest.raises(ConfigError, match=r"^the text '<extra_id_0>' holds .* \(number 4\d\d\), .* knows 390 tokens"):
        texts.encode(["ring", "<extra_id_0>"])
    assert np.isfinite(texts.encode(["ring"])).all()


def test_an_image_scores_the_same_alone_and_in_any_batch(pictures, tmp_path) -> None:
    images = load(make(tmp_path / "model", "EVA")).images
    prepared = np.stack([images.prepare(np.array(picture)) for picture in pictures])
    alone = np.concatenate([images.encode(one[None]) for one in prepared])
    assert np.abs(images.encode(prepared) - alone).max() < 1e-5
    assert np.abs(images.start(list(prepared))() - alone).max() < 1e-5


@pytest.mark.parametrize("which", ["CLIP", "SigLIP", "EVA"])
def test_half_precision_gives_nearly_the_same_vectors(which, pictures, tmp_path) -> None:
    checkpoint = make(tmp_path / "model", which)
    full, half = (load(checkpoint, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert half.card.logit_scale == full.card.logit_scale
    assert half.dtype == "bfloat16"
    prepared = np.stack([full.images.prepare(np.array(picture)) for picture in pictures])
    for one, other in (
        [encoder.images.encode(prepared) for encoder in (full, half)],
        [encoder.texts.encode(LABELS) for encoder in (full, half)],
    ):
        cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
        assert cosines.min() > 0.999


def a_text_tower_of_transformers(folder: Path) -> Path:
    """A CLIP whose text tower is a tiny BERT, `me/bert`, with its tokenizer in the folder."""
    write_bert_tokenizer(folder)
    vision = CONFIGS["CLIP"][0]["vision_cfg"]
    names = {"hf_model_name": "me/bert", "hf_tokenizer_name": "me/bert"}
    text = {"context_length": 12, "hf_pooler_type": "mean_pooler", **names}
    write_config(folder, {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}, {})
    return folder


def bert_in_cache(home: Path) -> Path:
    kept, commit = home / "hub" / "models--me--bert", "0123456789" * 4
    tower = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    transformers.BertConfig(vocab_size=13, **tower).save_pretrained(kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)
    return kept / "snapshots" / commit


def test_a_text_tower_of_transformers_is_built_from_its_cached_config_alone(tmp_path, monkeypatch) -> None:
    checkpoint = a_text_tower_of_transformers(tmp_path / "model")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    cached = bert_in_cache(tmp_path)
    config = json.loads((checkpoint / "open_clip_config.json").read_text())
    given = config["model_cfg"]
    text = {**given["text_cfg"], "hf_model_name": str(cached), "hf_model_pretrained": False}
    torch.manual_seed(0)
    theirs = open_clip.CustomTextCLIP(**{**given, "text_cfg": text}).eval()
    safetensors.torch.save_file(theirs.state_dict(), checkpoint / "open_clip_model.safetensors")
    tokenizer = open_clip.tokenizer.HFTokenizer(str(checkpoint), context_length=12)
    encoder = load(checkpoint)
    with torch.no_grad():
        expected = theirs.encode_text(tokenizer(["a photo of a red star .", "ring"])).numpy()
    assert np.abs(encoder.texts.encode(["a photo of a red star .", "ring"]) - expected).max() < 1e-5
    assert (encoder.card.mask, encoder.card.ends_with_eos, encoder.card.dim) == (True, False, 24)


def test_a_text_tower_whose_config_is_not_cached_is_refused_without_asking_the_hub(tmp_path, monkeypatch) -> None:
    checkpoint = a_text_tower_of_transformers(tmp_path / "model")
    shutil.copy(make(tmp_path / "other", "CLIP") / "open_clip_model.safetensors", checkpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("httpx.Client.send", lambda *_a, **_k: pytest.fail("the hub was asked"))
    with pytest.raises(ModelLoadError, match=r"names the text tower me/bert .* hf download me/bert config\.json$"):
        load(checkpoint)
