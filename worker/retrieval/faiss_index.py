"""The nearest rows to a vector with faiss' kernels, over our own rows where they lie: nothing is copied.

faiss' flat scan of fp16 codes (`IndexScalarQuantizer`, `QT_fp16`) is a scanner that walks over codes, and such codes
are fp16 rows one after the other, as ours are. The scanner takes the address of any, so it walks over a mapped file
without an index of faiss' own. Needs `pip install 'prelabel[search]'`; `open_index` says so.
"""

from __future__ import annotations

from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from ..arrays import Vectors
from ..vectors.records import Halves
from .exact import Found, nearest, rounding, together
from .index import NumpyIndex

_faiss: Any = faiss
"""Its type stubs leave out what is used here."""

_FEW: Final = 1 / 3
"""Share of the rows from which on skipping the others costs more than dropping them from what was found."""

_ROWS: Final = 65536
"""Rows scanned in one call for one query."""

_ROWS_OF_MANY: Final = 1024
"""And for several queries in turn: 1.5 MB of 768 fp16 components, which stay in a core's own cache meanwhile."""

_SPARE: Final = 64
"""Rows fetched beyond `k`: those that float32 may have put behind the k-th are among them, or more tie than that."""


class FaissIndex:
    """Looks at every row with the processor's own instructions for fp16.

    Args:
        vectors: `(n, dim)` float16, rows of length 1; may be mapped, and is read where it lies if its rows are
            adjacent in memory.
    """

    def __init__(self, vectors: Halves) -> None:
        self._vectors: Halves = np.ascontiguousarray(vectors, dtype="<f2")
        self._slack = 2 * rounding(self._vectors.shape[1])
        self._quantizer = _faiss.ScalarQuantizer(self._vectors.shape[1], _faiss.ScalarQuantizer.QT_fp16)
        self._all_rows = NumpyIndex(self._vectors)

    def search(self, queries: Vectors, k: int, within: NDArray[np.bool_] | None = None) -> Found:
        """See `VectorIndex.search`."""
        count = len(self._vectors) if within is None else int(np.count_nonzero(within))
        k = min(k, count)
        if not k:
            empty = np.zeros((len(queries), 0))
            return Found(empty.astype(np.int64), empty.astype(np.float32))
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if within is None:
            scanned = self._scan(queries, min(count, k + _SPARE), None)
            found = [self._proven(query, k, count, *each) for query, each in zip(queries, scanned, strict=True)]
        else:
            found = self._within(queries, k, within, count)
        return together(
            [
                self._all_rows.search(query[np.newaxis], k, within) if one is None else one
                for query, one in zip(queries, found, strict=True)
            ]
        )

    def _within(self, queries: Vectors, k: int, within: NDArray[np.bool_], count: int) -> list[Found | None]:
        """Skip rows while scanning where few are wanted; else it is faster to drop them from what was found."""
        share = count / len(within)
        found: list[Found | None] = [None] * len(queries)
        enough = int(1.5 * k / share) + _SPARE
        if share >= _FEW and 8 * enough < len(within):
            scanned = self._scan(queries, enough, None)
            for at, (rows, cosines) in enumerate(scanned):
                theirs = within[rows]
                found[at] = self._proven(queries[at], k, count, rows[theirs], cosines[theirs], cosines.min())
        open_ones = [at for at, one in enumerate(found) if one is None]
        if open_ones:
            scanned = self._scan(queries[open_ones], min(count, k + _SPARE), within)
            for at, (rows, cosines) in zip(open_ones, scanned, strict=True):
                found[at] = self._proven(queries[at], k, count, rows, cosines)
        return found

    def _proven(
        self,
        query: Vectors,
        k: int,
        count: int,
        rows: NDArray[np.int64],
        cosines: NDArray[np.float32],
        worst: float | None = None,
    ) -> Found | None:
        """The nearest `k` of what was scanned; None if another row might be among them.

        Every row that was not kept has a float32 cosine of `worst` at most. It is no nearer than the k-th that was
        kept when it is behind it by more than both may be off.
        """
        if len(rows) < k:
            return None
        if len(rows) < count:
            kth = np.partition(cosines, len(cosines) - k)[len(cosines) - k]
            if kth - (cosines.min() if worst is None else worst) <= self._slack:
                return None
            rows = rows[cosines >= kth - self._slack]
        return nearest(self._vectors, query, rows, k)

    def _scan(
        self, queries: Vectors, k: int, within: NDArray[np.bool_] | None
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """For each query the rows with the `k` largest float32 cosines, in no order."""
        bits = None if within is None else np.packbits(within, bitorder="little")
        selector = None if bits is None else _faiss.IDSelectorBitmap(len(bits), _faiss.swig_ptr(bits))
        scanners = [self._scanner(query, selector) for query in queries]
        # faiss keeps a heap; all of minus infinity is one.
        cosines = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        size = _ROWS if len(queries) == 1 else _ROWS_OF_MANY
        for start in range(0, len(self._vectors), size):
            block = self._vectors[start : start + size]
            codes = _faiss.cast_integer_to_uint8_ptr(block.ctypes.data)
            numbers = np.arange(start, start + len(block))
            for at, scanner in enumerate(scanners):
                kept = _faiss.swig_ptr(cosines[at]), _faiss.swig_ptr(rows[at])
                scanner.scan_codes(len(block), codes, _faiss.swig_ptr(numbers), *kept, k)
        return [(some[some >= 0], theirs[some >= 0]) for some, theirs in zip(rows, cosines, strict=True)]

    def _scanner(self, query: Vectors, selector: Any) -> Any:
        scanner = self._quantizer.select_InvertedListScanner(_faiss.METRIC_INNER_PRODUCT, None, False, selector)
        scanner.set_query(_faiss.swig_ptr(query))
        scanner.set_list(0, 0.0)
        return scanner
