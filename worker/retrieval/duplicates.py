"""Groups of rows that are nearly the same, as of a picture stored twice or of frames a moment apart.

Every row is held against every other once, in products of two blocks. What is kept meanwhile is at most `_PAIRS` pairs
a row: of a row that has more near duplicates only their number is kept, and who they are is asked again when it comes
to stand for a group. So a hundred thousand equal rows take no more memory than as many different ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import ConfigError
from ..arrays import Vectors
from ..vectors.records import Halves, floats
from .exact import rounding

BLOCK: Final = 2048
"""Rows held against as many at once: the product takes 16 MB."""

_PAIRS: Final = 32
_ASKED: Final = 64
"""Rows with more pairs than are kept, whose near duplicates are asked for together."""

_SPARSE: Final = 16
"""One pair in so many is too many to list them all."""


class Group(NamedTuple):
    """Rows that are near duplicates of one of them.

    Attributes:
        representative: the row that the others are held against.
        rows: `(m,)` int64, 2 or more, the representative first and then those nearest to it.
        cosines: `(m,)` float32, of each row and the representative.
    """

    representative: int
    rows: NDArray[np.int64]
    cosines: NDArray[np.float32]


def duplicate_groups(
    rows: Halves,
    threshold: float,
    *,
    block: int = BLOCK,
    within: NDArray[np.bool_] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[Group]:
    """Groups of near duplicates, the largest first; no row is in two.

    The row with the most near duplicates stands for the first group (of equals the one with the smaller number), which
    is of it and all of these; then the row with the most of those that are in no group yet and have some that are in
    none, and so on. So each row of a group is near to its representative. Where A is near to B and B to C, but A not to
    C, B stands for all three; a longer chain is several groups, and a row at its end whose near duplicates are all in
    other groups is in none. The number of a row's near duplicates is counted once, before the first group.

    Two rows are near duplicates when their cosine is `threshold` or more. It is computed in float32: a pair that is
    below by no more than twice `exact.rounding(dim)`, 1e-4 for 768 components, may count, too.

    Args:
        rows: `(n, dim)` float16; may be mapped. Their lengths do not matter; a row of zeros is like no other.
        threshold: above 0, at most 1.
        block: rows held against as many at once, 1 or more; memory grows with its square.
        within: `(n,)` which rows to look at; None is all.
        progress: told how many products of two blocks are done, and of how many.

    Raises:
        ConfigError: `threshold` or `block` is none.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"a threshold for near duplicates must be above 0 and at most 1, got {threshold}")
    if block < 1:
        raise ConfigError(f"rows are held against each other in blocks of 1 or more, got {block}")
    numbers = np.arange(len(rows)) if within is None else np.flatnonzero(within)
    search = _Search(rows, numbers, threshold)
    search.count_pairs(block, progress)
    groups = [_group(rows, numbers[members]) for members in search.stars()]
    return sorted(groups, key=lambda group: (-len(group.rows), group.representative))


