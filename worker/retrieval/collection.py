"""A collection kept in step with its catalogue: the vectors of what a project or a job has at present."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...integrations.ledger.catalogue import ROW, Tail
from ...schemas.errors import ConfigError
from ..vectors.keys import space_tag
from ..vectors.records import Halves, floats
from ..vectors.store import EmbeddingStore
from .entries import Entries, Newest, as_rows, entry_keys, newest
from .files import CollectionFiles, Damage, Snapshot

log = logging.getLogger(__name__)

AT_ONCE: Final = 32_768
"""Vectors in memory at once while files are extended: 100 MB of 768 float32 components."""

_LOCK_S: Final = 300.0
_AGAIN_S: Final = 5.0
"""Seconds after which what had no vector is looked for again."""

_FEW_ROWS: Final = 1_000
_MOST_ROWS: Final = 1.5
"""Rows of a catalogue for each one that counts, beyond which it is written anew."""

Tell = Callable[[int, int], object]
"""Called with how many vectors are read, and of how many."""


class Source(Protocol):
    """Where a collection's catalogue is."""

    def tail(self, position: str) -> Tail:
        """What has come since `position`."""
        ...

    def replace(self, position: str, rows: bytes) -> str | None:
        """Put fewer rows in the place of all; the position behind them, None where nothing was replaced."""
        ...


class Current(NamedTuple):
    """A collection as it is at present.

    Attributes:
        snapshot: its vectors.
        missing: images whose vector is not stored any more.
        others: images whose vector another model has made, or the same in another way.
    """

    snapshot: Snapshot
    missing: int
    others: int


class _Vectors(NamedTuple):
    """`order`: `(m,)` which entries the `vectors`, `(m, dim)` of length 1, are of; `is_there`: a mask of these."""

    order: NDArray[np.intp]
    vectors: Halves
    is_there: NDArray[np.bool_]


