"""Text vectors: one per label, encoded once and kept."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np

from ..schemas.taxonomy import Taxonomy
from .scorer import Encoder, Vectors
from .scoring import average_prompts


class TextVectors:
    """A bounded cache from a label's prompts to its averaged, normalised vector. Thread-safe.

    Keyed by prompts and not by taxonomy: after an edit only the new labels are encoded.

    Args:
        encoder: encodes the prompts.
        capacity: labels kept; the least recently used go first.
    """

    def __init__(self, encoder: Encoder, capacity: int) -> None:
        self._encoder = encoder
        self._capacity = capacity
        self._vectors: OrderedDict[tuple[str, ...], Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def matrix(self, taxonomy: Taxonomy) -> Vectors:
        """`(n_leaves, dim)` float32, rows of length 1, in the order of `taxonomy.leaves()`."""
        wanted = taxonomy.prompts()
        with self._lock:  # one thread encodes, the others find its work done
            missing = [prompts for prompts in dict.fromkeys(wanted) if prompts not in self._vectors]
            fresh: dict[tuple[str, ...], Vectors] = {}
            if missing:
                encoded = self._encoder.encode_texts([text for prompts in missing for text in prompts])
                averaged = average_prompts(encoded, [len(prompts) for prompts in missing])
                fresh = dict(zip(missing, averaged, strict=True))
            rows = [fresh[prompts] if prompts in fresh else self._vectors[prompts] for prompts in wanted]
            self._vectors.update(fresh)
            for prompts in wanted:
                self._vectors.move_to_end(prompts)
            while len(self._vectors) > self._capacity:
                self._vectors.popitem(last=False)
        return np.stack(rows)
