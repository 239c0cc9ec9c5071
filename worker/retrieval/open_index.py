"""Which index looks at a collection's rows: faiss where it is installed, else numpy."""

from __future__ import annotations

from typing import Literal

from ...schemas.errors import ConfigError
from ..vectors.records import Halves
from .codes import Codes
from .index import NumpyIndex, VectorIndex

IndexKind = Literal["auto", "numpy", "faiss"]


def open_index(rows: Halves, kind: IndexKind = "auto", codes: Codes | None = None) -> VectorIndex:
    """An index over rows, which are read where they lie.

    Args:
        rows: `(n, dim)` float16, rows of length 1; may be mapped.
        kind: `auto` is `faiss` where it is installed; all find the same.
        codes: the rows in short, which make the search with numpy three times as fast; faiss has no use for them.

    Raises:
        ConfigError: `faiss` is not installed.
    """
    if kind == "numpy":
        return NumpyIndex(rows, codes)
    try:
        from .faiss_index import FaissIndex
    except ImportError as error:
        if kind == "auto":
            return NumpyIndex(rows, codes)
        raise ConfigError(f"faiss cannot be imported ({error}): pip install 'prelabel[search]'") from error
    return FaissIndex(rows)
