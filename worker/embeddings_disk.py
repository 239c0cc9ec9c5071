"""The vector store on this machine's disk, shared by all its worker processes.

fp16 rows in flat shard files, an SQLite index that says which row is whose, and a checksum over both key and row: a
damaged file, whichever, is a miss. Not for a network share: SQLite's write-ahead log needs all its users on one
machine, and `PRELABEL_VECTOR_STORE=redis://…` is for several.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from .embeddings import FLUSH_S
from .embeddings_base import BackgroundWriter, Batch, Block, Halves, Trouble, floats, pack, sound
from .embeddings_index import MAX_ROWS, Entry, Index
from .embeddings_live import TROUBLES, LiveIndex
from .embeddings_shards import ShardWriter, by_shard, read_rows
from .scorer import Vectors

_T = TypeVar("_T")

SHARD_BYTES = 32 * 2**20
_SHARDS = 16
"""A bounded store has at least so many, for it forgets a shard at a time."""

_CAPACITY = 16_384
"""Vectors that may wait to be written: 25 MB of 768 components."""

_TOUCH_S = 60.0
_WINDOW = 16_384
"""Keys of a stream whose rows are looked up at once: large beside a query's cost, small beside a stream's, so that who
reads ahead has rows soon."""

_READ_PAUSE_S = 5.0


class DiskStore:
    """An `EmbeddingStore` in a folder. Safe with any number of processes and threads; open it after a fork.

    Args:
        root: its folder; created when needed.
        max_bytes: bound of all files but SQLite's log (about 4 MB); the longest unused shards go first.
        shard_bytes: size of a shard; 0 is 32 MiB, or a 16th of a small bound.
        pause_s: seconds without a write after one that failed (disk full, read-only).
    """

    def __init__(self, root: Path, max_bytes: int, *, shard_bytes: int = 0, pause_s: float = 60.0) -> None:
        self._max_bytes = max_bytes
        self._shard_bytes = shard_bytes or max(1, min(SHARD_BYTES, max_bytes // _SHARDS))
        self._reading = LiveIndex(root)
        self._read_lock = threading.Lock()
        self._read_trouble = Trouble(f"cannot read the vector store in {root}: images are embedded anew", _READ_PAUSE_S)
        self._notes_lock = threading.Lock()
        self._doubtful: set[tuple[str, int, bytes]] = set()  # generation, place, key of what could not be read
        self._touched: dict[tuple[str, int], float] = {}  # generation and shard: when it was last noted as read
        self._to_touch: set[tuple[str, int]] = set()
        # From here on the writer's thread alone:
        self._writing = LiveIndex(root)
        self._shards: ShardWriter | None = None
        self._write_trouble = Trouble(
            f"cannot write to the vector store in {root}: new vectors are not stored for now, scoring goes on; make "
            "room there, or set PRELABEL_VECTOR_STORE_DIR, or PRELABEL_VECTOR_STORE=off",
            pause_s,
        )
        self._writer = BackgroundWriter(self._write, _CAPACITY)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Those that are stored and sound: float32 `(dim,)`."""
        found: dict[bytes, Vectors] = {}
        for entries, rows in self._rows(list(dict.fromkeys(keys)), len(keys)):
            found.update((key, row.copy()) for (_, _, key), row in zip(entries, floats(rows), strict=True))
        return found

    def blocks(self, keys: Sequence[bytes], rows: int = 2048) -> Iterator[Block]:
        """Stream any number of stored vectors, those that were put together at nearly the speed of memory."""
        for start in range(0, len(keys), _WINDOW):
            window = keys[start : start + _WINDOW]
            where = {key: start + i for i, key in enumerate(window)}
            again: dict[bytes, list[int]] = {}
            if len(where) < len(window):
                for i, key in enumerate(window, start):
                    if where[key] != i:
                        again.setdefault(key, []).append(i)
            for entries, matrix in self._rows(list(where), rows):
                positions = [where[key] for _, _, key in entries]
                yield Block(np.asarray(positions, dtype=np.intp), matrix)
                more = [(i, at) for at, (_, _, key) in enumerate(entries) for i in again.get(key, ())] if again else []
                for first in range(0, len(more), rows):
                    places, taken = zip(*more[first : first + rows], strict=True)
                    yield Block(np.asarray(places, dtype=np.intp), matrix[list(taken)])

    def lookup(self, stamps: Sequence[bytes]) -> dict[bytes, bytes]:
        """Stamp to vector key, of those that are known."""
        return self._read(lambda index: index.find_stamps(stamps), {}) if stamps else {}

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        """Store vectors `(dim,)` soon; what does not fit the queue is dropped.

        Raises:
            ValueError: a vector is not `(dim,)`.
        """
        if vectors and not self._write_trouble.paused():
            self._writer.add(pack(vectors), {})

    def remember(self, stamps: Mapping[bytes, bytes]) -> None:
        """Store those stamps whose vectors are stored."""
        if stamps and not self._write_trouble.paused():
            self._writer.add({}, stamps)

    def flush(self, timeout_s: float = FLUSH_S) -> None:
        """Wait until what was put can be read, or was given up."""
        self._writer.flush(timeout_s)

    def close(self) -> None:
        """Write what waits; let go of all files."""
        if self._writer.close(FLUSH_S):
            if self._shards:
                self._shards.close()
            self._writing.close()
        with self._read_lock:
            self._reading.close()

    def _rows(self, keys: Sequence[bytes], at_once: int) -> Iterator[tuple[list[Entry], Halves]]:
        """The sound rows of different keys, shard by shard, and whose they are."""

        def find(index: Index) -> tuple[Index, dict[int, list[Entry]], dict[int, int]]:
            entries = by_shard(index.find(keys))
            return index, entries, index.dims(list(entries))

        located = self._read(find, None) if keys else None
        if located is None:
            return
        index, shards, dims = located
        generation = index.folder.name
        self._note_use(generation, shards)
        for shard, entries in shards.items():
            for start in range(0, len(entries), at_once):
                some = entries[start : start + at_once]
                good, rows = self._sound_rows(index.shard_path(shard), dims.get(shard, 0), some)
                if len(good) < len(some):
                    self._note_doubt(generation, set(some) - set(good))
                if good:
                    yield good, rows

    def _sound_rows(self, path: Path, dim: int, entries: list[Entry]) -> tuple[list[Entry], Halves]:
        nothing: tuple[list[Entry], Halves] = [], np.empty((0, dim), dtype="<f2")
        if not dim:
            return nothing
        try:
            places, checksums, keys = zip(*entries, strict=True)
            rows = read_rows(path, dim, np.asarray(places, dtype=np.int64) % MAX_ROWS)
        except FileNotFoundError:
            return nothing
        except OSError as error:
            self._read_trouble.failed(error)
            return nothing
        good = sound(keys, rows, checksums)
        if good.all():
            return entries, rows
        return [entry for entry, is_good in zip(entries, good, strict=True) if is_good], rows[good]

    def _read(self, ask: Callable[[Index], _T], otherwise: _T) -> _T:
        if self._read_trouble.paused():
            return otherwise
        try:
            with self._read_lock:
                answer = self._reading.run(ask)
        except TROUBLES as error:
            self._read_trouble.failed(error)
            return otherwise
        self._read_trouble.passed()
        return answer

    def _note_doubt(self, generation: str, entries: set[Entry]) -> None:
        """Have what led nowhere dropped from the index; before anything that is put from now on is written."""
        with self._notes_lock:
            self._doubtful.update((generation, place, key) for place, _, key in entries)
        self._writer.add({}, {})

    def _note_use(self, generation: str, shards: Mapping[int, object]) -> None:
        now = time.monotonic()
        with self._notes_lock:
            old = [
                key for shard in shards if now - self._touched.get(key := (generation, shard), -_TOUCH_S) >= _TOUCH_S
            ]
            self._touched.update(dict.fromkeys(old, now))
            self._to_touch.update(old)
        if old:
            self._writer.add({}, {})

    def _write(self, batch: Batch) -> None:
        with self._notes_lock:
            doubtful, self._doubtful = self._doubtful, set()
            touched, self._to_touch = self._to_touch, set()
        if self._write_trouble.paused():
            return

        def use(index: Index) -> None:
            name = index.folder.name
            if doubtful or touched:
                with index.change():
                    index.forget((place, key) for generation, place, key in doubtful if generation == name)
                    index.touch(shard for generation, shard in touched if generation == name)
            if batch.vectors or batch.stamps:
                self._shard_writer(index).write(index, batch)

        try:
            self._writing.run(use)
        except TROUBLES as error:
            self._write_trouble.failed(error)
        else:
            self._write_trouble.passed()

    def _shard_writer(self, index: Index) -> ShardWriter:
        if self._shards is None or self._shards.folder != index.folder:
            if self._shards:
                self._shards.close()
            self._shards = ShardWriter(index.folder, self._max_bytes, self._shard_bytes)
        return self._shards
