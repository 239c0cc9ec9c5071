"""What every vector store shares beside its records: a background writer, and how an outage is told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice

log = logging.getLogger(__name__)

_WARN_EVERY_S = 60.0


@dataclass
class Batch:
    """What waits to be written: records by key, and keys by stamp."""

    vectors: dict[bytes, bytes] = field(default_factory=dict)
    stamps: dict[bytes, bytes] = field(default_factory=dict)


class BackgroundWriter:
    """One thread that writes what callers hand over and never wait for. Thread-safe; not to be taken across a fork.

    The thread begins with the first thing handed over. While a write runs the next batch gathers. What exceeds
    `capacity` is dropped: it is computed again one day.

    Args:
        write: writes a batch; should keep its errors to itself.
        capacity: vectors, and as many stamps, that may wait.
    """

    def __init__(self, write: Callable[[Batch], None], capacity: int) -> None:
        self._write = write
        self._capacity = capacity
        self._waiting = Batch()
        self._changed = threading.Condition()
        self._asked = self._done = 0
        self._begun = self._closed = False
        self._thread = threading.Thread(target=self._run, name="vector-store", daemon=True)

    def add(self, vectors: Mapping[bytes, bytes], stamps: Mapping[bytes, bytes]) -> None:
        """Take over as much as there is room for. With nothing, just have the thread call `write` soon."""
        with self._changed:
            if self._closed:
                return
            if not self._begun:
                self._begun = True
                self._thread.start()
            for waiting, more in ((self._waiting.vectors, vectors), (self._waiting.stamps, stamps)):
                waiting.update(islice(more.items(), max(0, self._capacity - len(waiting))))
            self._asked += 1
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Whether all that was added before was written, or given up, in time."""
        with self._changed:
            wanted = self._asked
            return self._changed.wait_for(lambda: self._done >= wanted, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Write what waits, take no more, end the thread; whether that was done in time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            begun = self._begun
        if begun:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._asked > self._done)
                if self._asked == self._done:
                    return
                batch, self._waiting, taken = self._waiting, Batch(), self._asked
            try:
                self._write(batch)
            except Exception:  # without this thread nothing would ever be stored again
                log.exception("a batch for the vector store was lost")
            with self._changed:
                self._done = taken
                self._changed.notify_all()


def shown(error: Exception) -> str:
    """An error's first line, for people; it may quote what stands in a damaged file."""
    text = "".join(c if c.isprintable() else "?" for c in str(error).partition("\n")[0])
    return text[:200] or type(error).__name__


class Outage:
    """Whether a store is to be left alone for now. Says so once, not for every image. Thread-safe.

    Args:
        what: what does not work and what that means, for people.
        pause_s: seconds the store is left alone after a failure.
    """

    def __init__(self, what: str, pause_s: float) -> None:
        self._what = what
        self._pause_s = pause_s
        self._lock = threading.Lock()
        self._failing = False
        self._until = self._warned = -float("inf")

    def paused(self) -> bool:
        """Whether it failed a moment ago and need not be asked again yet."""
        return self._failing and time.monotonic() < self._until

    def failed(self, error: Exception) -> None:
        """Pause; warn unless that was done for the same spell or within a minute."""
        now = time.monotonic()
        with self._lock:
            warn = not self._failing and now - self._warned >= _WARN_EVERY_S
            self._failing = True
            self._until = now + self._pause_s
            if warn:
                self._warned = now
        if warn:
            log.warning("%s (%s)", self._what, shown(error))

    def passed(self) -> None:
        """It worked."""
        self._failing = False
