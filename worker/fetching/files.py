"""Images in files below configured folders."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from urllib.parse import unquote_to_bytes

from ...schemas.errors import ConfigError, ItemError, TransientError
from ...schemas.settings import Settings
from .deadline import Deadline
from .reader import Fetched, IsKnown, too_large

_FILE_URI = re.compile(r"file:(?://(?P<host>[^/]*))?(?P<path>.*)", re.IGNORECASE | re.DOTALL)

# A network file system hiccups, a process runs out of descriptors: the file itself is fine.
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR}
_NONBLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class FileReader:
    """Reads regular files below `settings.image_roots` (default: the current folder).

    A relative path is looked up below each root in turn. Links are followed before the check, so a link that
    leads out of the roots is refused like the place it leads to.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            roots = settings.image_roots or (Path.cwd(),)
        except FileNotFoundError:
            raise ConfigError("the current folder is gone: change to another, or set PRELABEL_IMAGE_ROOTS") from None
        self._roots = tuple(root.resolve() for root in roots)
        self._limit = settings.max_image_bytes

    def read(
        self,
        uri: str,
        deadline: Deadline,  # noqa: ARG002 - a regular file does not make us wait
        is_known: IsKnown,
    ) -> Fetched:
        """The file's bytes. Its mark is made of inode, size and times of change.

        Raises:
            ItemError: outside the roots, missing, not a regular file, unreadable, or too large.
            TransientError: the file system is in trouble.
        """
        try:
            return self._read(self._locate(_local_path(uri)), is_known)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            if error.errno in _PASSING:
                raise TransientError(f"the file system says: {reason}") from None
            raise ItemError(_FILE_ERRORS.get(error.errno or 0, f"cannot be read: {reason}")) from None
        except (ValueError, RuntimeError):  # a NUL byte; a loop of links before Python 3.13
            raise ItemError("not a usable file path") from None

    def _locate(self, path: str) -> Path:
        inside = [
            place
            for root in self._roots
            if (place := (root / path).resolve()) and any(place.is_relative_to(root) for root in self._roots)
        ]
        if not inside:
            raise ItemError("lies outside the folders images may be read from (PRELABEL_IMAGE_ROOTS)")
        return next((place for place in inside[:-1] if place.exists()), inside[-1])

    def _read(self, path: Path, is_known: IsKnown) -> Fetched:
        # Looked at before it is opened: opening a device can already do something.
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            raise ItemError("a folder, not a regular file: name the images in it (photos/*.jpg)")
        if not stat.S_ISREG(mode):
            raise ItemError("not a regular file")
        descriptor = os.open(path, os.O_RDONLY | _NONBLOCKING)
        try:
            # And again on what was opened: the name may have come to mean a pipe in between.
            opened = os.fstat(descriptor)
            if not stat.S_ISREG(opened.st_mode):
                raise ItemError("not a regular file")
            if opened.st_size > self._limit:
                raise too_large(self._limit)
            mark = f"{opened.st_dev}:{opened.st_ino}:{opened.st_size}:{opened.st_mtime_ns}:{opened.st_ctime_ns}"
            if is_known(mark):
                return Fetched(mark, None)
            # Not through a file object: each of its further system calls lets another thread in first.
            data = os.read(descriptor, opened.st_size + 1)
            while len(data) != opened.st_size and (more := os.read(descriptor, self._limit + 1 - len(data))):
                data += more  # it was read in part, or has grown since
        finally:
            os.close(descriptor)
        if len(data) > self._limit:
            raise too_large(self._limit)
        return Fetched(mark, data)


_FILE_ERRORS = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file",
    errno.EACCES: "the worker may not read this file (permission denied)",
    errno.EPERM: "the worker may not read this file (permission denied)",
    errno.ELOOP: "not a usable file path",
}


def _local_path(uri: str) -> str:
    match = _FILE_URI.fullmatch(uri)
    if match is None:
        return uri
    if (match["host"] or "localhost").lower() != "localhost":
        raise ItemError("a file: URI can only name a file on this machine (file:///path)")
    return os.fsdecode(unquote_to_bytes(match["path"]))  # a name need not be UTF-8
