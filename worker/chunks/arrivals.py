"""What many threads finish, taken by one that is woken once for many of them."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Arrivals(Generic[_T]):
    """A queue with one taker. Thread-safe.

    A taker woken for each thing does a little for each, and each waking costs two switches between threads, beside
    which that little is nothing.
    """

    def __init__(self) -> None:
        self._waiting: list[_T] = []
        self._wanted = 1
        self._enough = threading.Condition()

    def put(self, arrival: _T) -> None:
        """Add what a thread has finished."""
        with self._enough:
            self._waiting.append(arrival)
            if len(self._waiting) == self._wanted:
                self._enough.notify()

    def take(self, wanted: int, timeout_s: float) -> list[_T]:
        """Wait for what the threads finish, and take all of it.

        Args:
            wanted: how many are waited for.
            timeout_s: seconds after which however many there are will do.
        """
        with self._enough:
            self._wanted = wanted
            if len(self._waiting) < wanted:
                self._enough.wait(timeout_s)
            taken, self._waiting = self._waiting, []
            return taken
