"""One chunk while it is worked on: from its lease to its outcomes.

The chunk's own thread only waits, scores what is embedded and writes it, every quarter of a second, so that a slow
device shows progress and a death costs little. Every hand-over is bounded: memory does not grow with the job.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import redis

from ...integrations.broker.errors import passes
from ...integrations.ledger.leases import Lease
from ...schemas.errors import ConfigError, OutOfMemory, PrelabelError, ScorerError
from ...schemas.items import Item
from ...schemas.jobs import Priority
from ...schemas.predictions import QUARANTINED, ItemFailure, Outcome
from ..delivering.showcase import Shown
from ..embedding.items import ItemImages, Ready, embed_item, stored_item
from ..scoring.failures import failure, failure_message
from ..scoring.job_scorer import JobScorer
from ..telemetry import metrics, trace
from ..telemetry.logs import log_about
from ..telemetry.stages import stage
from .arrivals import Arrivals
from .postponing import Postponement

if TYPE_CHECKING:
    from .pipeline import Pipeline

log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FLUSH_S = 0.25
_FLUSH_ITEMS = 32

QUARANTINE_DEATHS = 3
"""Deaths in a row, without an item done, after which an item is quarantined: it is scored no more until retried."""

_LEAST_PAUSE_S = 0.1
"""A chunk given back without a pause would not count as postponed."""

_LONGEST_PAUSE_S = 1.0
"""Between tries of a write while Redis is away."""


class _Arrived(NamedTuple):
    """An item of the chunk whose images are embedded or never will be."""

    ordinal: int
    images: ItemImages


class ChunkRun:
    """One chunk while it is worked on.

    Args:
        pipeline: the threads, the engine and the ledger.
        lease: the chunk.
        lost: set when the lease has been lost.
    """

    def __init__(self, pipeline: Pipeline, lease: Lease, lost: threading.Event) -> None:
        self._pipeline = pipeline
        self._lease = lease
        self._lost = lost
        self._threads = pipeline.urgent if lease.spec.priority is Priority.INTERACTIVE else pipeline.bulk
        self._arrivals: Arrivals[_Arrived] = Arrivals()
        self._outcomes: list[tuple[int, Outcome]] = []
        self._scored: list[Shown] = []
        self._postponed = 0
        self._postponement: Postponement | None = None
        # Somebody waits for an interactive item: it is answered or fails.
        self._retries = pipeline.item_retries if lease.spec.priority is Priority.BULK else 0

    def run(self) -> bool:
        """Returns whether the chunk needs no handing back: it is complete, or no longer ours."""
        if self._lease.problem:
            log.error("job %s chunk %d cannot be read: %s", *self._lease.ref, self._lease.problem)
            return self._fail_all(ConfigError.__name__, self._lease.problem)
        if self._lease.deaths >= QUARANTINE_DEATHS:
            return self._fail_all(QUARANTINED, f"it killed its worker {self._lease.deaths} times ({self._lease.why})")
        try:
            scorer = self._pipeline.scorers.get(self._lease.ref.job_id, self._lease.spec)
        except Exception as error:
            self._raise_if_broken(error)
            if self._postpones(error, len(self._lease.pairs)):
                self._release_postponed()
                return True
            if not isinstance(error, PrelabelError):
                log.exception("job %s cannot be scored", self._lease.ref.job_id)
            return self._fail_all(type(error).__name__, failure_message(error))
        if self._lease.spec.stored_only:
            return self._score_stored(scorer)
        todo = deque(self._lease.pairs)
        self._threads.run(partial(self._embed_item, scorer), todo)
        try:
            return self._collect(scorer, len(self._lease.pairs))
        finally:
            todo.clear()

    def _raise_if_broken(self, error: Exception) -> None:
        """A device that fails while texts are encoded fails the worker, not the items: others can score them."""
        if isinstance(error, ScorerError) and not isinstance(error, OutOfMemory):
            self._pipeline.engine.fail(error)
        if self._pipeline.engine.broken:
            raise error

    def _fail_all(self, kind: str, message: str) -> bool:
        failed = Outcome(error=ItemFailure(kind=kind, message=message))
        self._outcomes = [(ordinal, failed) for ordinal, _ in self._lease.pairs]
        self._flush(left=0)
        return True

    def _score_stored(self, scorer: JobScorer) -> bool:
        """From stored vectors alone, the whole chunk at once: nothing is waited for."""
        found = self._threads.stored({image for _, item in self._lease.pairs for image in item.images})
        arrived = [_Arrived(ordinal, stored_item(scorer.wanted, item, found)) for ordinal, item in self._lease.pairs]
        self._outcomes = self._score(scorer, arrived)
        if self._flush(left=self._postponed):
            self._release_postponed()
        return True

    def _embed_item(self, scorer: JobScorer, pair: tuple[int, Item]) -> None:
        ordinal, item = pair
        with log_about(job=self._lease.ref.job_id, chunk=self._lease.ref.chunk, item=item.id):
            embed_item(
                self._threads,
                scorer.wanted,
                item,
                then=lambda images: self._arrivals.put(_Arrived(ordinal, images)),
                called_off=lambda: self._lost.is_set() or self._pipeline.stopping.is_set(),
            )

    def _collect(self, scorer: JobScorer, left: int) -> bool:
        if left == 0:
            self._flush(left)
        flushed = time.monotonic()
        while left:
            # Nobody looks at a bulk chunk's items one by one.
            wanted = min(left, _FLUSH_ITEMS) if self._lease.spec.priority is Priority.BULK else 1
            arrived = self._arrivals.take(wanted, _FLUSH_S)
            left -= len(arrived)
            self._outcomes += self._score(scorer, arrived)
            stopping = self._pipeline.stopping.is_set()
            due = len(self._outcomes) >= _FLUSH_ITEMS or time.monotonic() - flushed >= _FLUSH_S
            if not left or stopping or (self._outcomes and due):
                if not self._flush(left + self._postponed):
                    return True
                flushed = time.monotonic()
            if self._lost.is_set():
                return True
            if left and stopping:
                return False
        self._release_postponed()
        return True

    def _release_postponed(self) -> None:
        """Give the chunk back until its postponed items are to be tried again, if there are any."""
        if self._postponement is None:
            return
        pause_s = max(_LEAST_PAUSE_S, self._postponement.pause_s())
        log.info("job %s chunk %d: %d items postponed for %.0f s", *self._lease.ref, self._postponed, pause_s)
        self._patiently(lambda: self._pipeline.ledger.release(self._lease, pause_s))

    def _postpones(self, error: Exception, items: int = 1) -> bool:
        """Whether items that failed are to be tried again later; notes it if so."""
        postponement = Postponement.of(error, self._lease.postponed, self._retries)
        if postponement is None:
            return False
        self._postponed += items
        self._postponement = max(self._postponement or postponement, postponement)
        return True

    def _may_pass(self, error: Exception) -> bool:
        """Whether an image that fails on the device is to be tried again, here or on another worker."""
        return self._pipeline.engine.broken or Postponement.of(error, self._lease.postponed, self._retries) is not None

    def _score(self, scorer: JobScorer, arrived: list[_Arrived]) -> list[tuple[int, Outcome]]:
        if not arrived:
            return []
        outcomes: list[tuple[int, Outcome]] = []
        ordinals: list[int] = []
        embedded: list[Ready] = []
        for ordinal, images in arrived:
            try:
                embedded.append(images.ready(self._may_pass))
                ordinals.append(ordinal)
            except Exception as error:
                if isinstance(error, ScorerError) and self._pipeline.engine.broken:
                    raise
                if not self._postpones(error):
                    outcomes.append((ordinal, failure(error)))
        try:
            with stage("score", len(embedded)):
                scored = scorer.score(embedded)
        except ScorerError as error:
            self._raise_if_broken(error)
            raise
        for ordinal, asked, result in zip(ordinals, embedded, scored, strict=True):
            if isinstance(result, Outcome):
                outcomes.append((ordinal, result))
                self._scored.append(Shown(asked.item, result, _thumbnail(asked)))
            elif not self._postpones(result):
                outcomes.append((ordinal, failure(result)))
        return outcomes

    def _flush(self, left: int) -> bool:
        """Write what there is; close the chunk when nothing is left. False: the lease is no longer ours."""
        outcomes, self._outcomes = self._outcomes, []
        scored, self._scored = self._scored, []
        with trace.span("write", images=len(outcomes)):
            written = self._patiently(lambda: self._pipeline.ledger.complete(self._lease, outcomes, close=left == 0))
        if not written.held:
            log.info("job %s chunk %d was taken over or cancelled", *self._lease.ref)
            return False
        self._pipeline.show(self._lease.ref.job_id, self._lease.spec, scored)
        metrics.count_outcomes(outcome for ordinal, outcome in outcomes if ordinal in written.ordinals)
        if written.push_ready and outcomes:
            self._pipeline.push(self._lease.ref.job_id)
        return True

    def _patiently(self, write: Callable[[], _T]) -> _T:
        """Repeat an idempotent write until Redis is back; the lease decides whether it still counts."""
        pause = 0.05
        while True:
            try:
                return write()
            except redis.RedisError as error:
                if self._pipeline.stopping.is_set() or not passes(error):
                    raise
                log.warning("cannot write outcomes (%s), trying again", error)
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE_S, pause * 2)


def _thumbnail(one: Ready) -> str:
    return next((embedded.thumbnail for embedded in one.embedded.values() if embedded.thumbnail), "")
