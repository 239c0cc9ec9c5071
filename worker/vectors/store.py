"""Stored vectors: an image or a text is embedded once and then read back.

What a vector was made from is its key, so a store has nothing to invalidate: another model, revision, preprocessing,
content or region is another key. A store may forget anything at any time; it never gives a wrong vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from ..arrays import Vectors
from .records import Block

FLUSH_S = 10.0


@runtime_checkable
class EmbeddingStore(Protocol):
    """A cache of embeddings. Nothing it does ever fails a caller; what it cannot do now is a miss. Thread-safe."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Those that are stored and sound: float32 `(dim,)`, un-normalised, fp16-precise."""
        ...

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        """Store `(dim,)` vectors soon. Does not wait for disk or network.

        A vector that fp16 cannot hold (NaN, infinite, beyond 65504, or nearly nothing) is not stored.

        Raises:
            ValueError: a vector is not `(dim,)`, or a key not of 16 bytes.
        """
        ...

    def lookup(self, stamps: Sequence[bytes]) -> dict[bytes, bytes]:
        """Stamp to vector key: "this object with this ETag and size had that content"."""
        ...

    def remember(self, stamps: Mapping[bytes, bytes]) -> None:
        """Store stamps soon; call it after the vectors' `put`: a stamp may be dropped when its vector is not there."""
        ...

    def blocks(self, keys: Sequence[bytes], rows: int = 2048) -> Iterator[Block]:
        """Stream the sound ones of any number of keys in matrices of at most `rows`, in the store's order.

        Fastest when the keys stand in the order they were put. A key that is given twice comes twice.
        """
        ...

    def flush(self, timeout_s: float = FLUSH_S) -> None:
        """Wait until what was put can be read, or was given up, or the time is over."""
        ...

    def close(self) -> None:
        """Write what waits and let go of everything."""
        ...


class NoStore:
    """The store that holds nothing."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:  # noqa: ARG002
        """Nothing."""
        return {}

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        """Drop them."""

    def lookup(self, stamps: Sequence[bytes]) -> dict[bytes, bytes]:  # noqa: ARG002
        """Nothing."""
        return {}

    def remember(self, stamps: Mapping[bytes, bytes]) -> None:
        """Drop them."""

    def blocks(self, keys: Sequence[bytes], rows: int = 2048) -> Iterator[Block]:  # noqa: ARG002
        """Nothing."""
        return iter(())

    def flush(self, timeout_s: float = FLUSH_S) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""
