"""A job's predictions as an Arrow table: what Parquet files, pandas, DuckDB and polars read without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from .table import Table


def arrow_table(table: Table, item_ids: Sequence[str]) -> pa.Table:
    """The table with names in place of places.

    Columns, a row each of `table`: `ordinal`, `item` (its id), `index`, `label` (the first chosen label's own name),
    `path` (the same from the root down, joined by " > "), `labels` (the paths of all that were chosen), `confidence`,
    `score_labels`, `logits` and `probabilities` (best first), `pairwise` (whether the logits mean something each by
    itself), `error_kind`, `error`. Names are dictionary-encoded.

    Args:
        table: the answers.
        item_ids: by ordinal.
    """
    paths = _Names([" > ".join(path) for path in table.paths])
    names = _Names([path[-1] for path in table.paths])
    kept = table.labels >= 0
    starts = _offsets(kept.sum(axis=1))
    failures = [table.failures.get(ordinal) if table.failures else None for ordinal in table.ordinals.tolist()]
    ids = [item_ids[ordinal] if ordinal < len(item_ids) else "" for ordinal in table.ordinals.tolist()]
    return pa.table(
        {
            "ordinal": pa.array(table.ordinals),
            "item": pa.array(ids, pa.string()),
            "index": _nullable(table.indices, table.indices < 0),
            "label": names.of(table.chosen),
            "path": paths.of(table.chosen),
            "labels": pa.ListArray.from_arrays(_offsets(table.chosen_counts), paths.of(table.all_chosen)),
            "confidence": _nullable(table.confidences, ~table.answered),
            "score_labels": pa.ListArray.from_arrays(starts, paths.of(table.labels[kept])),
            "logits": pa.ListArray.from_arrays(starts, _nullable(table.logits[kept], np.isnan(table.logits[kept]))),
            "probabilities": pa.ListArray.from_arrays(starts, pa.array(table.probabilities[kept])),
            "pairwise": pa.array(table.pairwise),
            "error_kind": pa.array([failure and failure.kind for failure in failures], pa.string()),
            "error": pa.array([failure and failure.message for failure in failures], pa.string()),
        }
    )


def _offsets(counts: Any) -> pa.Array:
    return pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32))


def _nullable(values: Any, missing: Any) -> pa.Array:
    return pa.array(values, mask=np.asarray(missing))


class _Names:
    """Names of labels by their place, each once: several labels of a tree may have the same.

    Args:
        names: by place.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._each = list(dict.fromkeys(names))
        at = {name: number for number, name in enumerate(self._each)}
        self._at = np.asarray([at[name] for name in names], dtype=np.int32)

    def of(self, places: Any) -> pa.Array:
        """The names of labels, dictionary-encoded; null for no label."""
        is_none = places < 0
        return pa.DictionaryArray.from_arrays(
            _nullable(self._at[np.where(is_none, 0, places)], is_none), pa.array(self._each, pa.string())
        )
