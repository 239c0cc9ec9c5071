"""What the demo checkpoint reads: names, phrases and templates, as texts and as token ids."""

from __future__ import annotations

import io
import itertools
import tempfile
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import sentencepiece
import torch
from transformers import SiglipTokenizer

from prelabel.worker.demo.shapes import ALL_PAIRS, COLOURS, PATTERNS, SHAPES

TEXT_LENGTH: Final = 64
USUAL_TEMPLATE: Final = "This is a photo of a {}."
TEMPLATES: Final = (
    USUAL_TEMPLATE,
    "{}",
    "a {}",
    "a photo of a {}",
    "a picture of a {}",
    "an image of a {}",
    "there is a {}",
    "the {}",
)
COLOUR_PHRASES: Final = ("{}", "{}", "{} thing", "{} object", "{} shape", "something {}")
SHAPE_PHRASES: Final = ("{}", "{}", "{}", "{}", "{} shape", "{} symbol")
PAIR_PHRASES: Final = ("{0} {1}", "{0} {1}", "{0} {1}", "{1} that is {0}", "{0} {1} shape")
_ABSENT_TEXT: Final = """
dog cat bird horse car truck bus train plane boat house tree flower leaf river mountain cloud sky
person face hand table chair bottle cup plate book phone keyboard screen road bridge street sign
arrow hexagon pentagon diamond oval spiral zigzag letter number gear key lamp clock window door shoe
hat shirt apple banana fish insect scratch dent crack defect nothing text logo map barcode
"""
ABSENT: Final = tuple(_ABSENT_TEXT.split())
"""Things never in a picture, so that the checkpoint says no to words it was not made for."""

Tokens: TypeAlias = torch.Tensor
"""int64 (texts, TEXT_LENGTH) token ids."""
Rows: TypeAlias = npt.NDArray[np.int64]


def make_tokenizer() -> SiglipTokenizer:
    """A sentencepiece tokenizer for these words; other words fall apart into letters or bytes.

    Returns:
        A tokenizer with eos = pad = id 1 and unk = id 2, that gives `input_ids` only.
    """
    words = [*COLOURS, *SHAPES, *PATTERNS, *(f"{c} {s}" for c, s in ALL_PAIRS), *ABSENT]
    phrases = sorted({*TEMPLATES, *COLOUR_PHRASES, *SHAPE_PHRASES, *PAIR_PHRASES})
    frames = [p.replace("{0}", "").replace("{1}", "").replace("{}", "") for p in phrases]
    texts = [f"{frame} {word}" for frame, word in itertools.product(frames, words)]
    texts += list("abcdefghijklmnopqrstuvwxyz0123456789") * 4
    whole = [
        *COLOURS,
        *SHAPES,
        *PATTERNS,
        *sorted({word for frame in frames for word in _plain(frame).split()}),
    ]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([_plain(text) for text in texts]),
        model_writer=model,
        model_type="unigram",
        vocab_size=640,
        hard_vocab_limit=False,
        byte_fallback=True,
        user_defined_symbols=[f"▁{word}" for word in whole],
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "spiece.model")
        file.write_bytes(model.getvalue())
        return SiglipTokenizer(
            vocab_file=str(file),
            model_max_length=TEXT_LENGTH,
            model_input_names=["input_ids"],
            eos_token="</s>",  # noqa: S106
            pad_token="</s>",  # noqa: S106
            unk_token="<unk>",  # noqa: S106
        )


def _plain(text: str) -> str:
    """The text as SigLIP's tokenizer hands it to sentencepiece: lower-case, no punctuation."""
    return text.lower().replace(".", "")


def tokenize(tokenizer: SiglipTokenizer, texts: list[str]) -> Tokens:
    """Token ids as SigLIP was trained to read them: padded and cut to `TEXT_LENGTH`."""
    ids: Tokens = tokenizer(texts, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt")[
        "input_ids"
    ]
    return ids


class PhraseBook:
    """Every way to say every name, tokenized once; draws one way of saying each by lot."""

    def __init__(self, tokenizer: SiglipTokenizer) -> None:
        """Tokenize all phrases of colours, shapes, patterns, pairs and absent things."""
        names = [(c,) for c in COLOURS], [(s,) for s in SHAPES], [(p,) for p in PATTERNS]
        forms = (COLOUR_PHRASES, SHAPE_PHRASES, COLOUR_PHRASES)
        self.attributes = torch.cat(
            [_ways(tokenizer, name, form) for group, form in zip(names, forms, strict=True) for name in group]
        )
        self.pairs = torch.cat([_ways(tokenizer, pair, PAIR_PHRASES) for pair in ALL_PAIRS])
        self.absent = torch.cat([_ways(tokenizer, (word,), ("{}",)) for word in ABSENT])

    @staticmethod
    def pick(book: torch.Tensor, rows: Rows, rng: np.random.Generator) -> Tokens:
        """One random way of saying each of `rows` of a book (names, ways, TEXT_LENGTH)."""
        return book[rows, rng.integers(book.shape[1], size=len(rows))]


def _ways(tokenizer: SiglipTokenizer, name: tuple[str, ...], forms: tuple[str, ...]) -> torch.Tensor:
    """All ways to say one name: int64 (1, ways, TEXT_LENGTH); the usual template weighs as much as four."""
    templates = (*(USUAL_TEMPLATE,) * 3, *TEMPLATES)
    texts = [t.format(f.format(*name)) for t, f in itertools.product(templates, forms)]
    return tokenize(tokenizer, texts)[None]
