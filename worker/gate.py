"""A gate chunks pass together, and a suspect alone.

When a worker process dies, every chunk it held is a suspect. Run alone, the next death has one cause.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Many may be inside together, or one alone. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = False
        self._waiting = 0

    @contextmanager
    def together(self, *, urgent: bool = False) -> Iterator[None]:
        """Be inside with others; waits for one who is or wants to be alone (urgent ones only for one who is)."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and (urgent or not self._waiting))
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be inside alone; waits until everybody else has left."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not self._alone and not self._inside)
            self._waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
