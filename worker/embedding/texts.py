"""Text vectors: one per label, encoded once and kept."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from weakref import WeakValueDictionary

import numpy as np
from cachetools import LRUCache

from ...schemas.errors import OutOfMemory
from ...schemas.taxonomy import Taxonomy
from ..arrays import Vectors
from ..model.encoder import Encoder, TextTower
from ..model.similarity import average_prompts
from ..vectors.keys import text_key, text_space
from ..vectors.records import as_stored
from ..vectors.store import EmbeddingStore, NoStore

_SLICE = 64
"""Labels encoded before somebody else gets a turn."""


class TextVectors:
    """A bounded cache from a label's prompts to its averaged, normalised vector. Thread-safe.

    Keyed by prompts and not by taxonomy: after an edit only the new labels are encoded.

    Args:
        encoder: encodes the prompts.
        capacity: labels kept; the least recently used go first.
        store: prompts encoded by earlier workers.
    """

    def __init__(self, encoder: Encoder, capacity: int, store: EmbeddingStore | None = None) -> None:
        self._tower = encoder.texts
        self._store = store or NoStore()
        self._space = text_space(encoder.card, encoder.dtype)
        self._vectors: LRUCache[tuple[str, ...], Vectors] = LRUCache(capacity)
        # Label Studio asks with a job for every task: jobs with the same labels share a matrix while one of them lives.
        self._matrices: WeakValueDictionary[tuple[tuple[str, ...], ...], Vectors] = WeakValueDictionary()
        self._lock = threading.Lock()
        self._encoding = threading.Lock()

    def matrix(self, taxonomy: Taxonomy) -> Vectors:
        """`(n_leaves, dim)` float32, rows of length 1, in the order of `taxonomy.leaves()`.

        A taxonomy whose labels are all known never waits for another one's encoding.
        """
        return self.averages(tuple(taxonomy.prompts()))

    def averages(self, wanted: Sequence[tuple[str, ...]]) -> Vectors:
        """`(n, dim)` float32, rows of length 1: the mean of each one's prompts, as a label with these has it.

        Args:
            wanted: `n` times the prompts that are averaged.
        """
        wanted = tuple(wanted)
        with self._lock:
            shared = self._matrices.get(wanted)
        if shared is not None:
            return shared
        rows = self._known(wanted)
        missing = [prompts for prompts in dict.fromkeys(wanted) if prompts not in rows]
        for start in range(0, len(missing), _SLICE):
            with self._encoding:  # one at a time on the device; who waits here may find its labels done
                labels = missing[start : start + _SLICE]
                rows.update(self._known(labels))
                rows.update(self._encode([prompts for prompts in labels if prompts not in rows]))
        matrix = np.stack([rows[prompts] for prompts in wanted])
        matrix.flags.writeable = False
        with self._lock:
            return self._matrices.setdefault(wanted, matrix)

    def _known(self, wanted: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], Vectors]:
        with self._lock:
            return {prompts: self._vectors[prompts] for prompts in wanted if prompts in self._vectors}

    def _encode(self, labels: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], Vectors]:
        if not labels:
            return {}
        encoded = self._embed([text for prompts in labels for text in prompts])
        fresh = dict(zip(labels, average_prompts(encoded, [len(prompts) for prompts in labels]), strict=True))
        with self._lock:
            self._vectors.update(fresh)
        return fresh

    def _embed(self, texts: Sequence[str]) -> Vectors:
        """`(n, dim)` vectors of `n` texts, from the store where they are there."""
        keys = [text_key(self._space, text) for text in texts]
        known = self._store.get(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            encoded = as_stored(encode_halving(self._tower, list(missing.values())))
            fresh = dict(zip(missing, encoded, strict=True))
            self._store.put(fresh)
            known |= fresh
        return np.stack([known[key] for key in keys])


def encode_halving(tower: TextTower, texts: Sequence[str]) -> Vectors:
    """`tower.encode`, in halves and halves of halves where memory does not hold them all.

    Raises:
        OutOfMemory: not even one text fits.
    """
    try:
        return tower.encode(texts)
    except OutOfMemory:
        if len(texts) == 1:
            raise
        half = len(texts) // 2
        return np.concatenate([encode_halving(tower, texts[:half]), encode_halving(tower, texts[half:])])
