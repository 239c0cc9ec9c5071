"""From cosines that are nearly right to the right ones: which rows may be among the nearest, and which of them are.

An index looks at all rows with float32 products, or at a coarse form of the rows, and knows how far off it may be. It
keeps every row that may be among the nearest by that. Of these few the cosines are computed from the rows themselves in
float64, where a product of fp16 and float32 is exact and a sum of 768 of them is off by 1e-13 at most: every index
finds the same rows in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import Vectors
from ..vectors.records import Halves, floats

_AT_ONCE: Final = 1024
"""Rows whose cosines are computed at once: 6 MB of 768 float64 components."""


class Found(NamedTuple):
    """The nearest rows to each of `q` queries, the nearest first; of equals the one with the smaller number.

    Attributes:
        rows: `(q, k')` int64, `k'` being `k` or as many rows as there are.
        cosines: `(q, k')` float32.
    """

    rows: NDArray[np.int64]
    cosines: NDArray[np.float32]


def rounding(dim: int) -> float:
    """How far a float32 product of two vectors of length 1 and `dim` components is from the right one at most.

    The bound `n u` of a sum in any order (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1),
    `u` being 2 ** -24, and a tenth more for rows whose length fp16 has rounded up.
    """
    return 1.1 * (dim + 2) * 2.0**-24


def cosines_of(vectors: Halves, query: Vectors, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """`(m,)`: the cosines of some rows, the same for equal rows wherever they are.

    Args:
        vectors: `(n, dim)` float16, rows of length 1.
        query: `(dim,)` float32, of length 1.
        rows: `(m,)` numbers of rows.
    """
    cosines = np.empty(len(rows), dtype=np.float64)
    exact = query.astype(np.float64)
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        # No matrix product: it adds in an order that depends on where in the matrix a row is.
        products = floats(np.asarray(vectors[some])) * exact
        cosines[start : start + len(some)] = products.sum(axis=1)
    return cosines


def nearest(vectors: Halves, query: Vectors, rows: NDArray[np.int64], k: int) -> Found:
    """The `k` nearest of some rows to one query; `(1, k')`.

    Args:
        vectors: `(n, dim)` float16, rows of length 1.
        query: `(dim,)` float32, of length 1.
        rows: `(m,)` numbers of rows, no two alike.
        k: 1 or more.
    """
    cosines = cosines_of(vectors, query, rows)
    order = np.lexsort((rows, -cosines))[:k]
    return Found(rows[order][np.newaxis], cosines[order].astype(np.float32)[np.newaxis])


def together(found: Sequence[Found]) -> Found:
    """What was found for each query, as one; no query is no row."""
    if not found:
        return Found(np.zeros((0, 0), dtype=np.int64), np.zeros((0, 0), dtype=np.float32))
    return Found(np.concatenate([one.rows for one in found]), np.concatenate([one.cosines for one in found]))


class Shortlist:
    """The rows that may be among the `k` nearest to a query by cosines that may be off.

    A row is left out when `k` others are surely nearer. What is held grows with the rows that nearly tie with the
    `k`-th, and not with those that were added.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._floor = -np.inf  # k rows have at least this cosine
        self._rows: list[NDArray[np.int64]] = []
        self._cosines: list[NDArray[np.float32]] = []
        self._errors: list[NDArray[np.float32]] = []
        self._held = 0
        self._tighten_at = k

    def add(self, rows: NDArray[np.int64], cosines: NDArray[np.float32], errors: NDArray[np.float32]) -> None:
        """Look at more rows.

        Args:
            rows: `(m,)` their numbers.
            cosines: `(m,)` float32, nearly right.
            errors: `(m,)` float32, how far each may be off.
        """
        hopeful = np.flatnonzero(cosines + errors >= self._floor)
        if not len(hopeful):
            return
        self._rows.append(rows[hopeful])
        self._cosines.append(cosines[hopeful])
        self._errors.append(errors[hopeful])
        self._held += len(hopeful)
        if self._held > self._tighten_at:
            self._tighten()

    def _tighten(self) -> None:
        rows = np.concatenate(self._rows)
        cosines = np.concatenate(self._cosines)
        errors = np.concatenate(self._errors)
        if len(rows) > self._k:
            # Rounding of these few sums is far below the tenth that `rounding` has to spare.
            self._floor = float(-np.partition(errors - cosines, self._k - 1)[self._k - 1])
            kept = cosines + errors >= self._floor
            rows, cosines, errors = rows[kept], cosines[kept], errors[kept]
        self._rows, self._cosines, self._errors = [rows], [cosines], [errors]
        self._held = len(rows)
        self._tighten_at = 2 * max(self._k, self._held)  # not at every block where many rows tie

    def rows(self) -> NDArray[np.int64]:
        """`(m,)`, `k` or more where as many were added."""
        if not self._held:
            return np.zeros(0, dtype=np.int64)
        self._tighten()
        return self._rows[0]
