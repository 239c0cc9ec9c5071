"""How one control is answered, and the rules kept for sets of labels that come with items."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from ..arrays import Vectors
from .answers import Answerer

_OPTIONS_KEPT = 20_000
"""Labels kept in all the sets that came with items; their text vectors are cached by label besides."""


class Rules(NamedTuple):
    """How one control is answered: the rule, and `(n_leaves, dim)` text vectors, rows of length 1."""

    answerer: Answerer
    texts: Vectors


class KeptRules:
    """The rules of sets of labels seen lately, as many as hold `_OPTIONS_KEPT` labels together. Thread-safe."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[str, str], Rules] = OrderedDict()
        self._labels = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str]) -> Rules | None:
        """The rules kept under this key."""
        with self._lock:
            known = self._made.get(key)
            if known:
                self._made.move_to_end(key)
            return known

    def keep(self, key: tuple[str, str], made: Rules) -> None:
        """Keep the rules under this key; the longest unused ones go."""
        with self._lock:
            if key not in self._made:
                self._made[key] = made
                self._labels += len(made.texts)
            while self._labels > _OPTIONS_KEPT and len(self._made) > 1:
                _, dropped = self._made.popitem(last=False)
                self._labels -= len(dropped.texts)
