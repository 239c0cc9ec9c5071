"""Texts as open_clip's tokenizers make tokens of them, to be called as those of transformers are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from .checkpoint import Checkpoint, quiet_transformers
from .openclip_config import OpenClipConfig
from .text_tower import NO_END

_SPECIAL: Final = re.compile(r"<.*>|\[.*\]", re.S)
"""Names that tokenizers give to what is no piece of a text."""


class OpenClipTokens:
    """A tokenizer of open_clip's; see `prelabel.worker.model.text_tower.TokenTexts`.

    Args:
        tokenizer: a `SimpleTokenizer` or an `HFTokenizer`.
        config: the checkpoint's.
    """

    def __init__(self, tokenizer: Any, config: OpenClipConfig) -> None:
        self._tokenizer = tokenizer
        self._theirs = getattr(tokenizer, "tokenizer", None)
        self._config = config

    @property
    def places(self) -> int:
        """How many tokens a model must know; special ones, like those that T5's adds of its own, are not counted."""
        if self._theirs is None:
            return int(self._tokenizer.vocab_size)
        return 1 + max(
            int(number) for token, number in self._theirs.get_vocab().items() if not _SPECIAL.fullmatch(token)
        )

    @property
    def padding_side(self) -> str:
        """Where it fills texts up: "right" or "left"."""
        return str(self._theirs.padding_side) if self._theirs else "right"

    @property
    def name(self) -> str:
        """`ModelCard.tokenisation`: other tokens, another name."""
        given = "".join(f" {name}={value!r}" for name, value in sorted(self._config.tokenizer.items()))
        mode = f" {self._config.tokenizer_mode}" if self._config.tokenizer_mode else ""
        kind = type(self._theirs or self._tokenizer).__name__
        return f"open_clip {kind} {self._config.context_length} {self.padding_side}{given}{mode}"

    def __call__(self, texts: Sequence[str], *, return_tensors: str = "", **_options: object) -> dict[str, Any]:
        """As a transformers tokenizer.

        Args:
            texts: some.
            return_tensors: "pt" gives `(n, context_length)` tokens, cut and filled up; without it there is a list for
                each text, neither cut nor filled up.
        """
        if return_tensors:
            return {"input_ids": self._tokenizer(list(texts))}
        if self._theirs is None:
            ends = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
            return {"input_ids": [[ends[0], *self._tokenizer.encode(text), ends[1]] for text in texts]}
        return self._whole([self._tokenizer.clean_fn(text) for text in texts])

    def _whole(self, cleaned: list[str]) -> dict[str, Any]:
        theirs: Any = self._theirs
        if self._config.tokenizer_mode != "clips":
            return {"input_ids": theirs(cleaned)["input_ids"]}
        bare = theirs(cleaned, add_special_tokens=False)["input_ids"]
        ends = theirs.eos_token_id, theirs.cls_token_id
        return {"input_ids": [[theirs.bos_token_id, *ids, *ends] for ids in bare]}

    @property
    def has_eos(self) -> bool:
        """Whether its texts are meant to have an end: CLIPA's, of BERT's tokenizer, have theirs stripped."""
        if self._theirs is None:
            return True
        return self._theirs.eos_token_id is not None and not self._config.tokenizer.get("strip_sep_token")

    def ends_with_eos(self) -> bool:
        """Whether a text ends with the end-of-sequence token."""
        if self._theirs is None:
            return True
        ids = self._theirs("a")["input_ids"]
        return self._theirs.eos_token_id is not None and list(ids)[-1:] == [self._theirs.eos_token_id]


def load_tokens(checkpoint: Checkpoint, config: OpenClipConfig, library: Any) -> OpenClipTokens:
    """The tokenizer of a checkpoint: its own files, or the one that comes with open_clip.

    Args:
        checkpoint: whose it is. Its tokenizer lies beside it, whatever repository its config names.
        config: its config.
        library: open_clip.

    Raises:
        ModelLoadError: its files are missing, damaged, or another checkpoint's.
    """
    if not config.own_tokenizer:
        return OpenClipTokens(library.SimpleTokenizer(context_length=config.context_length, **config.tokenizer), config)
    checkpoint.require_tokenizer("copy the checkpoint's tokenizer there too, tokenizer.save_pretrained(folder)")
    try:
        with quiet_transformers():
            made = library.tokenizer.HFTokenizer(
                checkpoint.source,
                context_length=config.context_length,
                tokenizer_mode=config.tokenizer_mode,
                revision=checkpoint.revision,
                trust_remote_code=False,
                **config.tokenizer,
            )
            tokens = OpenClipTokens(made, config)
            ends = tokens.ends_with_eos()
    except Exception as error:  # the loader raises a dozen unrelated types
        raise checkpoint.load_error(error) from error
    if config.ends_with_eos and tokens.has_eos and not ends:
        raise checkpoint.refused(NO_END)
    return tokens
