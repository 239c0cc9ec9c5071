"""A vector store that counts what it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from ..telemetry.metrics import store_reads

if TYPE_CHECKING:
    from ..arrays import Vectors
    from .records import Block
    from .store import EmbeddingStore


class CountingStore:
    """An embedding store whose hits and misses are counted; otherwise the store itself.

    Args:
        store: does the work.
        of: what its vectors are of.
    """

    def __init__(self, store: EmbeddingStore, of: Literal["images", "texts"]) -> None:
        self._store = store
        self._hits = store_reads.labels(of, "hit")
        self._misses = store_reads.labels(of, "miss")

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """See `EmbeddingStore.get`."""
        vectors = self._store.get(keys)
        self._hits.inc(len(vectors))
        self._misses.inc(len(set(keys)) - len(vectors))
        return vectors

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        """See `EmbeddingStore.put`."""
        self._store.put(vectors)

    def lookup(self, stamps: Sequence[bytes]) -> dict[bytes, bytes]:
        """See `EmbeddingStore.lookup`; the vector is asked for next, and counts then."""
        return self._store.lookup(stamps)

    def remember(self, stamps: Mapping[bytes, bytes]) -> None:
        """See `EmbeddingStore.remember`."""
        self._store.remember(stamps)

    def blocks(self, keys: Sequence[bytes], rows: int = 2048) -> Iterator[Block]:
        """See `EmbeddingStore.blocks`."""
        found = 0
        for block in self._store.blocks(keys, rows):
            found += len(block.positions)
            yield block
        self._hits.inc(found)
        self._misses.inc(len(keys) - found)

    def flush(self, timeout_s: float = 10.0) -> None:
        """See `EmbeddingStore.flush`."""
        self._store.flush(timeout_s)

    def close(self) -> None:
        """See `EmbeddingStore.close`."""
        self._store.close()
