"""A file in memory that ends a decoder which is at it for too long: the one place where that can be done.

Nothing can interrupt a decoder in C, but nearly all of them come back for the next block. A file of 25 MiB can be cut
into millions of those, each a few turns of Python: seconds to half a minute, and much memory.
"""

from __future__ import annotations

import io
import time

from ...schemas.errors import ItemError

MAX_CPU_S = 10.0
"""Seconds of CPU, so that a busy machine makes no image fail. The slowest image that programs write, 50 million pixels
of a progressive JPEG, takes three."""

_READS_A_LOOK = 64
"""Reads from one look at the clock to the next: a look takes as long as a read."""

MAX_OPENING_READS = 1_000_000
"""Reads before the first pixel. A large PNG or GIF comes to ten thousands; of each 200 bytes may be kept."""


class TimedFile(io.BytesIO):
    """Raises `ItemError` from a read once the thread has spent its time since the last `begin`, or the reads are spent.

    Args:
        content: the file.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._reads = 0
        self._most: int | None = MAX_OPENING_READS
        self._end = time.thread_time() + MAX_CPU_S

    def begin(self) -> None:
        """It is open: count its time anew from here on, on the thread that reads, and its reads no more."""
        self._reads, self._most = 0, None
        self._end = time.thread_time() + MAX_CPU_S

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes.

        Raises:
            ItemError: time or reads are spent.
        """
        self._reads += 1
        if self._reads % _READS_A_LOOK == 0 and (self._is_spent() or time.thread_time() > self._end):
            raise ItemError("an image that takes too long to decode: built to keep a decoder busy")
        return super().read(size)

    def _is_spent(self) -> bool:
        return self._most is not None and self._reads > self._most
