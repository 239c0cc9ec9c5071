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
        self._there: list[_T] = []
        self._wanted = 1
        self._enough = threading.Condition()

    def put(self, one: _T) -> None:
        """Add one."""
        with self._enough:
            self._there.append(one)
            if len(self._there) == self._wanted:
                self._enough.notify()

    def take(self, wanted: int, timeout_s: float) -> list[_T]:
        """All there is, as soon as that is as many as wanted; after `timeout_s` however many there are."""
        with self._enough:
            self._wanted = wanted
            if len(self._there) < wanted:
                self._enough.wait(timeout_s)
            taken, self._there = self._there, []
            return taken
