"""A gate chunks pass together, and a suspect alone.

When a worker process dies, every chunk it held is a suspect. Run alone, the next death has one cause.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PATIENCE_S = 2.0
"""Seconds a suspect lets urgent chunks pass; a stream of them would else keep it, and all bulk chunks, out for ever."""


class Gate:
    """Many may be inside together, or one alone. Thread-safe.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = 0.0
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = False
        self._waiting = 0

    def _impatient(self) -> bool:
        """Whether one who wants to be alone has waited so long that urgent ones must let it in, too."""
        return self._clock() - self._since > _PATIENCE_S

    @contextmanager
    def together(self, *, urgent: bool = False) -> Iterator[None]:
        """Be inside with others; waits for one who is or wants to be alone. Urgent ones at first only for who is."""

        def may_enter() -> bool:
            return not self._alone and (not self._waiting or (urgent and not self._impatient()))

        with self._changed:
            self._changed.wait_for(may_enter)
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
            if not self._waiting:
                self._since = self._clock()
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
