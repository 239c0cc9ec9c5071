"""What every store reader shares. Readers never name the reference in a message: `Fetcher` does, in its safe form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ...schemas.errors import ItemError, TransientError
from .deadline import Deadline

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 10.0
CHUNK = 64 * 1024


Known = Callable[[str], bool]
"""Told the store's mark for an object's present content (ETag and size, a file's size and times), before the content is
read; says whether that content is known, so that it need not be."""


def unknown(_: str) -> bool:
    """Every content is to be read."""
    return False


class Reader(Protocol):
    """Reads one kind of reference."""

    def __call__(self, uri: str, deadline: Deadline, known: Known = unknown) -> bytes | None:
        """The bytes behind `uri`; None when their mark is `known`.

        Raises:
            ItemError: they can never be had.
            TransientError: not now.
        """
        ...


class StoreUnavailable(TransientError):
    """A store asks for patience.

    Attributes:
        retry_after_s: seconds the store asked to be left alone, if it said so.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def too_large(limit: int) -> ItemError:
    """The error for a file over the byte cap."""
    return ItemError(f"larger than {limit:,} bytes (PRELABEL_MAX_IMAGE_BYTES)")


def too_slow(deadline: Deadline) -> StoreUnavailable:
    """The error for a fetch over its time."""
    return StoreUnavailable(f"not fetched within {deadline.seconds:g} s (PRELABEL_FETCH_TIMEOUT_S)")
