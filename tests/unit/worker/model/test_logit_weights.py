"""A card's scale and bias are the checkpoint's own, to the last digit, whatever type the model computes in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from prelabel.schemas.models import ModelCard
from prelabel.schemas.settings import load_settings
from prelabel.worker.model.registry import load_encoder
from tests.checkpoints import MAKERS, SCALE, SIGMOID_BIAS
from tests.openclip import CONFIGS
from tests.openclip import make as make_open_clip

DTYPES = ("float32", "bfloat16", "float16")
OPEN_CLIPS = [name for name in CONFIGS if name != "ViT-B-16"]  # whose size tells nothing more here

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def card(checkpoint: Path, dtype: str) -> ModelCard:
    return load_encoder(load_settings(model=str(checkpoint), device="cpu", dtype=dtype), "m@1").card


def assert_own(told: ModelCard) -> None:
    bias = SIGMOID_BIAS if told.head == "sigmoid" else None
    assert told.logit_scale == pytest.approx(np.exp(SCALE), rel=1e-6)
    assert told.logit_bias == (None if bias is None else pytest.approx(bias, rel=1e-6))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MAKERS)
def test_of_transformers_checkpoints(name, dtype, made) -> None:
    assert_own(card(made(name), dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPEN_CLIPS)
def test_of_open_clips(name, dtype, tmp_path) -> None:
    path = make_open_clip(tmp_path / "made", name) / "open_clip_model.safetensors"
    tensors = load_file(path)
    tensors["logit_scale"].fill_(SCALE)
    if "logit_bias" in tensors:
        tensors["logit_bias"].fill_(SIGMOID_BIAS)
    save_file(tensors, path)
    assert_own(card(path.parent, dtype))


def test_of_one_whose_weights_lie_in_several_files(made, tmp_path) -> None:
    folder = tmp_path / "copied"
    shutil.copytree(made("siglip"), folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-0000{1 + (name == 'logit_bias')}-of-00002.safetensors" for name in tensors}
    for file in set(places.values()):
        mine = {name: tensor for name, tensor in tensors.items() if places[name] == file}
        save_file(mine, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert_own(card(folder, "bfloat16"))


def test_of_one_that_was_saved_in_half_precision(made, tmp_path) -> None:
    """Then these are the checkpoint's, in every type that the model computes in."""
    folder = tmp_path / "copied"
    shutil.copytree(made("siglip"), folder)
    tensors = {name: one.to(torch.bfloat16) for name, one in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    one, other = (card(folder, dtype) for dtype in ("float32", "bfloat16"))
    assert (one.logit_scale, one.logit_bias) == (other.logit_scale, other.logit_bias)
    assert one.logit_bias == torch.tensor(SIGMOID_BIAS, dtype=torch.bfloat16).item()
