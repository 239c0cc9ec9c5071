"""One chunk while it is worked on: from its lease to its outcomes.

The chunk's own thread only waits, scores what is embedded and has it written, every quarter of a second. Every
hand-over is bounded: memory does not grow with the job.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from functools import partial
from typing import NamedTuple

from ...integrations.ledger.leases import Lease
from ...schemas.errors import ConfigError, OutOfMemory, PrelabelError, ScorerError
from ...schemas.items import Item
from ...schemas.jobs import Priority
from ...schemas.predictions import QUARANTINED, ItemFailure, Outcome
from ..delivering.showcase import Exhibit
from ..embedding.items import EmbeddedItem, ItemImages, embed_item, recalled_item
from ..scoring.failures import failure, failure_message
from ..scoring.job_scorer import JobScorer
from ..telemetry.logs import log_about
from ..telemetry.stages import stage
from .arrivals import Arrivals
from .outcome_writer import FLUSH_ITEMS, FLUSH_S, OutcomeWriter
from .postponing import PostponedItems
from .tools import Tools

log = logging.getLogger(__name__)

QUARANTINE_DEATHS = 3
"""Deaths in a row, without an item done, after which an item is quarantined: it is scored no more until retried."""


class _Arrived(NamedTuple):
    """An item of the chunk whose images are embedded or never will be."""

    ordinal: int
    images: ItemImages


class ChunkRun:
    """One chunk while it is worked on.

    Args:
        tools: what the worker's chunks share.
        lease: the chunk.
        lost: set when the lease has been lost.
    """

    def __init__(self, tools: Tools, lease: Lease, lost: threading.Event) -> None:
        self._tools = tools
        self._lease = lease
        self._lost = lost
        self._is_bulk = lease.spec.priority is Priority.BULK
        self._embedder = tools.bulk if self._is_bulk else tools.urgent
        self._arrivals: Arrivals[_Arrived] = Arrivals()
        self._writer = OutcomeWriter(tools, lease)
        # Somebody waits for an interactive item: it is answered or fails.
        self._postponed = PostponedItems(lease.postponed, tools.item_retries if self._is_bulk else 0)

    def run(self) -> bool:
        """Score the chunk's items and write their outcomes.

        Returns:
            Whether the chunk needs no handing back: it is complete, postponed, or no longer ours.

        Raises:
            ScorerError: the device is broken; what is not written yet needs another worker.
            RedisError: outcomes cannot be written.
        """
        lease = self._lease
        if lease.problem:
            log.error("job %s chunk %d cannot be read: %s", *lease.ref, lease.problem)
            return self._fail_all(ConfigError.__name__, lease.problem)
        if lease.deaths >= QUARANTINE_DEATHS:
            return self._fail_all(QUARANTINED, f"it killed its worker {lease.deaths} times ({lease.why})")
        try:
            scorer = self._tools.scorers.get(lease.ref.job_id, lease.spec)
        except Exception as error:
            return self._without_scorer(error)
        if lease.spec.stored_only:
            return self._score_recalled(scorer)
        todo = deque(lease.pairs)
        self._embedder.run(partial(self._embed_item, scorer), todo)
        try:
            return self._collect(scorer)
        finally:
            todo.clear()

    def _without_scorer(self, error: Exception) -> bool:
        """The job's labels could not be encoded: all items of the chunk share its fate."""
        self._raise_if_broken(error)
        if self._postponed.take(error, len(self._lease.pairs)):
            self._postpone()
            return True
        if not isinstance(error, PrelabelError):
            log.error("job %s cannot be scored", self._lease.ref.job_id, exc_info=error)
        return self._fail_all(type(error).__name__, failure_message(error))

    def _raise_if_broken(self, error: Exception) -> None:
        """A device that fails while texts are encoded fails the worker, not the items: others can score them."""
        if isinstance(error, ScorerError) and not isinstance(error, OutOfMemory):
            self._tools.engine.fail(error)
        if self._tools.engine.broken:
            raise error

    def _fail_all(self, kind: str, message: str) -> bool:
        failed = Outcome(error=ItemFailure(kind=kind, message=message))
        for ordinal, _ in self._lease.pairs:
            self._writer.add(ordinal, failed)
        self._writer.write(left=0)
        return True

    def _score_recalled(self, scorer: JobScorer) -> bool:
        """From stored vectors alone, the whole chunk at once: nothing is waited for."""
        vectors = self._embedder.recall({image for _, item in self._lease.pairs for image in item.images})
        self._score(
            scorer, [_Arrived(at, recalled_item(scorer.wanted, item, vectors)) for at, item in self._lease.pairs]
        )
        if self._writer.write(left=self._postponed.count):
            self._postpone()
        return True

    def _embed_item(self, scorer: JobScorer, pair: tuple[int, Item]) -> None:
        ordinal, item = pair
        with log_about(job=self._lease.ref.job_id, chunk=self._lease.ref.chunk, item=item.id):
            embed_item(
                self._embedder,
                scorer.wanted,
                item,
                then=lambda images: self._arrivals.put(_Arrived(ordinal, images)),
                called_off=lambda: self._lost.is_set() or self._tools.stopping.is_set(),
            )

    def _collect(self, scorer: JobScorer) -> bool:
        """Score and write items as they arrive, until there are no more or the chunk is not ours any more."""
        left = len(self._lease.pairs)
        if left == 0:
            self._writer.write(left)
        while left:
            # Nobody looks at a bulk chunk's items one by one.
            arrived = self._arrivals.take(min(left, FLUSH_ITEMS) if self._is_bulk else 1, FLUSH_S)
            left -= len(arrived)
            self._score(scorer, arrived)
            stopping = self._tools.stopping.is_set()
            if (not left or stopping or self._writer.due) and not self._writer.write(left + self._postponed.count):
                return True
            if self._lost.is_set():
                return True
            if left and stopping:
                return False
        self._postpone()
        return True

    def _postpone(self) -> None:
        """Give the chunk back until its postponed items are to be tried again, if there are any."""
        pause_s = self._postponed.pause_s()
        if pause_s is not None:
            log.info("job %s chunk %d: %d items postponed for %.0f s", *self._lease.ref, self._postponed.count, pause_s)
            self._writer.postpone(pause_s)

    def _may_pass(self, error: Exception) -> bool:
        """Whether an image that fails on the device is to be tried again, here or on another worker."""
        return self._tools.engine.broken or self._postponed.may_pass(error)

    def _score(self, scorer: JobScorer, arrived: list[_Arrived]) -> None:
        """Find an outcome for each item that arrived, unless it is postponed."""
        if not arrived:
            return
        ordinals: list[int] = []
        embedded: list[EmbeddedItem] = []
        for ordinal, images in arrived:
            try:
                embedded.append(images.scorable(self._may_pass))
                ordinals.append(ordinal)
            except Exception as error:
                if isinstance(error, ScorerError) and self._tools.engine.broken:
                    raise
                self._fail(ordinal, error)
        try:
            with stage("score", len(embedded)):
                scored = scorer.score(embedded)
        except ScorerError as error:
            self._raise_if_broken(error)
            raise
        for ordinal, item, result in zip(ordinals, embedded, scored, strict=True):
            if isinstance(result, Outcome):
                self._writer.add(ordinal, result, Exhibit(item.item, result, _thumbnail(item)))
            else:
                self._fail(ordinal, result)

    def _fail(self, ordinal: int, error: Exception) -> None:
        """Postpone an item that failed, or write down that it did."""
        if not self._postponed.take(error):
            self._writer.add(ordinal, failure(error))


def _thumbnail(item: EmbeddedItem) -> str:
    return next((embedded.thumbnail for embedded in item.embedded.values() if embedded.thumbnail), "")