class _Search:
    """Who is near to whom. Rows are counted among those that are looked at: `position` is a place in `numbers`."""

    def __init__(self, rows: Halves, numbers: NDArray[np.int64], threshold: float) -> None:
        self._rows = rows
        self._numbers = numbers
        self._least = np.float32(threshold - rounding(rows.shape[1]))
        count = len(numbers)
        self._degrees = np.zeros(count, dtype=np.int64)
        self._first = np.full(count, count)
        """The first near duplicate of each: rows of one crowd mostly have the same."""
        self._from: list[NDArray[np.int32]] = []
        self._to: list[NDArray[np.int32]] = []

    def count_pairs(self, block: int, progress: Callable[[int, int], object] | None) -> None:
        """Hold every row against every other once."""
        starts = range(0, len(self._numbers), block)
        total, done = len(starts) * (len(starts) + 1) // 2, 0
        room = np.empty(min(block, len(self._numbers)) ** 2, dtype=np.float32)
        for top in starts:
            upper = self._block(np.arange(top, min(top + block, len(self._numbers))))
            for left in range(top, len(self._numbers), block):
                lower = upper if left == top else self._block(np.arange(left, min(left + block, len(self._numbers))))
                cosines = room[: len(upper) * len(lower)].reshape(len(upper), len(lower))
                np.matmul(upper, lower.T, out=cosines)
                self._keep(top, left, cosines >= self._least)
                done += 1
                if progress:
                    progress(done, total)

    def _block(self, positions: NDArray[np.int64]) -> Vectors:
        """`(m, dim)` rows of length 1, or of zeros."""
        numbers = self._numbers[positions]
        is_run = len(numbers) == numbers[-1] - numbers[0] + 1
        vectors = floats(np.asarray(self._rows[numbers[0] : numbers[-1] + 1] if is_run else self._rows[numbers]))
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        vectors /= np.where(lengths > 0, lengths, 1)[:, np.newaxis]
        return vectors

    def _keep(self, top: int, left: int, near: NDArray[np.bool_]) -> None:
        """Take note of the pairs of two blocks: `near` is `(rows of the upper, rows of the left block)`."""
        if top == left:
            np.fill_diagonal(near, False)
        pairs = np.count_nonzero(near)
        if not pairs:
            return
        if pairs * _SPARSE > near.size:
            self._note_many(top, left, near)
            if top != left:
                self._note_many(left, top, np.ascontiguousarray(near.T))
            return
        one, other = np.divmod(np.flatnonzero(near), near.shape[1])
        self._note(top + one, left + other)
        if top != left:
            self._note(left + other, top + one)

    def _note(self, sources: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        """Of each pair: `sources` is near to `targets`."""
        np.add.at(self._degrees, sources, 1)
        np.minimum.at(self._first, sources, targets)
        kept = self._degrees[sources] <= _PAIRS
        self._from.append(sources[kept].astype(np.int32))
        self._to.append(targets[kept].astype(np.int32))

    def _note_many(self, start: int, other: int, near: NDArray[np.bool_]) -> None:
        """The same of all pairs of rows from `start` and from `other` on, without a list of them."""
        here = slice(start, start + len(near))
        self._degrees[here] += np.count_nonzero(near, axis=1)
        first = np.where(near.any(axis=1), other + near.argmax(axis=1), len(self._numbers))
        self._first[here] = np.minimum(self._first[here], first)
        kept = np.flatnonzero(self._degrees[here] <= _PAIRS)
        one, another = np.nonzero(near[kept])
        self._from.append((start + kept[one]).astype(np.int32))
        self._to.append((other + another).astype(np.int32))

    def stars(self) -> list[NDArray[np.int64]]:
        """Positions of the rows of each group, the representative first."""
        nothing = np.zeros(0, dtype=np.int32)
        sources, targets = np.concatenate([nothing, *self._from]), np.concatenate([nothing, *self._to])
        order = np.argsort(sources, kind="stable")
        sources, targets = sources[order], targets[order]
        begins = np.searchsorted(sources, np.arange(len(self._numbers) + 1))
        order = np.argsort(-self._degrees, kind="stable")[: np.count_nonzero(self._degrees)]
        crowded = order[: np.count_nonzero(self._degrees > _PAIRS)]
        free = np.ones(len(self._numbers), dtype=np.bool_)
        known: dict[int, NDArray[np.int64]] = {}
        groups = []
        for at, position in enumerate(order.tolist()):
            if not free[position]:
                continue
            if at < len(crowded):
                if position not in known:
                    known = self._ask(crowded[at:], free)
                theirs = known[position]
            else:
                theirs = targets[begins[position] : begins[position + 1]].astype(np.int64)
            theirs = theirs[free[theirs]]
            if len(theirs):
                groups.append(np.concatenate([[position], theirs]))
                free[groups[-1]] = False
        return groups

    def _ask(self, crowded: NDArray[np.int64], free: NDArray[np.bool_]) -> dict[int, NDArray[np.int64]]:
        """The free near duplicates of the first of some rows, and of others that are likely to be of other crowds."""
        waiting = crowded[free[crowded]]
        _, firsts = np.unique(self._first[waiting], return_index=True)
        asked = waiting[np.sort(np.union1d(firsts, [0]))[:_ASKED]]
        candidates = np.flatnonzero(free)
        queries = self._block_of(asked)
        found: list[list[NDArray[np.int64]]] = [[] for _ in asked]
        for start in range(0, len(candidates), BLOCK):
            some = candidates[start : start + BLOCK]
            near = queries @ self._block(some).T >= self._least
            near &= asked[:, np.newaxis] != some
            for at in np.flatnonzero(near.any(axis=1)):
                found[at].append(some[near[at]])
        nothing = np.zeros(0, dtype=np.int64)
        return {
            position: np.concatenate([nothing, *theirs]) for position, theirs in zip(asked.tolist(), found, strict=True)
        }

    def _block_of(self, positions: NDArray[np.int64]) -> Vectors:
        # `_block` takes rows in ascending order.
        order = np.argsort(positions)
        vectors = np.empty((len(positions), self._rows.shape[1]), dtype=np.float32)
        vectors[order] = self._block(positions[order])
        return vectors


def _group(rows: Halves, members: NDArray[np.int64]) -> Group:
    """Of the representative's number and those of the others."""
    cosines: NDArray[np.float64] = np.empty(len(members))
    representative = floats(np.asarray(rows[members[:1]])).astype(np.float64)[0]
    for start in range(0, len(members), BLOCK):
        vectors = floats(np.asarray(rows[members[start : start + BLOCK]])).astype(np.float64)
        products = (vectors * representative).sum(axis=1)
        cosines[start : start + len(vectors)] = products / np.linalg.norm(vectors, axis=1)
    cosines = np.minimum(cosines / np.linalg.norm(representative), 1)
    order = np.concatenate([[0], 1 + np.lexsort((members[1:], -cosines[1:]))])
    return Group(int(members[0]), members[order], cosines[order].astype(np.float32))
