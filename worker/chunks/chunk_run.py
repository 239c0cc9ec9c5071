"""One chunk while it is worked on: from its lease to its outcomes.

The chunk's own thread only waits, scores what is embedded and has it written, every quarter of a second. Every
hand-over is bounded: memory does not grow with the job.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

from ...integrations.ledger.catalogue import record_rows
from ...integrations.ledger.columns import pack
from ...integrations.ledger.entries import RECORD_ROWS
from ...integrations.ledger.leases import Answered, Lease
from ...schemas.errors import ConfigError, OutOfMemory, PrelabelError, ScorerError
from ...schemas.items import Item
from ...schemas.jobs import Priority
from ...schemas.predictions import QUARANTINED, ItemFailure, Outcome
from ..delivering.showcase import Exhibit
from ..embedding.items import EmbeddedItem, ItemImages, embed_item, recalled_item
from ..scoring.failures import failure, failure_message
from ..scoring.job_scorer import JobScorer
from ..scoring.scored import Scored
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
        # Nothing is waited for here, and two at once would only take Python's lock from each other.
        with self._tools.recalling if self._is_bulk and self._may_recall() else nullcontext():
            at_hand, todo = self._at_hand(scorer)
            self._score(scorer, at_hand)
        left = len(todo)
        if not left:
            return self._written_or_postponed()
        self._embedder.run(partial(self._embed_item, scorer), todo)  # takes from it
        try:
            return self._collect(scorer, left)
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

    def _recalled(self, scorer: JobScorer, pairs: Sequence[tuple[int, Item]]) -> list[_Arrived]:
        """Items by their stored vectors alone, all of them at once: nothing is waited for."""
        vectors = self._embedder.recall(image for _, item in pairs for image in item.images)
        return [_Arrived(ordinal, recalled_item(scorer.wanted, item, vectors)) for ordinal, item in pairs]

    def _at_hand(self, scorer: JobScorer) -> tuple[list[_Arrived], deque[tuple[int, Item]]]:
        """The items all of whose vectors are stored under keys that are known, and the others.

        No image is read for a job that is scored from stored vectors: all of its items are among the former.
        """
        if self._lease.spec.stored_only:
            return self._recalled(scorer, self._lease.pairs), deque()
        keyed = [(ordinal, item) for ordinal, item in self._lease.pairs if any(image.vector for image in item.images)]
        at_hand = [one for one in self._recalled(scorer, keyed) if not one.images.error and not one.images.missing]
        done = {one.ordinal for one in at_hand}
        return at_hand, deque(pair for pair in self._lease.pairs if pair[0] not in done)

    def _may_recall(self) -> bool:
        return any(image.vector for _, item in self._lease.pairs for image in item.images)

    def _written_or_postponed(self) -> bool:
        """Write what was found for the items, where nothing is under way; see `run`."""
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

    def _collect(self, scorer: JobScorer, left: int) -> bool:
        """Score and write items as they arrive, until there are no more or the chunk is not ours any more."""
        while left:
            # Nobody looks at a bulk chunk's items one by one.
            arrived = self._arrivals.take(min(left, FLUSH_ITEMS) if self._is_bulk else 1, FLUSH_S)
            left -= len(arrived)
            self._score(scorer, sorted(arrived, key=lambda one: one.ordinal))
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
        for start in range(0, len(embedded), RECORD_ROWS):
            some = slice(start, start + RECORD_ROWS)
            self._score_some(scorer, ordinals[some], embedded[some])
            if self._writer.is_large:
                self._writer.write(left=1)  # whoever scores the chunk's last items closes it

    def _score_some(self, scorer: JobScorer, ordinals: Sequence[int], embedded: Sequence[EmbeddedItem]) -> None:
        """Find an outcome for items that go into one record."""
        try:
            with stage("score", len(embedded)):
                scored = scorer.score(embedded)
        except ScorerError as error:
            self._raise_if_broken(error)
            raise
        if scored.columns is not None:
            shown = [(at, embedded[i], _thumbnail(embedded[i])) for at, i in enumerate(scored.whole)]
            exhibits = [
                Exhibit(one.item, partial(scored.outcome, at, one.item), thumbnail)
                for at, one, thumbnail in [row for row in shown if row[2]] or shown[-1:]
            ]
            self._writer.add_answered(
                Answered([ordinals[i] for i in scored.whole], pack(scored.columns), self._rows(scored, embedded)),
                exhibits,
            )
        for i, other in scored.others.items():
            if isinstance(other, Outcome):
                exhibit = Exhibit(embedded[i].item, partial(_this, other), _thumbnail(embedded[i]))
                self._writer.add(ordinals[i], other, exhibit)
            else:
                self._fail(ordinals[i], other)

    def _rows(self, scored: Scored, embedded: Sequence[EmbeddedItem]) -> Sequence[bytes]:
        """What the project's catalogue is to hold of those that were answered whole."""
        if scored.columns is None or self._lease.spec.label_studio_project is None:
            return ()
        return record_rows(scored.columns, [embedded[i].item for i in scored.whole], scored.labels)

    def _fail(self, ordinal: int, error: Exception) -> None:
        """Postpone an item that failed, or write down that it did."""
        if not self._postponed.take(error):
            self._writer.add(ordinal, failure(error))


def _thumbnail(item: EmbeddedItem) -> str:
    return next((embedded.thumbnail for embedded in item.embedded.values() if embedded.thumbnail), "")


def _this(outcome: Outcome) -> Outcome:
    return outcome
