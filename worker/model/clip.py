"""The families `clip` and `metaclip_2`: OpenAI's CLIP and what was trained like it, through transformers.

CLIP (https://arxiv.org/abs/2103.00020) was trained with a softmax over a batch: there is no bias, and a pair's logit
means something only beside others'. The text tower is causal and read at the end-of-sequence token, so what a text is
filled up with behind it changes nothing and needs no mask. MetaCLIP 2 (https://arxiv.org/abs/2507.22062) has the same
towers and a multilingual tokenizer.
"""

from __future__ import annotations

from typing import Any, Final

from .dual_encoder import DualEncoderFamily, fixed_size
from .text_tower import TextRules

_HIGHEST: Final = 2
"""What early configs have as the end-of-sequence token, which is none: their model looks for the highest number."""


def _texts(config: Any, _tokenizer: Any) -> TextRules:
    """The tokenizer's own `model_max_length` may be anything: what the model has places for counts."""
    text = config.text_config
    looks_for = None if config.model_type == "clip" and text.eos_token_id == _HIGHEST else text.eos_token_id
    return TextRules(length=int(text.max_position_embeddings), looks_for=looks_for)


def _dims(config: Any) -> tuple[int, int]:
    return int(config.projection_dim), int(config.projection_dim)


FAMILY: Final = DualEncoderFamily(
    name="clip", head="softmax", text_rules=_texts, dims=_dims, processors=("CLIP",), pictures=fixed_size
)

METACLIP_2: Final = DualEncoderFamily(
    name="metaclip_2",
    head="softmax",
    text_rules=_texts,
    dims=_dims,
    processors=("CLIP", "XLMRoberta"),
    pictures=fixed_size,
)
