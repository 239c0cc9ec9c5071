"""A model's card: data that everybody can read."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from prelabel.schemas import ConfigError, ModelCard

FACTS = {
    "id": "me/model@0123abcd",
    "family": "siglip",
    "dim": 768,
    "logit_scale": 117.3,
    "logit_bias": -12.9,
    "head": "sigmoid",
    "input_size": (512, 512),
    "resize": "squash",
    "text_length": 64,
    "lower_case": False,
    "padded": True,
    "tokenisation": "SiglipTokenizer 64 own",
    "preprocessing": "512x512 BICUBIC fast",
}


def test_a_card_travels_as_json() -> None:
    card = ModelCard(**FACTS, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), licence="Apache-2.0")
    assert ModelCard.model_validate_json(card.model_dump_json()) == card


def test_what_need_not_be_known_may_be_left_out() -> None:
    card = ModelCard(**{**FACTS, "logit_bias": None, "head": "softmax", "text_length": None})
    assert (card.mean, card.std, card.licence) == (None, None, None)
    assert card.template == "This is a photo of {label}."
    assert card.threshold == 0.1


@pytest.mark.parametrize("wrong", [{"dim": 0}, {"head": "tanh"}, {"input_size": (0, 512)}, {"colour": "red"}])
def test_what_cannot_be_is_refused(wrong) -> None:
    with pytest.raises(ConfigError):
        ModelCard(**{**FACTS, **wrong})


def test_a_card_is_not_changed() -> None:
    with pytest.raises(ValidationError):
        ModelCard(**FACTS).dim = 3


def test_a_card_is_read_without_torch_and_without_numpy() -> None:
    code = (
        "import sys; import prelabel.schemas.models; assert not {'torch', 'numpy', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
