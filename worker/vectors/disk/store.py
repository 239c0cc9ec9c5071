"""The vector store on this machine's disk, shared by all its worker processes.

Records in flat shard files, and an SQLite index that says where each is. A record tells itself whose it is and whether
it is whole: a damaged file, whichever, is a miss. Not for a network share: SQLite's write-ahead log needs all its users
on one machine, and `PRELABEL_VECTOR_STORE=redis://…` is for several.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...arrays import Vectors
from ..records import Block, Records, block_of, floats, pack, places_of, sound, vectors_of
from ..store import FLUSH_S
from ..writer import BackgroundWriter, Batch, Outage
from .generation import DISK_ERRORS, LiveIndex
from .index import MAX_ROWS, Entry, Index
from .shards import ShardWriter, by_shard, read_records

_T = TypeVar("_T")

SHARD_BYTES = 32 * 2**20
_SHARDS = 16
"""A bounded store has at least so many, for it forgets a shard at a time."""

_CAPACITY = 16_384
"""Vectors that may wait to be written: 25 MB of 768 components."""

_TOUCH_S = 60.0
_FIRST_LOOK, _LAST_LOOK = 64, 512
"""Keys of a stream that are looked up at once; more each time, while they are not found in the order they were put."""

_READ_PAUSE_S = 5.0


class _Locations(NamedTuple):
    """What the index says of some keys: entries by shard, each shard's in order, and the length of its vectors."""

    generation: Index
    shards: Mapping[int, list[Entry]]
    dims: Mapping[int, int]

    def run(self, keys: Sequence[bytes]) -> tuple[int, int] | None:
        """Shard and row behind `keys`, where these lie in a row."""
        if len(self.shards) != 1:
            return None
        ((shard, entries),) = self.shards.items()
        first, last = entries[0][0], entries[-1][0]
        if last - first != len(keys) - 1 or [key for _, key in entries] != list(keys):
            return None
        return shard, last % MAX_ROWS + 1


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
        self._read_outage = Outage(f"cannot read the vector store in {root}: images are embedded anew", _READ_PAUSE_S)
        self._notes_lock = threading.Lock()
        self._doubtful: set[tuple[str, int, bytes]] = set()  # generation, place, key of what could not be read
        self._touched: dict[tuple[str, int], float] = {}  # generation and shard: when it was last noted as read
        self._to_touch: set[tuple[str, int]] = set()
        # From here on the writer's thread alone:
        self._writing = LiveIndex(root)
        self._shards: ShardWriter | None = None
        self._write_outage = Outage(
            f"cannot write to the vector store in {root}: new vectors are not stored for now, scoring goes on; make "
            "room there, or set PRELABEL_VECTOR_STORE_DIR, or PRELABEL_VECTOR_STORE=off",
            pause_s,
        )
        self._writer = BackgroundWriter(self._write, _CAPACITY)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Those that are stored and sound: float32 `(dim,)`."""
        vectors: dict[bytes, Vectors] = {}
        for positions, halves in self.blocks(keys, len(keys)):
            # Copies: who keeps one vector shall not keep the whole block.
            vectors.update((keys[at], row.copy()) for at, row in zip(positions.tolist(), floats(halves), strict=True))
        return vectors

    def blocks(self, keys: Sequence[bytes], rows: int = 2048) -> Iterator[Block]:
        """Stream any number of stored vectors, those that were put in this order at nearly the speed of memory."""
        at, look = 0, _FIRST_LOOK
        while at < len(keys):
            some = keys[at : at + min(look, rows)]
            places = places_of(some, at)
            at += len(some)
            locations = self._find(list(places))
            if locations is None:
                continue
            for entries, records in self._sound(locations):
                yield block_of(records, [key for _, key in entries], places)
            run = locations.run(some)
            look = _FIRST_LOOK if run else min(2 * look, _LAST_LOOK)
            for block in self._go_on(locations, run, keys, at, rows) if run else ():
                yield block
                at += len(block.positions)

    def lookup(self, stamps: Sequence[bytes]) -> dict[bytes, bytes]:
        """Stamp to vector key, of those that are known."""
        return self._read(lambda index: index.find_stamps(stamps), {}) if stamps else {}

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        """Store vectors `(dim,)` soon; what does not fit the queue is dropped.

        Raises:
            ValueError: a vector is not `(dim,)`, or a key not of 16 bytes.
        """
        if vectors and not self._write_outage.paused():
            self._writer.add(pack(vectors), {})

    def remember(self, stamps: Mapping[bytes, bytes]) -> None:
        """Store those stamps whose vectors are stored."""
        if stamps and not self._write_outage.paused():
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

    def _find(self, keys: Sequence[bytes]) -> _Locations | None:
        def find(index: Index) -> _Locations:
            entries = by_shard(index.find(keys))
            return _Locations(index, entries, index.dims(list(entries)))

        locations = self._read(find, None)
        if locations:
            self._note_use(locations.generation.folder.name, locations.shards)
        return locations

    def _sound(self, locations: _Locations) -> Iterator[tuple[list[Entry], Records]]:
        """The sound records, shard by shard, and whose they are."""
        for shard, entries in locations.shards.items():
            records = self._records(locations, shard, np.asarray([place for place, _ in entries]) % MAX_ROWS)
            if records is None:
                self._note_doubt(locations.generation.folder.name, entries)
                continue
            good = sound(records, [key for _, key in entries])
            if good.all():
                yield entries, records
                continue
            self._note_doubt(locations.generation.folder.name, [entries[at] for at in np.flatnonzero(~good)])
            if good.any():
                yield [entries[at] for at in np.flatnonzero(good)], records[good]

    def _go_on(
        self, locations: _Locations, run: tuple[int, int], keys: Sequence[bytes], at: int, rows: int
    ) -> Iterator[Block]:
        """Go on behind a run while the shard has there what the keys from `at` name: the index is not asked."""
        shard, row = run
        while some := keys[at : at + rows]:
            records = self._records(locations, shard, np.arange(row, row + len(some)))
            if records is None:
                return
            good = sound(records, some)
            count = len(some) if good.all() else int(good.argmin())
            if count:
                yield Block(np.arange(at, at + count), vectors_of(records[:count]))
            if count < len(some):
                return
            at, row = at + count, row + count

    def _records(self, locations: _Locations, shard: int, rows: NDArray[np.int64]) -> Records | None:
        """None where the shard is gone, or cannot be read."""
        try:
            return read_records(locations.generation.shard_path(shard), locations.dims[shard], rows)
        except (KeyError, FileNotFoundError):
            return None
        except OSError as error:
            self._read_outage.failed(error)
            return None

    def _read(self, ask: Callable[[Index], _T], otherwise: _T) -> _T:
        if self._read_outage.paused():
            return otherwise
        try:
            with self._read_lock:
                answer = self._reading.run(ask)
        except DISK_ERRORS as error:
            self._read_outage.failed(error)
            return otherwise
        self._read_outage.passed()
        return answer

    def _note_doubt(self, generation: str, entries: Iterable[Entry]) -> None:
        """Have what led nowhere dropped from the index; before anything that is put from now on is written."""
        with self._notes_lock:
            self._doubtful.update((generation, place, key) for place, key in entries)
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
        if self._write_outage.paused():
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
        except DISK_ERRORS as error:
            self._write_outage.failed(error)
        else:
            self._write_outage.passed()

    def _shard_writer(self, index: Index) -> ShardWriter:
        if self._shards is None or self._shards.folder != index.folder:
            if self._shards:
                self._shards.close()
            self._shards = ShardWriter(index.folder, self._max_bytes, self._shard_bytes)
        return self._shards
