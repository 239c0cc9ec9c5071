"""Standard streams that cannot take what is written: on a full disk, without a reader, or in a narrow encoding.

What is on standard output is what a command is for: where it cannot be written, the command has failed. Standard error
tells people how it goes: what cannot be written there is lost, and changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from .console import EXIT_FAILED, fail, takes_every_letter

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    r"""Run a command whose output, whatever becomes of it, ends in no traceback.

    Letters that the stream's encoding lacks are written as `\u2713`. Output that cannot be written is said in one line
    on stderr, and the status is 1; a reader that has gone (`| head`) is told nothing. What stderr does not take is
    lost.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # started with it closed
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # as long as we run
        elif not takes_every_letter(stream):
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = _lossy(sys.stderr)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        sys.exit(EXIT_FAILED)
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        _unwritable(error)


class _LossyFile(io.FileIO):
    """A stream's file that takes whatever it is given, and loses what cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream.fileno(), "w", closefd=False)
        self._stream = stream  # one that nobody holds would close the file

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content) or 0
        except OSError:
            return memoryview(content).nbytes


def _lossy(stream: TextIO) -> TextIO:
    """The same stream, written to without errors; itself where it is no file of the system's, as in tests."""
    try:
        file = _LossyFile(stream)
    except (OSError, ValueError):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(file), stream.encoding, stream.errors, line_buffering=True, write_through=True
    )


@contextlib.contextmanager
def keeping(where: Callable[[], str]) -> Iterator[None]:
    """Print in the block what must not be lost: where standard output cannot be written, the line says where it is.

    Args:
        where: says so, and may put it there first; called only then.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        _unwritable(error, where())


def _unwritable(error: OSError, kept: str = "") -> NoReturn:
    _drop_stdout()
    fail(f"standard output cannot be written: {error.strerror}{kept and '; '}{kept}")


def _drop_stdout() -> None:
    """Let what is left in the buffer go nowhere: the interpreter writes it out at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
