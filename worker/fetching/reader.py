"""What every store reader shares. Readers never name the reference in a message: `Fetcher` does, in its safe form."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
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


def retry_after_s(header: str) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date; None when it holds neither."""
    text = header.strip()
    if text.isdecimal() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        return None


def too_large(limit: int) -> ItemError:
    """The error for a file over the byte cap."""
    return ItemError(f"larger than {limit:,} bytes (PRELABEL_MAX_IMAGE_BYTES)")


def too_slow(deadline: Deadline) -> TransientError:
    """The error for a fetch over its time."""
    return TransientError(f"not fetched within {deadline.seconds:g} s (PRELABEL_FETCH_TIMEOUT_S)")
