"""Whether something is news, for what would be logged again and again."""

from __future__ import annotations

import threading
from collections import deque


class Once:
    """Says whether something is news, where it would be logged again and again. Thread-safe.

    Args:
        most: things remembered; one that was said before so many others is news again.
    """

    def __init__(self, most: int = 1000) -> None:
        self._said: deque[str] = deque(maxlen=most)
        self._lock = threading.Lock()

    def first(self, what: str) -> bool:
        """Whether it is news; it is none from now on."""
        with self._lock:
            if what in self._said:
                return False
            self._said.append(what)
            return True
