"""Which image has which vector: the entries of a collection, 34 bytes each."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

ENTRY: Final = np.dtype([("task", "<u8"), ("slot", "<u2"), ("region", "<u8"), ("key", "<u8", (2,))])
"""`task`: the item's number; `slot`: the image's place in it, from 0; `region`: a hash of the part of the image, 0 for
the whole; `key`: of the stored vector, its 16 bytes as two numbers. Little-endian, without gaps."""

Entries = NDArray[np.void]
"""`(n,)` of `ENTRY`; of several about one place (task, slot and region) the last counts."""

Marks = NDArray[np.uint64]
"""`(n,)`: what tells places apart."""


def entry_keys(entries: Entries) -> list[bytes]:
    """The keys of the entries' vectors, 16 bytes each."""
    whole = np.ascontiguousarray(entries["key"]).view(np.uint8).reshape(-1, 16)
    return [row.tobytes() for row in whole]


def marks(entries: Entries) -> Marks:
    """A 64-bit mark of each entry's place: two places have the same with a probability of 2 ** -64.

    The numbers are mixed as in SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA
    2014), one after the other.
    """
    mixed = _mix(entries["task"].astype(np.uint64))
    mixed = _mix(mixed ^ entries["slot"].astype(np.uint64))
    return _mix(mixed ^ entries["region"].astype(np.uint64))


def newest(of: Marks) -> NDArray[np.bool_]:
    """`(n,)`: which entries are the last about their place."""
    last = np.zeros(len(of), dtype=np.bool_)
    _, from_the_end = np.unique(of[::-1], return_index=True)
    last[len(of) - 1 - from_the_end] = True
    return last


def _mix(numbers: Marks) -> Marks:
    with np.errstate(over="ignore"):
        mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        result: Marks = mixed ^ (mixed >> np.uint64(31))
    return result
