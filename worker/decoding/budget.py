"""How much memory images may take while they are decoded: one budget for all threads of a process."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import Self

from ..machine.host import free_memory

LEAST_BYTES = 512 * 2**20
"""What a budget that is measured is at least: below that, one image of 30 megapixels would go alone."""

_PART_OF_FREE = 4


class Share:
    """What one image has of the budget until it is released; a context manager that does so at its end.

    Whoever holds one must not ask for another: two that did would wait for each other.
    """

    def __init__(self, budget: DecodeBudget, taken: int) -> None:
        self._budget = budget
        self._taken = taken

    def shrink(self, to_bytes: int) -> None:
        """Give back all but `to_bytes`, once the decoder is done and only its pixels are left."""
        surplus = max(0, self._taken - to_bytes)
        self._taken -= surplus
        self._budget.give_back(surplus)

    def release(self) -> None:
        """Give everything back; what was given back before is not given twice."""
        self.shrink(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class DecodeBudget:
    """A semaphore counted in bytes: whoever decodes takes what the image needs, and waits while there is less.

    First come, first served, urgent ones first, so that a large image is not passed by small ones for ever. One that
    needs more than there is waits until nobody else has anything, and goes alone.

    Args:
        limit: bytes, at least 1; None is a quarter of the memory free now.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit or max(LEAST_BYTES, (free_memory() or 0) // _PART_OF_FREE)
        self._taken = 0
        self._turns: dict[bool, deque[object]] = {True: deque(), False: deque()}
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        """Bytes that are taken now."""
        with self._changed:
            return self._taken

    @property
    def waiting(self) -> int:
        """Those that wait for a share now."""
        with self._changed:
            return sum(map(len, self._turns.values()))

    def take(self, needed: int, *, urgent: bool = False) -> Share:
        """Wait for `needed` bytes of the budget, or for all of it if it is smaller.

        Args:
            needed: bytes.
            urgent: go before those that wait and are not urgent.
        """
        needed = min(needed, self.limit)
        turn, turns = object(), self._turns[urgent]
        with self._changed:
            turns.append(turn)
            try:
                self._changed.wait_for(lambda: self._is_next(turn) and self._taken + needed <= self.limit)
                self._taken += needed
            finally:
                turns.remove(turn)
                self._changed.notify_all()
        return Share(self, needed)

    def give_back(self, surplus: int) -> None:
        """For `Share`: this many bytes are free again."""
        with self._changed:
            self._taken -= surplus
            self._changed.notify_all()

    def _is_next(self, turn: object) -> bool:
        return (self._turns[True] or self._turns[False])[0] is turn
