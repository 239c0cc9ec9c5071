"""The disk store's index: which record of which shard holds the vector of a key. SQLite, one connection a thread."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..records import record_bytes, stamp_checksum

INDEX_FILE = "index.sqlite"
MAX_ROWS = 1 << 24
MAX_DIM = 1 << 16
_MAX_SIZE = 1 << 40

VERSION = 2
"""Of tables and records; another one's store is replaced."""

_TABLES = """
CREATE TABLE vectors (place INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE);
CREATE TABLE stamps (stamp BLOB PRIMARY KEY, key BLOB NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX stamps_by_key ON stamps (key);
CREATE TABLE shards (
    id INTEGER PRIMARY KEY AUTOINCREMENT, dim INTEGER NOT NULL, bytes INTEGER NOT NULL, used INTEGER NOT NULL
);
"""
"""`place` is shard * MAX_ROWS + row, so that a shard's entries lie together; `used` is in seconds since 1970."""

_BUSY_S = 10.0
_AT_ONCE = 500
"""Keys a query; SQLite before 3.32 takes 999."""


Entry = tuple[int, bytes]
"""Where a vector is (its place), and its key."""


class Shard(NamedTuple):
    """A file of records of one length; `size` is what the index knows of it, in bytes."""

    id: int
    dim: int
    size: int

    @property
    def record_bytes(self) -> int:
        """Size of each of its records."""
        return record_bytes(self.dim)


class Damage(sqlite3.DatabaseError):
    """What is in the index cannot be."""


