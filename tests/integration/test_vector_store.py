"""The vector store of docs/extending.md, installed as the package it tells people to make."""

from __future__ import annotations

# --8<-- [start:store]
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from prelabel.schemas import Settings
from prelabel.worker.arrays import Vectors
from prelabel.worker.vectors.records import Block, floats, pack, vectors_of


class MemoryStore:
    """An `EmbeddingStore` in a dictionary: gone with the process, and never full."""

    def __init__(self, settings: Settings) -> None:  # settings.vector_store is the URL, for stores that need it
        self._records: dict[bytes, bytes] = {}
        self._stamps: dict[bytes, bytes] = {}

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        return {keys[at]: floats(rows)[0] for (at,), rows in self.blocks(keys)}

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        self._records.update(pack(vectors))  # key and fp16 row with a checksum; leaves out what fp16 cannot hold

    def lookup(self, stamps: Sequence[bytes]) -> dict[bytes, bytes]:
        return {stamp: self._stamps[stamp] for stamp in stamps if stamp in self._stamps}

    def remember(self, stamps: Mapping[bytes, bytes]) -> None:
        self._stamps.update(stamps)

    def blocks(self, keys: Sequence[bytes], rows: int = 2048) -> Iterator[Block]:
        for position, key in enumerate(keys):
            if key in self._records:
                record = np.frombuffer(self._records[key], dtype=np.uint8)[np.newaxis]  # on disk: see `sound`
                yield Block(np.array([position]), vectors_of(record))

    def flush(self, timeout_s: float = 10.0) -> None: ...

    def close(self) -> None: ...


# --8<-- [end:store]

from pathlib import Path

from prelabel.schemas.settings import load_settings
from prelabel.worker.vectors.open import GROUP, open_store
from tests.packages import Site, announced_in_docs, marked


def test_a_store_gives_back_what_was_put(site: Site) -> None:
    site.install("my_memory", marked(Path(__file__), "store"), GROUP, *announced_in_docs(GROUP))
    store = open_store(load_settings(vector_store="memory://"))
    assert type(store).__module__ == "my_memory"
    a, b, c = (letter * 16 for letter in (b"a", b"b", b"c"))
    store.put({a: np.arange(3, dtype=np.float32), b: np.full(3, np.nan, dtype=np.float32)})
    store.remember({b"stamp": a})
    assert store.lookup([b"stamp", b"other"]) == {b"stamp": a}
    assert {key: row.tolist() for key, row in store.get([a, b, c]).items()} == {a: [0, 1, 2]}
    (block,) = store.blocks([c, a])
    assert (block.positions.tolist(), block.vectors.tolist()) == ([1], [[0, 1, 2]])
