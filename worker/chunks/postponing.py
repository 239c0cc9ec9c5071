"""Postponing: an item whose trouble may pass is tried again later. When, as a value."""

from __future__ import annotations

import random
from typing import NamedTuple, Self

from ...schemas.errors import OutOfMemory, TransientError

_FIRST_SPREAD_S = 4.0
"""Longest pause before the second try, in seconds; it doubles with each further one."""

_LEAST_PAUSE_S = 0.1


class Postponement(NamedTuple):
    """How long an item waits until it is tried again; the longer of two is the larger.

    Attributes:
        least_s: seconds its store asked to be left alone for; 0 when it did not say.
        spread_s: seconds over which many that failed together are spread, at random, after that.
    """

    least_s: float
    spread_s: float

    @classmethod
    def of(cls, error: Exception, postponed: int, retries: int) -> Self | None:
        """The postponement an error asks for; None when it is not to be tried again.

        What passes is a store, a platform or a broker that does not deliver, and a device short of memory: whatever
        else uses it may be done by then.

        Args:
            error: what went wrong.
            postponed: times the item was postponed before.
            retries: times it may be.
        """
        if not isinstance(error, TransientError | OutOfMemory) or postponed >= retries:
            return None
        asked_s = error.retry_after_s if isinstance(error, TransientError) else None
        return cls(asked_s or 0.0, _FIRST_SPREAD_S * 2**postponed)

    def pause_s(self) -> float:
        """A pause of this length, in seconds; another one at each call."""
        # Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
        return self.least_s + random.uniform(0, self.spread_s)  # noqa: S311  # no secret


class PostponedItems:
    """The items of one chunk that are to be tried again later, all of them after the longest of their pauses.

    Args:
        postponed: times the chunk was postponed before.
        retries: times it may be.

    Attributes:
        count: items postponed so far.
    """

    def __init__(self, postponed: int, retries: int) -> None:
        self.count = 0
        self._postponed = postponed
        self._retries = retries
        self._longest: Postponement | None = None

    def may_pass(self, error: Exception) -> bool:
        """Whether an item that failed with this error is to be tried again."""
        return self._of(error) is not None

    def take(self, error: Exception, items: int = 1) -> bool:
        """Count items that failed with this error among the postponed, if they are to be tried again.

        Returns:
            Whether they are; if not, they have failed for good.
        """
        postponement = self._of(error)
        if postponement is None:
            return False
        self.count += items
        self._longest = max(self._longest or postponement, postponement)
        return True

    def pause_s(self) -> float | None:
        """Seconds until they are to be tried again, another number at each call; None where nothing was postponed."""
        # The ledger takes a chunk that is given back without a pause for one that is not postponed.
        return None if self._longest is None else max(_LEAST_PAUSE_S, self._longest.pause_s())

    def _of(self, error: Exception) -> Postponement | None:
        return Postponement.of(error, self._postponed, self._retries)
