"""The family `altclip`: CLIP's image tower beside a multilingual text encoder (https://arxiv.org/abs/2211.06679).

The text tower reads a text both ways and is read at its first token: without a mask what a text is filled up with would
change the vector.
"""

from __future__ import annotations

from typing import Any, Final

from .dual_encoder import DualEncoderFamily, fixed_size
from .text_tower import TextRules

_TEXT_LENGTH: Final = 77
"""Tokens of the texts it was trained with; the tower itself has places for many more."""


def _texts(config: Any, _tokenizer: Any) -> TextRules:
    # XLM-R counts places from behind the padding token's number.
    places = int(config.text_config.max_position_embeddings) - int(config.text_config.pad_token_id or 0) - 1
    return TextRules(length=min(_TEXT_LENGTH, places), mask=True)


def _dims(config: Any) -> tuple[int, int]:
    return int(config.projection_dim), int(config.projection_dim)


FAMILY: Final = DualEncoderFamily(
    name="altclip",
    head="softmax",
    text_rules=_texts,
    dims=_dims,
    processors=("CLIP", "XLMRoberta"),
    pictures=fixed_size,
)