class Index:
    """A connection to the index of one generation. For one thread at a time.

    Every method may raise sqlite3.Error.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / INDEX_FILE
        if not path.exists():
            raise Damage("there is no index")
        try:
            self._db = _connect(path, "mode=rw")
        except sqlite3.OperationalError:
            if os.access(folder, os.W_OK):
                raise
            self._db = _connect(path, "immutable=1")  # a store on a read-only disk can still be read
        try:
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version != VERSION:
                raise Damage(f"the index has version {version!r}")
            if _schema(self._db) != _right_schema():
                raise Damage("the index has other tables")
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def shard_path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{shard:08x}.f16"

    @contextmanager
    def change(self) -> Iterator[None]:
        """One transaction, which waits for those of other processes."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def find(self, keys: Sequence[bytes]) -> list[Entry]:
        """Entries of those of the (different) keys that have one, in no order."""
        wanted = frozenset(keys)
        return _entries(self._select("SELECT place, key FROM vectors WHERE key", keys), wanted)

    def find_stamps(self, stamps: Sequence[bytes]) -> dict[bytes, bytes]:
        """The key of each stamp that is known."""
        rows = self._select("SELECT stamp, key, checksum FROM stamps WHERE stamp", stamps)
        whole = (row for row in rows if isinstance(row[1], bytes) and stamp_checksum(row[0], row[1]) == row[2])
        return {stamp: key for stamp, key, _ in whole}

    def _select(self, query: str, values: Sequence[bytes]) -> list[Any]:
        rows: list[Any] = []
        for start in range(0, len(values), _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            rows += self._db.execute(f"{query} IN ({','.join('?' * len(some))})", some)
        return rows

    def add(self, shard: Shard, entries: Iterable[Entry]) -> None:
        """Add entries and say how large their shard has become; inside `change`."""
        self._db.executemany("INSERT OR IGNORE INTO vectors (place, key) VALUES (?, ?)", entries)
        touched = self._db.execute(
            "UPDATE shards SET bytes = ?, used = ? WHERE id = ?", (shard.size, int(time.time()), shard.id)
        )
        if touched.rowcount != 1:
            raise sqlite3.OperationalError(f"shard {shard.id} is gone")

    def add_stamps(self, stamps: Mapping[bytes, bytes]) -> None:
        """Add those stamps whose vector is there; inside `change`."""
        self._db.executemany(
            "INSERT OR REPLACE INTO stamps SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM vectors WHERE key = ?2)",
            [(stamp, key, stamp_checksum(stamp, key)) for stamp, key in stamps.items()],
        )

    def forget(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Drop entries (place and key) that led to something else; inside `change`."""
        # By either: where a damaged index gives a key another's place, each is found by one of the two alone.
        self._db.executemany("DELETE FROM vectors WHERE place = ? OR key = ?", entries)

    def touch(self, shards: Iterable[int]) -> None:
        """Note that shards were read; inside `change`."""
        self._db.executemany("UPDATE shards SET used = ? WHERE id = ?", [(int(time.time()), id_) for id_ in shards])

    def dims(self, shards: Sequence[int]) -> dict[int, int]:
        """The vectors' length in each shard that is known."""
        rows = self._select("SELECT id, dim FROM shards WHERE id", shards)  # type: ignore[arg-type]
        return {id_: dim for id_, dim in rows if isinstance(dim, int) and 0 < dim <= MAX_DIM}

    def new_shard(self, dim: int) -> Shard:
        """A new, empty shard; inside `change`."""
        inserted = self._db.execute("INSERT INTO shards (dim, bytes, used) VALUES (?, 0, ?)", (dim, int(time.time())))
        return Shard(int(inserted.lastrowid or 0), dim, 0)

    def shards(self) -> list[Shard]:
        """All shards, the longest unused first."""
        shards = [Shard(*row) for row in self._db.execute("SELECT id, dim, bytes FROM shards ORDER BY used, id")]
        for shard in shards:
            numbers = all(type(value) is int and value >= 0 for value in shard)
            if not (numbers and 0 < shard.dim <= MAX_DIM and shard.size < _MAX_SIZE):
                raise Damage(f"there is no {shard}")
        return shards

    def size(self) -> int:
        """Bytes of all shards and of the index itself."""
        pages, free, page = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return sum(shard.size for shard in self.shards()) + int((pages - free) * page)

    def drop_shard(self, shard: int) -> None:
        """Drop a shard with all that points into it; inside `change`."""
        span = (shard * MAX_ROWS, (shard + 1) * MAX_ROWS - 1)
        inside = "SELECT key FROM vectors WHERE place BETWEEN ? AND ?"
        self._db.execute(f"DELETE FROM stamps WHERE key IN ({inside})", span)  # noqa: S608 - no input in it
        self._db.execute("DELETE FROM vectors WHERE place BETWEEN ? AND ?", span)
        self._db.execute("DELETE FROM shards WHERE id = ?", (shard,))

    def drop_stamps(self) -> None:
        """Drop all stamps; inside `change`."""
        self._db.execute("DELETE FROM stamps")


def _entries(rows: Iterable[Any], wanted: Container[bytes]) -> list[Entry]:
    """Those rows that may be wanted entries; a damaged index has others."""
    return [(place, key) for place, key in rows if key in wanted and type(place) is int and place >= MAX_ROWS]


def _schema(db: sqlite3.Connection) -> list[Any]:
    return db.execute("SELECT type, name, tbl_name, CAST(sql AS BLOB) FROM sqlite_master ORDER BY name").fetchall()


@lru_cache(maxsize=1)
def _right_schema() -> list[Any]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.text_factory = bytes
        db.executescript(_TABLES)
        return _schema(db)


def create_index(folder: Path) -> None:
    """An empty index in a new folder.

    Raises:
        sqlite3.Error: it cannot be written.
    """
    with contextlib.closing(_connect(folder / INDEX_FILE, "mode=rwc")) as db:
        db.executescript(f"PRAGMA journal_mode = WAL; {_TABLES} PRAGMA user_version = {VERSION};")


def _connect(path: Path, options: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.resolve().as_uri()}?{options}",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )
    db.text_factory = bytes  # there is no text in it but by damage
    try:
        for pragma in _PRAGMAS:
            db.execute(f"PRAGMA {pragma}")
    except BaseException:
        db.close()
        raise
    return db


_PRAGMAS = ("mmap_size = 0", "synchronous = NORMAL", "cell_size_check = ON", "journal_size_limit = 16777216")
"""No page is memory-mapped: a file cut short must be an error and not a SIGBUS."""
