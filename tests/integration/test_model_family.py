"""The model family of docs/extending.md, installed as the package it tells people to make."""

from __future__ import annotations

# --8<-- [start:family]
import numpy as np

from prelabel.schemas import ModelCard, Settings
from prelabel.worker.model.checkpoint import Checkpoint
from prelabel.worker.model.encoder import Encoder


class GreyImages:
    """An image's vector is how light and how dark it is."""

    def prepare(self, image):
        return image.mean(axis=(0, 1), keepdims=True).astype(np.uint8)

    def encode(self, batch):
        light = batch.reshape(len(batch), -1).mean(axis=1) / 255
        return np.stack([light, 1 - light], axis=1).astype(np.float32)

    def start(self, images):
        vectors = self.encode(np.stack(images))
        return lambda: vectors

    def memory_of(self, work):
        work()

    def tune(self, batch_size):
        pass


class GreyTexts:
    def encode(self, texts):
        return np.asarray([["white" in text, "black" in text] for text in texts], dtype=np.float32)


class GreyFamily:
    """Loads folders whose config.json says `{"model_type": "greys", "scale": 10}`."""

    def load(self, checkpoint: Checkpoint, settings: Settings, model_id: str) -> Encoder:
        if "scale" not in checkpoint.config:
            raise checkpoint.refused("config.json names no scale: write one, 10 or so")
        card = ModelCard(
            id=model_id,
            family="greys",
            dim=2,
            logit_scale=checkpoint.config["scale"],
            logit_bias=None,
            head="softmax",
            input_size=(1, 1),
            resize="squash",
            text_length=None,
            lower_case=False,
            padded=False,
            tokenisation="words",
            preprocessing="mean",
        )
        return Encoder(card=card, images=GreyImages(), texts=GreyTexts(), device="cpu", dtype="float32")


greys = GreyFamily()
# --8<-- [end:family]

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from prelabel.schemas import Prediction
from prelabel.worker.model.registry import GROUP
from tests.packages import Site, announced_in_docs, marked


@pytest.fixture
def grey_models(site: Site, tmp_path: Path) -> Path:
    """A folder of models, beside an installed package of the code shown."""
    site.install("my_package", marked(Path(__file__), "family"), GROUP, *announced_in_docs(GROUP))
    models = tmp_path / "models"
    for name, config in {"good": {"scale": 10}, "bad": {}}.items():
        (models / name).mkdir(parents=True)
        (models / name / "config.json").write_text(json.dumps({"model_type": "greys", **config}))
    return models


def score(model: Path, *images: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prelabel.worker.cli", "score", "--labels", "white,black", "--json"]
    environment = {**os.environ, "PRELABEL_MODEL": str(model)}
    return subprocess.run(
        [*command, *map(str, images)], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_family_from_another_package_scores(grey_models: Path, tmp_path: Path) -> None:
    for name, level in {"snow": 250, "coal": 5}.items():
        Image.new("RGB", (40, 30), (level, level, level)).save(tmp_path / f"{name}.png")
    ran = score(grey_models / "good", tmp_path / "snow.png", tmp_path / "coal.png")
    assert ran.returncode == 0, ran.stderr
    snow, coal = (Prediction.model_validate(one) for one in json.loads(ran.stdout))
    assert (snow.label, coal.label) == ("white", "black")
    assert snow.model_version.startswith("good@")


def test_a_family_says_what_it_cannot_load(grey_models: Path, tmp_path: Path) -> None:
    Image.new("L", (8, 8), 250).save(tmp_path / "snow.png")
    ran = score(grey_models / "bad", tmp_path / "snow.png")
    assert "config.json names no scale: write one" in ran.stderr
    assert "Traceback" not in ran.stderr
