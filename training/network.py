"""The small SigLIP itself: its configuration, a good start, and how it is written to disk."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Final

import torch
from transformers import SiglipConfig, SiglipModel, SiglipTextConfig, SiglipTokenizer, SiglipVisionConfig

from training.pictures import GRID, IMAGE_SIZE, PATCH
from training.words import TEXT_LENGTH

_WIDTH: Final = 96
_HEADS: Final = 3
_FIRST_SCALE: Final = 10.0
_FIRST_BIAS: Final = -4.0


def make_model(tokenizer: SiglipTokenizer, seed: int) -> SiglipModel:
    """An untrained model for 64 px pictures and this tokenizer's words.

    The patch positions start as sines and cosines, so that neighbours look alike from the first step;
    scale and bias start where a full truth matrix (not in-batch identities) wants them.
    """
    torch.manual_seed(seed)
    shared = {"hidden_size": _WIDTH, "intermediate_size": 4 * _WIDTH, "num_attention_heads": _HEADS}
    vision = SiglipVisionConfig(
        **shared, num_hidden_layers=4, image_size=IMAGE_SIZE, patch_size=PATCH, attention_dropout=0.0
    )
    text = SiglipTextConfig(
        **shared,
        num_hidden_layers=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=TEXT_LENGTH,
        projection_size=_WIDTH,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = SiglipModel(SiglipConfig(text_config=text.to_dict(), vision_config=vision.to_dict()))
    with torch.no_grad():
        model.vision_model.embeddings.position_embedding.weight.copy_(_waves(GRID, _WIDTH))
        model.logit_scale.fill_(math.log(_FIRST_SCALE))
        model.logit_bias.fill_(_FIRST_BIAS)
    return model


def save(model: SiglipModel, tokenizer: SiglipTokenizer, folder: Path) -> None:
    """Write a checkpoint that `AutoModel` and `AutoProcessor` load offline, readable by every user."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    picture = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "SiglipProcessor",
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    }
    _write_json(folder / "preprocessor_config.json", picture)
    words = json.loads((folder / "tokenizer_config.json").read_text())
    words |= {"model_input_names": ["input_ids"], "processor_class": "SiglipProcessor"}
    _write_json(folder / "tokenizer_config.json", words)
    for file in folder.iterdir():
        file.chmod(0o644)


def _write_json(path: Path, content: dict[str, object]) -> None:
    """Write sorted, indented JSON."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _waves(grid: int, width: int) -> torch.Tensor:
    """Two-dimensional sine and cosine positions: float32 (grid * grid, width), small against the patches."""
    frequencies = torch.exp(torch.linspace(0, math.log(math.pi * grid / 2), width // 4))
    place = torch.linspace(-1, 1, grid)[:, None] * frequencies
    one_axis = torch.cat([place.sin(), place.cos()], dim=1)
    rows, columns = one_axis[:, None].expand(-1, grid, -1), one_axis[None].expand(grid, -1, -1)
    return 0.3 * torch.cat([rows, columns], dim=-1).reshape(grid * grid, width)
