"""Who goes first: what is urgent announces itself long before it needs the device, and bulk work makes way for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final

PATIENCE_S: Final = 0.25
"""Seconds that bulk work gives up turns for an announcement at most, and at a stretch for all of them."""

EXPECTED_S: Final = 2.0
"""Seconds that an announcement keeps bulk batches small at most."""

_TURNS_EACH = 2
_TURNS_MOST = 4
"""Turns that an announcement takes away, and all of them together: its image is decoded on one core, and on another
Python gets it to the device and back."""


class Precedence:
    """Knows what is urgent and on its way. Thread-safe.

    Args:
        told: called, without a lock, at the end of an announcement.
        clock: seconds, monotonic.

    Attributes:
        changed: for `Turns`, which wait for the end of an announcement.
    """

    def __init__(self, told: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.monotonic) -> None:
        self._told = told
        self._clock = clock
        self._since: dict[object, float] = {}
        self.changed = threading.Condition()

    @contextmanager
    def expect(self) -> Iterator[None]:
        """Announce something urgent; the end of the block takes that back, whatever became of it."""
        announced = object()
        with self.changed:
            self._since[announced] = self._clock()
        try:
            yield
        finally:
            with self.changed:
                del self._since[announced]
                self.changed.notify(_TURNS_EACH)
            self._told()

    @property
    def expected(self) -> bool:
        """Whether something urgent was announced lately: what a slow download holds up is announced again behind it."""
        oldest = self._clock() - EXPECTED_S
        return any(since >= oldest for since in list(self._since.values()))

    def fresh(self) -> tuple[int, float]:
        """How many announcements are younger than `PATIENCE_S`, and the seconds until that changes. Hold `changed`.

        A download may take long, and nobody else's work waits for that.
        """
        now = self._clock()
        ages = [now - since for since in self._since.values()]
        left = [PATIENCE_S - age for age in ages if age < PATIENCE_S]
        return len(left), min(left, default=0.0)


class Turns:
    """Turns for bulk work, some of which it gives up while something urgent is expected. Taken by `with`. Thread-safe.

    Turns that are free and given up are so for `PATIENCE_S` at most, then one is taken: a stream of urgent images slows
    bulk ones down and does not stop them.

    Args:
        count: how many there are.
        precedence: what is expected.
        clock: seconds, monotonic.
    """

    def __init__(self, count: int, precedence: Precedence, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._precedence = precedence
        self._clock = clock
        self._taken = 0
        self._gives_way_since: float | None = None

    def __enter__(self) -> None:
        changed = self._precedence.changed
        with changed:
            while (wait_s := self._wait_s()) != 0:
                changed.wait(wait_s)
            self._gives_way_since = None
            self._taken += 1

    def _wait_s(self) -> float | None:
        """0: it is one's turn. Else the seconds until that has to be looked at again, None for until it changes."""
        if self._taken >= self._count:
            return None
        fresh, changes_s = self._precedence.fresh()
        if self._taken < self._count - min(_TURNS_MOST, _TURNS_EACH * fresh):
            return 0
        now = self._clock()
        if self._gives_way_since is None:
            self._gives_way_since = now
        return max(0.0, min(changes_s, self._gives_way_since + PATIENCE_S - now))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._precedence.changed:
            self._taken -= 1
            self._precedence.changed.notify()