class Collection:
    """One collection in one space of vectors. Thread-safe.

    Args:
        folder: of its files.
        space: name of the vectors' space.
        dim: length of a vector.
        store: where vectors come from.
        source: its catalogue.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        folder: Path,
        space: str,
        dim: int,
        store: EmbeddingStore,
        source: Source,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._files = CollectionFiles(folder, space, dim)
        self._tag = np.frombuffer(space_tag(space), dtype="<u4")[0]
        self._dim = dim
        self._store = store
        self._source = source
        self._clock = clock
        self._looked_s = -_AGAIN_S
        self._lock = threading.Lock()

    def current(self, tell: Tell = lambda *_: None) -> Current:
        """The collection with all that its catalogue says now.

        Args:
            tell: how far that is, where it takes long.

        Raises:
            ConfigError: its files cannot be written; says why.
        """
        try:
            with self._lock:
                snapshot = self._files.read()
                if snapshot is None or not self._is_current(snapshot):
                    with self._files.writing(_LOCK_S):
                        snapshot = self._brought_up(tell)
                        self._looked_s = self._clock()
        except OSError as error:
            raise ConfigError(
                f"the files of the search in {self._folder} cannot be used ({error.strerror or error}): make room "
                "there, or set PRELABEL_STATE_DIR to a folder that the worker may write"
            ) from None
        ours = self._is_ours(snapshot.missing)
        return Current(snapshot, int(ours.sum()), int((~ours).sum()))

    def _is_current(self, snapshot: Snapshot) -> bool:
        tail = self._source.tail(snapshot.position)
        if tail.anew or tail.rows or snapshot.is_worn:
            return False
        return not self._is_ours(snapshot.missing).any() or self._clock() - self._looked_s < _AGAIN_S

    def _brought_up(self, tell: Tell) -> Snapshot:
        """While nobody else does, extend the files, or make them anew."""
        before = self._files.read()  # another may have been at it until now
        tail = self._source.tail(before.position if before else "")
        try:
            if before is not None and not tail.anew and not before.is_worn:
                self._extend(before, newest(tail.rows), tail.position, tell)
            else:
                self._make_anew(before, tell)
        except Damage as damage:
            log.warning("the files of the search in %s are made anew: %s", self._folder, damage)
            self._make_anew(None, tell)
        after = self._files.read()
        if after is None:
            raise OSError(f"what was written cannot be read back from {self._folder}")
        return after

    def _make_anew(self, before: Snapshot | None, tell: Tell) -> None:
        tail = self._source.tail("")
        what = newest(tail.rows)
        position = tail.position
        count = len(tail.rows) // ROW.size
        if count > _FEW_ROWS and count > _MOST_ROWS * len(what.entries):
            position = self._source.replace(position, as_rows(what.entries)) or position
        empty = self._files.begin()
        self._extend(empty, what, position, tell, known=before)

    def _extend(
        self, snapshot: Snapshot, what: Newest, position: str, tell: Tell, known: Snapshot | None = None
    ) -> None:
        """Append what counts, some at a time: whoever is stopped on the way has the same still to do."""
        waiting = snapshot.missing[~np.isin(snapshot.missing["task"], what.tasks)]
        theirs, waiting = waiting[~self._is_ours(waiting)], waiting[self._is_ours(waiting)]
        ours = self._is_ours(what.entries)
        outdated = what.tasks
        for some in _parts(waiting):
            waiting = waiting[len(some) :]
            found = self._vectors(some, known)
            theirs = np.concatenate([theirs, some[~found.is_there]])
            self._files.extend(
                some[found.order],
                found.vectors,
                outdated=outdated[:0],
                missing=np.concatenate([theirs, waiting]),
                position=snapshot.position,
            )
        # Whoever is stopped before the last of these finds all of them in the catalogue again, and outdates them first.
        lost: list[Entries] = [theirs, what.entries[~ours]]
        parts = _parts(what.entries[ours]) or [what.entries[:0]]
        done = 0
        for number, some in enumerate(parts):
            found = self._vectors(some, known)
            lost.append(some[~found.is_there])
            is_last = number == len(parts) - 1
            self._files.extend(
                some[found.order],
                found.vectors,
                outdated=outdated,
                missing=np.concatenate(lost) if is_last else theirs,
                position=position if is_last else snapshot.position,
            )
            outdated = outdated[:0]
            done += len(some)
            tell(done, int(ours.sum()))

    def _vectors(self, entries: Entries, known: Snapshot | None) -> _Vectors:
        """The entries' vectors, from the store or from files that were there before."""
        rows: list[NDArray[np.intp]] = []
        parts: list[Halves] = []
        is_there = np.zeros(len(entries), dtype=np.bool_)
        for positions, halves in self._store.blocks(entry_keys(entries)):
            if halves.shape[1] != self._dim:
                continue
            rows.append(positions)
            parts.append(_unit(halves))
            is_there[positions] = True
        if known is not None and not is_there.all():
            left = np.flatnonzero(~is_there)
            at = _found(known.entries, entries[left])
            rows.append(left[at >= 0])
            parts.append(np.asarray(known.vectors[at[at >= 0]]))
            is_there[left[at >= 0]] = True
        none = np.zeros((0, self._dim), dtype=np.float16)
        order = np.concatenate(rows) if rows else np.zeros(0, dtype=np.intp)
        return _Vectors(order, np.concatenate([none, *parts]), is_there)

    def _is_ours(self, entries: Entries) -> NDArray[np.bool_]:
        tags = np.ascontiguousarray(entries["key"]).view("<u4").reshape(-1, 4)[:, 3]
        ours: NDArray[np.bool_] = tags == self._tag
        return ours


def _parts(entries: Entries) -> list[Entries]:
    return [entries[start : start + AT_ONCE] for start in range(0, len(entries), AT_ONCE)]


def _unit(halves: Halves) -> Halves:
    """Rows of length 1, or nearly so: fp16 has 11 bits."""
    rows = floats(np.ascontiguousarray(halves))
    rows /= np.maximum(np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64)), 1e-12)[:, np.newaxis]
    return rows.astype(np.float16)


def _found(among: Entries, wanted: Entries) -> NDArray[np.intp]:
    """`(n,)`: a row of `among` with the same key as each that is wanted; -1 where there is none."""
    if not len(among):
        return np.full(len(wanted), -1, dtype=np.intp)
    first = np.asarray(among["key"][:, 0])
    order = np.argsort(first, kind="stable")
    at = np.searchsorted(first[order], wanted["key"][:, 0])
    row = order[np.minimum(at, len(order) - 1)]
    same = (among["key"][row] == wanted["key"]).all(axis=1)
    return np.where(same, row, -1)


def rows_of(snapshot: Snapshot, tasks: Sequence[int]) -> NDArray[np.intp]:
    """The rows that count of some tasks."""
    wanted = np.asarray(tasks, dtype=np.uint64)
    return np.flatnonzero(snapshot.counts & np.isin(snapshot.entries["task"], wanted))
