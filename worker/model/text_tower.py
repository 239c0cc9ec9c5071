"""The text half of a transformers model: tokens of one length in, vectors out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ..arrays import Vectors
from .devices import device_errors, use_threads

log = logging.getLogger(__name__)

_BATCH = 64


class PaddedTexts:
    """A text tower that was trained on texts padded to one length, without an attention mask.

    Args:
        model: a loaded model with `get_text_features`, in eval mode, on its device.
        tokenizer: the checkpoint's own.
        length: tokens of every text. Padding any other way silently changes the vectors.
        lower_case: lower-case texts first.
        threads: CPU threads of a forward pass.
    """

    def __init__(self, model: Any, tokenizer: Any, *, length: int, lower_case: bool, threads: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._length = length
        self._lower_case = lower_case
        self._threads = threads

    def encode(self, texts: Sequence[str]) -> Vectors:
        """`n` texts -> `(n, dim)` float32, not normalised. A text of more than `length` tokens is cut, with a warning.

        Raises:
            OutOfMemory, ScorerError: see `TextTower.encode`.
        """
        use_threads(self._threads)
        rows = []
        for start in range(0, len(texts), _BATCH):
            batch = [text.lower() if self._lower_case else text for text in texts[start : start + _BATCH]]
            self._warn_of_truncation(batch)
            encoded = self._tokenizer(
                batch, padding="max_length", max_length=self._length, truncation=True, return_tensors="pt"
            )
            with torch.inference_mode(), device_errors(len(batch)):
                # input_ids only: with an attention mask the embedding is another one.
                ids = encoded["input_ids"].to(self._model.device)
                rows.append(_to_numpy(self._model.get_text_features(input_ids=ids)))
        return np.concatenate(rows)

    def _warn_of_truncation(self, texts: Sequence[str]) -> None:
        with _quiet_tokenizer():
            lengths = [len(ids) for ids in self._tokenizer(list(texts))["input_ids"]]
        for text, length in zip(texts, lengths, strict=True):
            if length > self._length:
                log.warning("prompt of %d tokens cut to %d, its end is not scored: %.80s…", length, self._length, text)


def _to_numpy(features: Any) -> Vectors:
    # transformers 5 returns an output object, 4 returned the tensor.
    tensor = getattr(features, "pooler_output", features)
    result: Vectors = tensor.to(torch.float32).cpu().numpy()
    return result


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
