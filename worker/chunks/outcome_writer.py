"""Writes a chunk's outcomes to the ledger, some at a time, and tells everybody who waits for them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import redis

from ...integrations.broker.errors import passes
from ...integrations.ledger.leases import Answered, Lease
from ...schemas.predictions import Outcome
from ..delivering.showcase import Exhibit
from ..telemetry import metrics, trace
from .tools import Tools

log = logging.getLogger(__name__)
_T = TypeVar("_T")

FLUSH_S: Final = 0.25
"""Seconds between two writes: often enough that a slow device shows progress and that a death costs little."""

FLUSH_ITEMS: Final = 32
"""Outcomes that are written at once, however short ago the last ones were."""

_LARGE_BYTES: Final = 8 * 2**20

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
"""Between tries of a write while Redis is away."""


class OutcomeWriter:
    """Gathers the outcomes of one leased chunk and writes them. For one thread.

    Args:
        tools: the ledger, and who is to learn of what was written.
        lease: the chunk; once it is lost, nothing is written.
        clock: seconds, monotonic.
    """

    def __init__(self, tools: Tools, lease: Lease, clock: Callable[[], float] = time.monotonic) -> None:
        self._tools = tools
        self._lease = lease
        self._clock = clock
        self._outcomes: list[tuple[int, Outcome]] = []
        self._answered: list[Answered] = []
        self._exhibits: list[Exhibit] = []
        self._written_s = clock()

    def add(self, ordinal: int, outcome: Outcome, exhibit: Exhibit | None = None) -> None:
        """Keep an item's outcome for the next write.

        Args:
            ordinal: the item's.
            outcome: its answers, or why it has none.
            exhibit: what people may see of it.
        """
        self._outcomes.append((ordinal, outcome))
        if exhibit:
            self._exhibits.append(exhibit)

    def add_answered(self, answered: Answered, exhibits: Sequence[Exhibit]) -> None:
        """Keep the record of items that were answered together for the next write.

        Args:
            answered: the items' ordinals and their record.
            exhibits: what people may see of them.
        """
        self._answered.append(answered)
        self._exhibits += exhibits

    @property
    def _items(self) -> int:
        return len(self._outcomes) + sum(len(answered.ordinals) for answered in self._answered)

    @property
    def is_large(self) -> bool:
        """Whether what was added is as much as Redis should get at once: scores of very many labels are."""
        return sum(len(answered.record) for answered in self._answered) > _LARGE_BYTES

    @property
    def due(self) -> bool:
        """Whether what was added should be written now."""
        waited_s = self._clock() - self._written_s
        return bool(self._items) and (self._items >= FLUSH_ITEMS or waited_s >= FLUSH_S)

    def write(self, left: int) -> bool:
        """Write what was added; while Redis is away, try again until it is back or the worker stops.

        Args:
            left: the chunk's items that are without an outcome after this; the chunk is closed when there are none.

        Returns:
            Whether the chunk is still ours; if not, nothing was written.

        Raises:
            RedisError: Redis refuses, or the worker stops while Redis is away.
        """
        items = self._items
        outcomes, self._outcomes = self._outcomes, []
        answered, self._answered = self._answered, []
        exhibits, self._exhibits = self._exhibits, []
        with trace.span("write", images=items):
            written = self._until_redis_is_back(
                lambda: self._tools.ledger.complete(self._lease, outcomes, close=left == 0, answered=answered)
            )
        self._written_s = self._clock()
        job_id = self._lease.ref.job_id
        if not written.held:
            log.info("job %s chunk %d was taken over or cancelled", *self._lease.ref)
            return False
        self._tools.show(job_id, self._lease.spec, exhibits)
        single = [outcome for ordinal, outcome in outcomes if ordinal in written.ordinals]
        metrics.count_outcomes(single, len(written.ordinals) - len(single))
        if written.push_ready and items:
            self._tools.push(job_id)
        return True

    def postpone(self, pause_s: float) -> None:
        """Give the chunk back: the items without an outcome are to be tried again in `pause_s` seconds.

        Raises:
            RedisError: as `write`.
        """
        self._until_redis_is_back(lambda: self._tools.ledger.release(self._lease, pause_s))

    def _until_redis_is_back(self, write: Callable[[], _T]) -> _T:
        """Repeat a write that is harmless to repeat; the lease decides whether it still counts."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return write()
            except redis.RedisError as error:
                if self._tools.stopping.is_set() or not passes(error):
                    raise
                log.warning("cannot write outcomes (%s), trying again", error)
                self._tools.stopping.wait(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
