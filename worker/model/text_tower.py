"""The text half of a transformers model: tokens of one length in, vectors out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from ...schemas.errors import ConfigError
from ...schemas.models import PaddingSide
from ..arrays import Vectors
from .checkpoint import Checkpoint
from .devices import device_errors, use_threads
from .transfers import pooled

log = logging.getLogger(__name__)

_BATCH = 64

NO_END: Final = (
    "its tokenizer does not end texts with the end-of-sequence token: tokenizer_config.json was lost or is another "
    "checkpoint's; copy it from the checkpoint again"
)


@dataclass(frozen=True, kw_only=True)
class TextRules:
    """A text's way to the text tower. Any other silently changes the vectors.

    Attributes:
        length: tokens of every text: longer ones are cut, shorter ones filled up.
        lower_case: lower-case texts first; the tokenizer does not do so itself.
        mask: tell the model what a text was filled up with.
        side: where it is filled up.
        ends_with_eos: every text ends with the end-of-sequence token.
        looks_for: number of the end-of-sequence token by the model's config, where the model reads a text at it.
    """

    length: int
    lower_case: bool = False
    mask: bool = False
    side: PaddingSide = "right"
    ends_with_eos: bool = True
    looks_for: int | None = None

    def name(self, tokenizer: Any) -> str:
        """`ModelCard.tokenisation`: other tokens, another name."""
        case = "lower" if self.lower_case else "own"
        return f"{type(tokenizer).__name__} {self.length} {case} {self.side} {'mask' if self.mask else 'no mask'}"

    def apply(self, checkpoint: Checkpoint, tokenizer: Any, vocabulary: int) -> None:
        """Set the tokenizer to them, whatever its own config says of the side.

        Args:
            checkpoint: whose it is.
            tokenizer: the checkpoint's own; is changed.
            vocabulary: tokens the model knows.

        Raises:
            ModelLoadError: it has no token to fill texts up with that the model knows, has no end-of-sequence token, or
                does not end texts with it: its config was lost. Or it is another model's.
        """
        tokenizer.padding_side = self.side
        if tokenizer.vocab_size > vocabulary:
            raise checkpoint.refused(
                f"its tokenizer has {tokenizer.vocab_size:,} tokens, and config.json says {vocabulary:,}: the "
                "tokenizer's files are another checkpoint's; copy them from the checkpoint again"
            )
        pad = tokenizer.pad_token_id
        if pad is None or not 0 <= pad < vocabulary:
            raise checkpoint.refused(
                f"its tokenizer fills texts up with {tokenizer.pad_token!r} (pad_token of tokenizer_config.json), "
                f"which is none of the {vocabulary:,} tokens that the model knows: copy the tokenizer's files from the "
                "checkpoint again"
            )
        if not self.ends_with_eos:
            return
        eos, ids = tokenizer.eos_token_id, list(tokenizer("a")["input_ids"])
        if eos is None or not ids or ids[-1] != eos:
            raise checkpoint.refused(NO_END)
        if self.looks_for not in (None, eos):
            raise checkpoint.refused(
                f"its tokenizer ends texts with the token {eos}, and config.json says {self.looks_for}: the "
                "tokenizer's files are another checkpoint's; copy them from the checkpoint again"
            )


def lower_case(text: str) -> str:
    """A text in lower case as tokenizers have it: each character by itself, so that a Greek sigma is never a final one.

    So do TensorFlow's and Hugging Face's tokenizers; `str.lower` looks at what stands around.
    """
    return text.lower() if "\u03a3" not in text else "".join(character.lower() for character in text)


class TokenTexts:
    """The text half of a loaded transformers model.

    Args:
        model: a model with `get_text_features`, in eval mode, on its device.
        tokenizer: the checkpoint's own, with the rules applied.
        rules: the checkpoint's.
        vocabulary: tokens the model knows; the tokenizer may have more, special ones as a rule.
        threads: CPU threads of a forward pass.
    """

    def __init__(self, model: Any, tokenizer: Any, rules: TextRules, *, vocabulary: int, threads: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._rules = rules
        self._vocabulary = vocabulary
        self._threads = threads

    def encode(self, texts: Sequence[str]) -> Vectors:
        """`n` texts -> `(n, dim)` float32, not normalised. A text of more than `length` tokens is cut, with a warning.

        Raises:
            ConfigError, OutOfMemory, ScorerError: see `TextTower.encode`.
        """
        use_threads(self._threads)
        rows = []
        for start in range(0, len(texts), _BATCH):
            batch = [lower_case(text) if self._rules.lower_case else text for text in texts[start : start + _BATCH]]
            self._warn_of_truncation(batch)
            encoded = self._tokenizer(
                batch,
                padding="max_length",
                max_length=self._rules.length,
                truncation=True,
                return_attention_mask=self._rules.mask,  # whatever its own config says
                return_tensors="pt",
            )
            self._refuse_unknown(batch, encoded["input_ids"])
            # Without a mask where the model was trained without: with one the embedding is another.
            names = ("input_ids", "attention_mask") if self._rules.mask else ("input_ids",)
            with torch.inference_mode(), device_errors(len(batch)):
                inputs = {name: encoded[name].to(self._model.device) for name in names}
                rows.append(pooled(self._model.get_text_features(**inputs)).cpu().numpy())
        return np.concatenate(rows)

    def _refuse_unknown(self, texts: Sequence[str], ids: torch.Tensor) -> None:
        """On CUDA a row that is not there breaks the device for good, not the text alone."""
        for text, highest in zip(texts, ids.max(dim=1).values.tolist(), strict=True):
            if highest >= self._vocabulary:
                raise ConfigError(
                    f"the text {text[:80]!r} holds a special token of the tokenizer's (number {highest}), and the "
                    f"model knows {self._vocabulary:,} tokens alone: write the label or its prompt without it"
                )

    def _warn_of_truncation(self, texts: Sequence[str]) -> None:
        with _quiet_tokenizer():
            lengths = [len(ids) for ids in self._tokenizer(list(texts))["input_ids"]]
        for text, length in zip(texts, lengths, strict=True):
            if length > self._rules.length:
                log.warning(
                    "prompt of %d tokens cut to %d, its end is not scored: %.80s…", length, self._rules.length, text
                )


@contextlib.contextmanager
def _quiet_tokenizer() -> Iterator[None]:
    """The tokenizer warns of long input without naming it; our own warning does."""
    logger = logging.getLogger("transformers.tokenization_utils_base")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
