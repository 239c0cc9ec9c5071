"""What every store reader shares. Readers never name the reference in a message: `Fetcher` does, in its safe form."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from ...schemas.errors import ItemError, TransientError
from .deadline import Deadline

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 10.0
CHUNK = 64 * 1024


IsKnown = Callable[[str], bool]
"""Told an object's mark, before its content is read; says whether that content is known, so that it need not be."""


class Fetched(NamedTuple):
    """What a look at an object in its store brought.

    Attributes:
        mark: what the store says of the object's present content, so that another content has another mark: ETag and
            size, a file's size and times. None where the store says nothing of the kind.
        content: the encoded image; None when its mark is known.
    """

    mark: str | None
    content: bytes | None


@runtime_checkable
class Reader(Protocol):
    """Reads one kind of reference, from many threads at once.

    One that holds on to something has a method `close()` besides, which is called once, when the last image has been
    read.
    """

    def read(self, uri: str, deadline: Deadline, is_known: IsKnown) -> Fetched:
        """What is behind a reference, without its content when its mark is known.

        Args:
            uri: the reference, as somebody wrote it.
            deadline: when to give up.
            is_known: told the object's mark, if it has one, before its content is read.

        Raises:
            ItemError: they can never be had.
            TransientError: not now.
        """
        ...


def no_content() -> ItemError:
    """The error for a reader that keeps a content back though its mark is not known."""
    return ItemError("what reads such references gave neither an image nor a mark that is known")


def too_large(limit: int) -> ItemError:
    """The error for a file over the byte cap."""
    return ItemError(f"larger than {limit:,} bytes (PRELABEL_MAX_IMAGE_BYTES)")


def too_slow(deadline: Deadline) -> TransientError:
    """The error for a fetch over its time."""
    return TransientError(f"not fetched within {deadline.seconds:g} s (PRELABEL_FETCH_TIMEOUT_S)")
