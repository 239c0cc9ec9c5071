"""The nearest rows to a vector, exactly. `NumpyIndex` needs nothing but numpy; others keep to the same contract."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..arrays import Vectors
from ..vectors.records import Halves, floats

_ROWS: Final = 2048
"""Rows multiplied at once: 6 MB of 768 float32 components, which stay in the cache."""

_FEW: Final = 1 / 3
"""Share of the rows below which those that are wanted are picked out first."""


class Found(NamedTuple):
    """The nearest rows to each of `q` queries, the nearest first; of equals the one with the smaller number.

    Attributes:
        rows: `(q, k')` int64, `k'` being `k` or as many rows as there are.
        cosines: `(q, k')` float32.
    """

    rows: NDArray[np.int64]
    cosines: NDArray[np.float32]


class VectorIndex(Protocol):
    """Finds rows of a collection. Thread-safe."""

    def search(self, queries: Vectors, k: int, within: NDArray[np.bool_] | None = None) -> Found:
        """The `k` nearest rows by cosine.

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
    """

    def __init__(self, vectors: Halves) -> None:
        self._vectors = vectors

    def search(self, queries: Vectors, k: int, within: NDArray[np.bool_] | None = None) -> Found:
        """See `VectorIndex.search`."""
        best = _Best(len(queries), k)
        if within is not None and within.mean() < _FEW:
            wanted = np.flatnonzero(within)
            for start in range(0, len(wanted), _ROWS):
                rows = wanted[start : start + _ROWS]
                best.add(rows, floats(np.asarray(self._vectors[rows])) @ queries.T)
            return best.found()
        for start in range(0, len(self._vectors), _ROWS):
            block = np.asarray(self._vectors[start : start + _ROWS])
            cosines = floats(block) @ queries.T
            rows = np.arange(start, start + len(block))
            if within is not None:
                there = within[start : start + _ROWS]
                rows, cosines = rows[there], cosines[there]
            best.add(rows, cosines)
        return best.found()


class _Best:
    """The best of what was added so far, for each query."""

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self._rows: NDArray[np.int64] = np.zeros((queries, 0), dtype=np.int64)
        self._cosines: NDArray[np.float32] = np.zeros((queries, 0), dtype=np.float32)

    def add(self, rows: NDArray[np.intp], cosines: NDArray[np.float32]) -> None:
        """`(m,)` rows and their `(m, q)` cosines."""
        if not len(rows):
            return
        if self._cosines.shape[1] == self._k:
            # Most blocks have nothing that is better than the worst of the best.
            hopeful = (cosines > self._cosines.min(axis=1)).any(axis=1)
            rows, cosines = rows[hopeful], cosines[hopeful]
        every: NDArray[np.float32] = np.concatenate([self._cosines, cosines.T], axis=1)
        numbers: NDArray[np.int64] = np.concatenate([self._rows, np.broadcast_to(rows, cosines.T.shape)], axis=1)
        if every.shape[1] > self._k:
            # Of equals at the edge the smaller number counts: rows come in order, so a stable sort keeps it.
            kept = np.argsort(-every, axis=1, kind="stable")[:, : self._k]
            every = np.take_along_axis(every, kept, 1)
            numbers = np.take_along_axis(numbers, kept, 1)
        self._rows, self._cosines = numbers, every

    def found(self) -> Found:
        """The nearest first."""
        order = np.lexsort((self._rows, -self._cosines), axis=1)
        return Found(np.take_along_axis(self._rows, order, 1), np.take_along_axis(self._cosines, order, 1))
