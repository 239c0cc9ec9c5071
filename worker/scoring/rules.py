"""How one control is answered, and the rules kept for sets of labels that come with items."""

from __future__ import annotations

import threading
from typing import NamedTuple

from cachetools import LRUCache

from ..arrays import Vectors
from .answers import Answerer

_OPTIONS_KEPT = 20_000
"""Labels kept in all the sets that came with items; their text vectors are cached by label besides."""


class Rules(NamedTuple):
    """How one control is answered: the rule, and `(n_leaves, dim)` text vectors, rows of length 1."""

    answerer: Answerer
    texts: Vectors


def _size(rules: Rules) -> int:
    return min(len(rules.texts), _OPTIONS_KEPT)  # a set of more labels than that is kept as long as it is the only one


class KeptRules:
    """The rules of sets of labels seen lately, as many as hold `_OPTIONS_KEPT` labels together. Thread-safe."""

    def __init__(self) -> None:
        self._rules: LRUCache[tuple[str, str], Rules] = LRUCache(_OPTIONS_KEPT, getsizeof=_size)
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str]) -> Rules | None:
        """The rules kept under this key."""
        with self._lock:
            return self._rules.get(key)

    def keep(self, key: tuple[str, str], rules: Rules) -> None:
        """Keep the rules under this key; the longest unused ones go."""
        with self._lock:
            self._rules[key] = rules
