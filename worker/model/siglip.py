"""The family `siglip`: SigLIP, its multilingual checkpoints, MedSigLIP, and SigLIP 2 of one resolution.

Preprocessing and text handling follow the checkpoint's own processor to the letter; see the model card
(https://huggingface.co/google/siglip-base-patch16-512) and the papers (https://arxiv.org/abs/2303.15343,
https://arxiv.org/abs/2502.14786).
"""

from __future__ import annotations

from typing import Any, Final

import transformers

from .dual_encoder import DualEncoderFamily, fixed_size
from .text_tower import TextRules


def siglip_texts(config: Any, tokenizer: Any) -> TextRules:
    """SigLIP was trained on exactly 64 tokens, filled up on the right, without an attention mask.

    SiglipTokenizer lower-cases and strips punctuation itself. SigLIP 2's checkpoints name a Gemma tokenizer, which does
    not lower-case although the model saw lower case alone, and whose own default fills up on the left.
    """
    does_so_itself = isinstance(tokenizer, transformers.SiglipTokenizer)
    return TextRules(length=int(config.text_config.max_position_embeddings), lower_case=not does_so_itself)


def siglip_dims(config: Any) -> tuple[int, int]:
    """SigLIP has no projection of images: an embedding is as wide as the image tower."""
    text = config.text_config
    return int(config.vision_config.hidden_size), int(getattr(text, "projection_size", None) or text.hidden_size)


FAMILY: Final = DualEncoderFamily(
    name="siglip",
    head="sigmoid",
    text_rules=siglip_texts,
    dims=siglip_dims,
    # The last two are tokenizers of SigLIP 2's checkpoints of one resolution.
    processors=("Siglip", "Siglip2", "Gemma"),
    pictures=fixed_size,
)
