"""The images of an item: embedded together, and what it means when one of them cannot be had."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass

from ...schemas.errors import ItemError, PrelabelError, ScorerError
from ...schemas.items import ImageRef, Item
from ...schemas.predictions import ItemFailure, Outcome
from ..arrays import Vectors
from ..embedding.embedded import Embedded
from ..embedding.images import ImageThreads, LastFile
from .job_scorer import JobScorer, Picture, Ready, picture

log = logging.getLogger(__name__)

_WAITING_IMAGES = 32
"""Prepared images of one item that may wait for the device: those of an urgent one are not held back by the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemImages:
    """An item and what became of its images.

    Attributes:
        item: the item.
        embedded: its images that could be fetched and decoded. Their vectors are there, or have failed.
        optional: those of them the item can do without.
        missing: why the first of the optional images that could not be fetched or decoded could not.
        error: why the item cannot be scored whatever becomes of its vectors.
    """

    item: Item
    embedded: Mapping[Picture, Embedded]
    optional: frozenset[Picture] = frozenset()
    missing: ItemError | None = None
    error: Exception | None = None

    def ready(self, may_pass: Callable[[Exception], bool]) -> Ready:
        """The item as it can be scored: without those of its optional images that can never be had.

        An image can never be had when it cannot be fetched or decoded (`ItemError`), or fails on the device
        (`ScorerError`). A store that does not deliver may do so when the item is sent again: no answer leaves out what
        is only away.

        Args:
            may_pass: whether an error of the device says nothing for good about the image.

        Raises:
            Exception: what keeps the item from being scored, or from being scored now.
        """
        if self.error:
            raise self.error
        found: dict[Picture, Embedded] = {}
        missing: PrelabelError | None = self.missing
        for which, embedded in self.embedded.items():
            error = embedded.vector.exception()
            if error is None:
                found[which] = embedded
            elif which in self.optional and isinstance(error, ScorerError) and not may_pass(error):
                log.info("item %s is scored without one of its images: %s", self.item.id, error)
                missing = missing or error
            else:
                raise error
        if missing and not found:
            raise missing
        return Ready(self.item, found)


def embed_item(
    threads: ImageThreads,
    scorer: JobScorer,
    item: Item,
    then: Callable[[ItemImages], None],
    called_off: Callable[[], bool],
) -> None:
    """On one of the threads: embed the images the item is scored by. Never raises: what goes wrong is told.

    Args:
        threads: fetch, decode and embed.
        scorer: says which images those are.
        item: the item.
        then: called once, on any thread, when every vector is there or has failed; not at all when called off.
        called_off: whether nobody wants the item any more.
    """
    embedded: dict[Picture, Embedded] = {}
    optional: set[Picture] = set()
    missing: ItemError | None = None
    waiting: deque[Future[Vectors]] = deque()
    try:
        last = LastFile()
        for image, can_miss in scorer.wanted(item):
            if called_off():
                return
            try:
                made = threads.embed(image, last=last)
            except ItemError as error:
                if not can_miss:
                    raise
                log.info("item %s is scored without one of its images: %s", item.id, error)
                missing = missing or error
                continue
            embedded[picture(image)] = made
            if can_miss:
                optional.add(picture(image))
            waiting.append(made.vector)
            if len(waiting) >= _WAITING_IMAGES:
                wait([waiting.popleft()])
    except Exception as error:
        if not isinstance(error, PrelabelError):  # an image nobody foresaw must not take its neighbours with it
            log.exception("item %s failed unexpectedly", item.id)
        else:
            log.info("item %s is not scored: %s", item.id, error)
        then(ItemImages(item=item, embedded={}, error=error))
        return
    done = ItemImages(item=item, embedded=embedded, optional=frozenset(optional), missing=missing)
    _when_all([one.vector for one in embedded.values()], lambda: then(done))


def stored_item(scorer: JobScorer, item: Item, stored: Mapping[ImageRef, Embedded]) -> ItemImages:
    """The item by stored vectors alone.

    Args:
        scorer: says which images it is scored by.
        item: the item.
        stored: the images whose vectors are there.
    """
    embedded: dict[Picture, Embedded] = {}
    missing: ItemError | None = None
    try:
        for image, can_miss in scorer.wanted(item):
            if image in stored:
                embedded[picture(image)] = stored[image]
                continue
            gone = ItemError(f"{image.display}: its vector is not stored (any more): submit the image again")
            # A vector that was there and is gone is no fault of the image, whose answer would be missing.
            if not can_miss or image.vector:
                raise gone
            missing = missing or gone
    except ItemError as error:
        return ItemImages(item=item, embedded={}, error=error)
    return ItemImages(item=item, embedded=embedded, missing=missing)


def failure(error: Exception) -> Outcome:
    """The outcome of an item that failed."""
    return Outcome(error=ItemFailure(kind=type(error).__name__, message=failure_message(error)))


def failure_message(error: Exception) -> str:
    """What went wrong, for people."""
    text = str(error) if isinstance(error, PrelabelError) else f"unexpected {type(error).__name__}: {error}"
    return text[:500]


def _when_all(futures: list[Future[Vectors]], then: Callable[[], None]) -> None:
    """Call `then` once, when the last of the futures is done."""
    left = len(futures)
    if left == 0:
        then()
        return
    lock = threading.Lock()

    def one_done(_: Future[Vectors]) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            then()

    for future in futures:
        future.add_done_callback(one_done)
