"""All of a disk store lies in one folder with a random name, its *generation*, and the link `current` points to it.

A damaged store is not repaired: a new generation takes its place, and whoever still uses the old one notices at the
next call. (Deleting or overwriting an SQLite file that others have open would damage the next one through its
write-ahead log.)
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ...machine.files import lock_file
from ..writer import shown
from .index import INDEX_FILE, VERSION, Damage, Index, create_index

log = logging.getLogger(__name__)

_T = TypeVar("_T")

DISK_ERRORS = (OSError, sqlite3.Error)
"""What a disk store that does not work raises here."""

_NAME = re.compile(r"v(\d{1,6})-[0-9a-f]{16}")
_LOCK_S = 2.0
"""Seconds to wait while another process makes a generation."""

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_ERROR)
"""The last is about the statement: ours are right on our tables."""


class LiveIndex:
    """The current generation's index: opened when needed, and anew when it was damaged or replaced. One thread's.

    Args:
        root: the store's folder; created when needed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._index: Index | None = None

    def run(self, use: Callable[[Index], _T]) -> _T:
        """What `use` returns; it is called again, on a new index, where the old one turns out to be gone or damaged.

        Raises:
            OSError, sqlite3.Error: the disk or the folder does not work.
        """
        for attempt in range(3):
            name = current(self._root)
            try:
                return use(self._open(name))
            except (sqlite3.Error, UnicodeDecodeError) as caught:
                self.close()
                # An error that quotes garbage cannot even be read.
                error = Damage("no readable tables") if isinstance(caught, UnicodeDecodeError) else caught
                damaged = _damaged(error) or (_read_only(error) and _writable(self._root / (name or "")))
                if attempt == 2 or not (damaged or current(self._root) != name):
                    raise error from None
                if damaged:
                    start_anew(self._root, name, error)
        raise AssertionError

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._index:
            self._index.close()
        self._index = None

    def _open(self, name: str | None) -> Index:
        if name is None:
            start_anew(self._root, None)
            name = current(self._root) or ""
        if self._index and self._index.folder.name != name:
            self.close()
        if self._index is None:
            self._index = Index(self._root / name)
        return self._index


def current(root: Path) -> str | None:
    """The name of the present generation; None when there is none that is ours.

    Raises:
        OSError: a newer prelabel wrote it.
    """
    try:
        name = str((root / "current").readlink())
    except OSError:
        return None
    match = _NAME.fullmatch(name)
    if match and int(match[1]) > VERSION:
        raise OSError("written by a newer prelabel: give each version its own PRELABEL_VECTOR_STORE_DIR")
    return name if match and int(match[1]) == VERSION else None


def start_anew(root: Path, seen: str | None, why: Exception | None = None) -> None:
    """Put an empty generation in place of the one that was `seen`, unless somebody did; drop all others.

    Raises:
        OSError, sqlite3.Error: the folder cannot be written to, or another process is at it for long.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with lock_file(root / "lock", _LOCK_S):
        if current(root) != seen:
            return
        if why:
            log.warning("the vector store in %s is damaged (%s): all vectors are computed again", root, shown(why))
        name = f"v{VERSION}-{secrets.token_hex(8)}"
        folder, link = root / name, root / f"{name}.link"
        folder.mkdir(mode=0o700)
        create_index(folder)
        link.symlink_to(name)
        link.replace(root / "current")
        for other in root.iterdir():
            if _NAME.fullmatch(other.name.removesuffix(".link")) and other.name != name:
                shutil.rmtree(other, ignore_errors=True)
                with contextlib.suppress(OSError):
                    other.unlink()


def _damaged(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return isinstance(error, Damage) or code & 0xFF in _DAMAGE or code == sqlite3.SQLITE_IOERR_SHORT_READ


def _read_only(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY


def _writable(folder: Path) -> bool:
    """Whether it is not the disk that forbids writing to an index: then it is a damaged header."""
    return os.access(folder, os.W_OK) and os.access(folder / INDEX_FILE, os.W_OK)
