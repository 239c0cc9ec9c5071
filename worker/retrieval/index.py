"""The nearest rows to a vector, exactly. `NumpyIndex` needs nothing but numpy; others keep to the same contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..arrays import Vectors
from ..vectors.records import Halves, floats
from .codes import Codes
from .exact import Found, Shortlist, nearest, rounding, together

__all__ = ["Found", "NumpyIndex", "VectorIndex"]

_ROWS: Final = 384
"""Rows multiplied at once: 1.2 MB of 768 float32 components, which stay in a core's own cache."""

_BLOCK: Final = 32 * _ROWS
"""Rows whose cosines are looked at together."""


class VectorIndex(Protocol):
    """Finds rows of a collection. Thread-safe."""

    def search(self, queries: Vectors, k: int, within: NDArray[np.bool_] | None = None) -> Found:
        """The `k` nearest rows by cosine, in the order of their cosines in float64.

        Args:
            queries: `(q, dim)` float32, rows of length 1.
            k: 1 or more.
            within: `(n,)` which rows may be found; None is all.
        """
        ...


class NumpyIndex:
    """Looks at every row, a block at a time: memory does not grow with their number.

    Args:
        vectors: `(n, dim)` float16, rows of length 1; may be mapped.
        codes: the same rows in short, `codes.encode`: a search takes a third of the time, for half the bytes of the
            rows once more. What is found is the same.
    """

    def __init__(self, vectors: Halves, codes: Codes | None = None) -> None:
        self._vectors = vectors
        self._codes = codes
        self._rounding = np.float32(rounding(vectors.shape[1]))

    def search(self, queries: Vectors, k: int, within: NDArray[np.bool_] | None = None) -> Found:
        """See `VectorIndex.search`."""
        lists = [Shortlist(k) for _ in queries]
        for rows in self._blocks(within):
            cosines, errors = self._products(rows, queries)
            for shortlist, theirs in zip(lists, cosines, strict=True):
                shortlist.add(rows, theirs, errors)
        return together(
            [nearest(self._vectors, query, each.rows(), k) for query, each in zip(queries, lists, strict=True)]
        )

    def _blocks(self, within: NDArray[np.bool_] | None) -> Iterator[NDArray[np.int64]]:
        """Numbers of the rows that may be found, a block at a time."""
        count = len(self._vectors)
        wanted = None if within is None else np.flatnonzero(within)
        for start in range(0, count if wanted is None else len(wanted), _BLOCK):
            if wanted is None:
                yield np.arange(start, min(count, start + _BLOCK))
            else:
                yield wanted[start : start + _BLOCK]

    def _products(self, rows: NDArray[np.int64], queries: Vectors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`(q, m)` cosines that may be off, and by how much: `(m,)`."""
        cosines = np.empty((len(queries), len(rows)), dtype=np.float32)
        # A run of rows is read where it lies; others are picked out first.
        is_run = len(rows) == rows[-1] - rows[0] + 1
        columns = np.ascontiguousarray(queries.T)
        room = np.empty((_ROWS, queries.shape[1]), dtype=np.float32)
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            place = slice(some[0], some[-1] + 1) if is_run else some
            if self._codes is None:
                block = floats(np.asarray(self._vectors[place]))
            else:
                block = room[: len(some)]
                np.copyto(block, self._codes.values[place])
            cosines[:, start : start + len(some)] = (block @ columns).T
        if self._codes is None:
            return cosines, np.full(len(rows), self._rounding)
        place = slice(rows[0], rows[-1] + 1) if is_run else rows
        cosines *= self._codes.steps[place]
        return cosines, self._codes.errors[place] + self._rounding
