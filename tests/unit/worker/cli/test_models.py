"""What `prelabel models` and `prelabel doctor --load-model` tell of models."""

from __future__ import annotations

import json

from prelabel.integrations.ledger.fleet import Fleet
from prelabel.schemas import ModelCard, WorkerInfo, get_settings
from prelabel.schemas.known_models import KNOWN_MODELS
from prelabel.schemas.settings import DEFAULT_MODEL
from prelabel.worker.cli.console import card_lines, out

CLIP = ModelCard(
    id="openai/clip-vit-base-patch16@12345678",
    family="clip",
    dim=512,
    logit_scale=100.0,
    logit_bias=None,
    head="softmax",
    input_size=(224, 224),
    resize="crop",
    text_length=77,
    lower_case=False,
    padded=True,
    mask=True,
    tokenisation="CLIPTokenizer 77",
    preprocessing="224x224 crop",
    gflop=33.7,
    licence="mit",
)


def worker(name: str, model: str, card: ModelCard | None) -> WorkerInfo:
    return WorkerInfo(name=name, model=model, device="cuda:0", dtype="bfloat16", card=card)


def test_the_models_of_live_workers_are_shown_with_their_facts(client, run) -> None:
    fleet = Fleet(client.connection.redis)
    for name in ("a", "b"):
        fleet.beat(worker(name, CLIP.id, CLIP))
    fleet.beat(worker("old", "siglip@1", None))  # of a release that publishes no card
    text = run("models").output
    row = next(line for line in text.splitlines() if CLIP.id in line)
    for told in ("2 on cuda:0 (bfloat16)", "clip", "softmax", "224x224 crop", "512", "33.7"):
        assert told in row
    assert "1 on cuda:0" in next(line for line in text.splitlines() if "siglip@1" in line)
    serving = json.loads(run("models", "--json").output)["serving"]
    assert [ModelCard(**one["card"]) for one in serving if one["card"]] == [CLIP, CLIP]


def test_without_workers_or_redis_there_are_still_the_published_figures(run, monkeypatch) -> None:
    alone = run("models")
    assert "no worker is running" in alone.output
    assert "google/siglip2-base-patch16-512" in alone.output
    monkeypatch.setenv("PRELABEL_REDIS_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    away = run("models", "--json")
    assert away.exit_code == 0
    told = json.loads(away.stdout)
    assert "127.0.0.1:1" in told["problem"]
    assert told["known"][0] == {
        "name": DEFAULT_MODEL,
        "family": "siglip",
        "parameters": 204.0,
        "gflop": 227.0,
        "imagenet": 79.1,
        "eurosat": 40.1,
        "images_of_text": 50.6,
        "texts_of_image": 68.7,
        "languages": "English",
        "licence": "Apache-2.0",
        "source": KNOWN_MODELS[0].source,
    }


def test_published_figures_are_percentages_with_a_source() -> None:
    assert len({model.name for model in KNOWN_MODELS}) == len(KNOWN_MODELS)
    for model in KNOWN_MODELS:
        figures = (model.imagenet, model.eurosat, model.images_of_text, model.texts_of_image)
        assert all(10 < figure < 100 for figure in figures if figure is not None), model.name
        assert model.source.startswith("https://")


def test_a_card_in_words_says_what_a_model_does_to_images_texts_and_scores() -> None:
    lines = dict(card_lines(CLIP))
    assert lines["scores"] == "softmax (labels against each other only): 100.00 * cosine, no bias"
    assert lines["image"] == "224x224, shorter edge scaled, middle cut out"
    assert lines["text"] == "77 tokens, filled up on the right, with a mask"
    assert (lines["cost"], lines["licence"]) == ("33.7 GFLOP an image", "mit")


def test_a_narrow_terminal_shows_every_name_in_one_piece(run, monkeypatch) -> None:
    monkeypatch.setattr(out, "_width", 80)
    lines = run("models").output.splitlines()
    assert all(any(model.name in line for line in lines) for model in KNOWN_MODELS)
    assert all(len(line) <= 80 for line in lines if "│" in line)
    assert any("no room here for" in line and "--json" in line for line in lines)
