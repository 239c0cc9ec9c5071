"""An image's vector, at hand or on its way."""

from __future__ import annotations

from concurrent.futures import Future
from typing import NamedTuple, Self

from ..arrays import Vectors


class PendingVector(NamedTuple):
    """An image's vector, at hand or on its way.

    Attributes:
        key: under which the vector store has it, or will.
        vector: `(dim,)` float32, un-normalised.
        thumbnail: see `Showcase.thumbnail`; empty for most.
    """

    key: bytes
    vector: Future[Vectors]
    thumbnail: str = ""

    @classmethod
    def at_hand(cls, key: bytes, vector: Vectors) -> Self:
        """One that nobody has to wait for."""
        done: Future[Vectors] = Future()
        done.set_result(vector)
        return cls(key, done)
