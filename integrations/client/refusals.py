"""What platforms refused, put together: the same reason once, with how often it was given and a few examples."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ...schemas.items import Item
from ...schemas.progress import PushRefusal
from ..ledger.refusals import Refused

EXAMPLES: Final = 3
"""Items named for each reason."""

REASONS: Final = 100
"""Reasons told apart; further ones count together, so that reading them takes little memory."""

OTHERS: Final = "other reasons"
"""What stands for further reasons."""

_NUMBER: Final = re.compile(r"(\d+)")
_ELLIPSIS: Final = "…"


class Reasons:
    """Counts refused items by their reason. Reasons that differ in numbers alone are one: each may name its task."""

    def __init__(self) -> None:
        self._reasons: dict[str, _Reason] = {}

    def add(self, item: Refused) -> None:
        """Count an item."""
        texts = _NUMBER.split(item.reason)
        kind = "0".join(texts[::2])
        if kind not in self._reasons and len(self._reasons) >= REASONS:
            kind, texts = OTHERS, [OTHERS]
        self._reasons.setdefault(kind, _Reason(texts)).add(texts, item.ordinal)

    def refusals(self, items: Callable[[Sequence[int]], Sequence[Item]]) -> list[PushRefusal]:
        """Each reason, the most frequent first.

        Args:
            items: brings the items with these ordinals.
        """
        return _ordered(
            PushRefusal(
                reason=reason.text, count=reason.count, examples=tuple(item.id for item in items(reason.examples))
            )
            for reason in self._reasons.values()
        )


class _Reason:
    """A reason as texts and, in every second place, numbers; how many items it has, and the ordinals of the first."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = list(texts)
        self.count = 0
        self.examples: list[int] = []

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def add(self, texts: Sequence[str], ordinal: int) -> None:
        self._texts = [text if text == other else _ELLIPSIS for text, other in zip(self._texts, texts, strict=True)]
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(ordinal)


def merged(refusals: Iterable[PushRefusal]) -> list[PushRefusal]:
    """Refusals of several jobs as if of one, the most frequent reason first."""
    merged: dict[str, PushRefusal] = {}
    for refusal in refusals:
        known = merged.get(refusal.reason)
        if known is not None:
            examples = tuple(dict.fromkeys(known.examples + refusal.examples))[:EXAMPLES]
            refusal = known.model_copy(update={"count": known.count + refusal.count, "examples": examples})
        merged[refusal.reason] = refusal
    return _ordered(merged.values())


def _ordered(refusals: Iterable[PushRefusal]) -> list[PushRefusal]:
    return sorted(refusals, key=lambda refusal: (-refusal.count, refusal.reason))
