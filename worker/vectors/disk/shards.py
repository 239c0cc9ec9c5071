"""The disk store's shards: flat files of records of one length, written by one process at a time.

A record is written before the index points to it, and never again afterwards. Files are read, not memory-mapped: where
a mapped file is cut short a process dies of SIGBUS, and a copy from the page cache costs a tenth of the scoring.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..records import Records, record_bytes, record_dim
from ..writer import Batch
from .index import MAX_ROWS, Entry, Index, Shard

_ADOPT = 16
"""Shards with room that are tried before a new one is made."""


def read_records(path: Path, dim: int, rows: NDArray[np.int64]) -> Records:
    """`(len(rows), record_bytes(dim))`. A record the file does not have is zeros, which has no key's checksum.

    Args:
        path: the shard.
        dim: its vectors' length.
        rows: which records, ascending; neighbours are read together.

    Raises:
        OSError: it cannot be read; FileNotFoundError when it was dropped.
    """
    size = record_bytes(dim)
    out = np.zeros((len(rows), size), dtype=np.uint8)
    ends = np.flatnonzero(np.diff(rows) != 1) + 1
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start, end in zip([0, *ends.tolist()], [*ends.tolist(), len(rows)], strict=True):
            _read_full(fd, out[start:end].reshape(-1).data, int(rows[start]) * size)
    finally:
        os.close(fd)
    return out


def _read_full(fd: int, into: memoryview, offset: int) -> None:
    while len(into):
        got = os.preadv(fd, [into], offset)
        if not got:
            return
        into, offset = into[got:], offset + got


class _OpenShard:
    """A shard this process writes: it holds the file's lock, so that nobody else does, and nobody drops it."""

    def __init__(self, shard: Shard, fd: int) -> None:
        self.id, self.dim, self.fd = shard.id, shard.dim, fd
        self.record_bytes = shard.record_bytes
        size = max(shard.size, os.fstat(fd).st_size)  # behind what the index knows may be what a dead writer left
        self.rows = -(-size // self.record_bytes)

    def append(self, data: bytes) -> int:
        """Write records at the end; returns the first one's number."""
        first, view, offset = self.rows, memoryview(data), self.rows * self.record_bytes
        while len(view):
            wrote = os.pwrite(self.fd, view, offset)
            view, offset = view[wrote:], offset + wrote
        self.rows += len(data) // self.record_bytes
        return first

    def state(self) -> Shard:
        return Shard(self.id, self.dim, self.rows * self.record_bytes)


class ShardWriter:
    """Writes batches into one generation's shards, and drops the longest unused ones when there are too many.

    Args:
        folder: the generation's folder.
        max_bytes: bound of shards and index together. Shards that are being written are not dropped.
        shard_bytes: a shard that has reached this is left alone.
    """

    def __init__(self, folder: Path, max_bytes: int, shard_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._shard_bytes = shard_bytes
        self._open: dict[int, _OpenShard] = {}
        self._swept = False

    def write(self, index: Index, batch: Batch) -> None:
        """Write a batch.

        Raises:
            OSError, sqlite3.Error: it, or a part of it, is not stored.
        """
        if not self._swept:
            self._sweep(index)
        known = {key for _, key in index.find(list(batch.vectors))}
        by_length: dict[int, list[bytes]] = {}
        for key, record in batch.vectors.items():
            if key not in known:
                by_length.setdefault(len(record), []).append(key)
        for length, keys in by_length.items():
            while keys:
                keys = self._append(index, record_dim(length), keys, batch.vectors)
        if batch.stamps:
            with index.change():
                index.add_stamps(batch.stamps)
        if index.size() > self._max_bytes:
            self._evict(index)

    def close(self) -> None:
        """Let go of the shards; others may go on writing them."""
        while self._open:
            os.close(self._open.popitem()[1].fd)

    def _append(self, index: Index, dim: int, keys: list[bytes], vectors: Mapping[bytes, bytes]) -> list[bytes]:
        """Write as many records as one shard takes; returns the keys left over."""
        shard = self._open.get(dim) or self._take(index, dim)
        room = self._capacity(shard) - shard.rows
        now, later = keys[:room], keys[room:]
        first = shard.append(b"".join([vectors[key] for key in now]))
        start = shard.id * MAX_ROWS + first
        try:
            with index.change():
                index.add(shard.state(), list(enumerate(now, start)))
        except BaseException:
            self._let_go(shard)
            raise
        if later or len(now) == room:
            self._let_go(shard)
        return later

    def _let_go(self, shard: _OpenShard) -> None:
        os.close(shard.fd)
        self._open.pop(shard.dim, None)

    def _take(self, index: Index, dim: int) -> _OpenShard:
        """A shard with room whose writer is gone, or a new one."""
        try:
            with index.change():  # nobody drops a shard meanwhile
                room = [s for s in index.shards() if s.dim == dim and s.size + s.record_bytes <= self._shard_bytes]
                adopted = map(partial(self._adopt, index), room[-_ADOPT:][::-1])
                self._open[dim] = next(filter(None, adopted), None) or self._make(index, dim)
        except BaseException:
            if dim in self._open:
                self._let_go(self._open[dim])
            raise
        return self._open[dim]

    def _make(self, index: Index, dim: int) -> _OpenShard:
        shard = index.new_shard(dim)
        fd = _lock(index.shard_path(shard.id), os.O_RDWR | os.O_CREAT)
        if fd is None:
            raise BlockingIOError(f"{index.shard_path(shard.id)} is new and already locked")
        return _OpenShard(shard, fd)

    def _adopt(self, index: Index, shard: Shard) -> _OpenShard | None:
        fd = _lock(index.shard_path(shard.id), os.O_RDWR)
        if fd is None:
            return None
        taken = _OpenShard(shard, fd)
        if taken.rows < self._capacity(taken):
            return taken
        os.close(fd)
        return None

    def _capacity(self, shard: _OpenShard) -> int:
        return max(1, min(MAX_ROWS, self._shard_bytes // shard.record_bytes))

    def _evict(self, index: Index) -> None:
        held: list[tuple[Path, int]] = []
        try:
            with index.change():
                for shard in index.shards():
                    if index.size() <= self._max_bytes:
                        break
                    path = index.shard_path(shard.id)
                    fd = _lock(path, os.O_RDONLY)
                    if fd is None and path.exists():
                        continue  # somebody writes it
                    if fd is not None:
                        held.append((path, fd))
                    index.drop_shard(shard.id)
                else:
                    if index.size() > self._max_bytes:
                        index.drop_stamps()
            for path, _ in held:  # whoever is reading one has it open, or finds nothing
                path.unlink(missing_ok=True)
        finally:
            for _, fd in held:
                os.close(fd)

    def _sweep(self, index: Index) -> None:
        """Delete files that no shard of the index owns: their process died between two steps."""
        with index.change():  # nobody makes a shard meanwhile
            owned = {index.shard_path(shard.id).name for shard in index.shards()}
            for path in self.folder.glob("*.f16"):
                if path.name not in owned:
                    path.unlink(missing_ok=True)
        self._swept = True


def _lock(path: Path, flags: int) -> int | None:
    """An open, locked file; None when it is locked or missing."""
    try:
        fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd
    os.close(fd)
    return None


def by_shard(entries: Sequence[Entry]) -> dict[int, list[Entry]]:
    """Entries of each shard, in the order of their rows."""
    ordered = sorted(entries)
    if ordered and ordered[0][0] // MAX_ROWS == (shard := ordered[-1][0] // MAX_ROWS):
        return {shard: ordered}
    shards = groupby(ordered, lambda entry: entry[0] // MAX_ROWS)
    return {shard: list(some) for shard, some in shards}
