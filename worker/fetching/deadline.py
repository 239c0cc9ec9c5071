"""One wall-clock limit over everything a fetch does, down to each read of a socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Deadline:
    """A moment by which a piece of work must be over.

    Timeouts of single operations do not add up to a limit: a server that sends one byte every nine seconds never
    runs into a ten-second read timeout. So code that waits asks `Deadline.current()` how long it may.
    """

    _active = threading.local()

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left; negative once it has passed."""
        return self._at - time.monotonic()

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self.remaining <= 0

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Make this the calling thread's deadline."""
        before = self.current()
        self._active.deadline = self
        try:
            yield
        finally:
            self._active.deadline = before

    @classmethod
    def current(cls) -> Deadline | None:
        """The deadline in force in the calling thread."""
        deadline: Deadline | None = getattr(cls._active, "deadline", None)
        return deadline
