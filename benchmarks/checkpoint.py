"""A checkpoint of google/siglip-base-patch16-512's exact geometry with random weights: its cost without its weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

from prelabel.worker.demo.story import CHECKPOINT


def make_base_checkpoint(directory: Path) -> Path:
    """Write it: 12 + 12 layers of width 768, 512x512 pixels in patches of 16, the demo checkpoint's tokenizer."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    tower = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
    config = transformers.SiglipConfig(
        text_config={
            **tower,
            "vocab_size": 32000,
            "max_position_embeddings": 64,
            "bos_token_id": None,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
        vision_config={**tower, "image_size": 512, "patch_size": 16},
    )
    model = transformers.SiglipModel(config)
    with torch.no_grad():  # random weights come with 0 and 0; these are near the trained model's
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-13.0)
    model.save_pretrained(directory)
    for name in ("spiece.model", "tokenizer_config.json"):
        (directory / name).write_bytes((CHECKPOINT / name).read_bytes())
    preprocessor = json.loads((CHECKPOINT / "preprocessor_config.json").read_text())
    preprocessor["size"] = {"height": 512, "width": 512}
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return directory
