"""Rows of a catalogue as arrays: which image of which task has which vector."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...integrations.ledger.catalogue import FIRST, ROW

ENTRY: Final = np.dtype(
    [("task", "<u8"), ("image", "<u8"), ("label", "<u4"), ("place", "<u2"), ("confidence", "<u2"), ("key", "<u8", (2,))]
)
"""`task`: its number; `image`: a hash of what the image is; `label`: code of the first chosen label, 0 for none;
`place`: the image's in its item, from 0; `confidence`: in 65535ths; `key`: of the stored vector, its 16 bytes as two
numbers. As `prelabel.integrations.ledger.catalogue` writes them, but without the bit in `place`."""

Entries = NDArray[np.void]
"""`(n,)` of `ENTRY`."""

Tasks = NDArray[np.uint64]
"""Numbers of tasks."""


class Newest(NamedTuple):
    """What counts of some rows of a catalogue.

    Attributes:
        entries: of each task's last outcome, in their order.
        tasks: every task that the rows are about; what was known of it before counts no more.
    """

    entries: Entries
    tasks: Tasks


def newest(rows: bytes) -> Newest:
    """What counts of rows of a catalogue, in the order they came.

    Args:
        rows: of 40 bytes each.
    """
    raw = np.frombuffer(rows, dtype=ENTRY, count=len(rows) // ROW.size)
    outcome = np.cumsum(raw["place"] >= FIRST)
    tasks, inverse = np.unique(raw["task"], return_inverse=True)
    last = np.zeros(len(tasks), dtype=np.int64)
    np.maximum.at(last, inverse, outcome)
    has_image = raw["key"].any(axis=1)
    kept = raw[(outcome == last[inverse]) & has_image].copy()
    kept["place"] &= FIRST - 1
    return Newest(kept, tasks)


def as_rows(entries: Entries) -> bytes:
    """Entries as rows of a catalogue; those of a task must stand together, as `newest` gives them."""
    raw = entries.copy()
    is_first = np.ones(len(raw), dtype=np.bool_)
    is_first[1:] = raw["task"][1:] != raw["task"][:-1]
    raw["place"][is_first] |= FIRST
    return raw.tobytes()


def entry_keys(entries: Entries) -> list[bytes]:
    """The keys of the entries' vectors, 16 bytes each."""
    whole = np.ascontiguousarray(entries["key"]).view(np.uint8).reshape(-1, 16)
    return [row.tobytes() for row in whole]
