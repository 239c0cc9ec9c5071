"""An image's vector, at hand or on its way."""

from __future__ import annotations

from concurrent.futures import Future
from typing import NamedTuple, Self

from ..arrays import Vectors


class Known:
    """What a future of a vector is once it is there: without the locks of one that somebody waits for.

    Args:
        vector: `(dim,)` float32.
    """

    __slots__ = ("_vector",)

    def __init__(self, vector: Vectors) -> None:
        self._vector = vector

    def result(self) -> Vectors:
        """The vector."""
        return self._vector

    def exception(self) -> None:
        """None: it is there."""


class PendingVector(NamedTuple):
    """An image's vector, at hand or on its way.

    Attributes:
        key: under which the vector store has it, or will.
        vector: `(dim,)` float32, un-normalised.
        thumbnail: see `Showcase.thumbnail`; empty for most.
    """

    key: bytes
    vector: Future[Vectors] | Known
    thumbnail: str = ""

    @classmethod
    def at_hand(cls, key: bytes, vector: Vectors) -> Self:
        """One that nobody has to wait for."""
        return cls(key, Known(vector))
