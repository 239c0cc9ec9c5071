"""The images of an item: embedded together, and what it means when one of them cannot be had."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from ...schemas.errors import ItemError, PrelabelError, ScorerError
from ...schemas.items import ImageRef, Item, Region
from ..arrays import Vectors
from .images import ImageEmbedder, LastFile
from .pending import Known, PendingVector

log = logging.getLogger(__name__)

_WAITING_IMAGES = 32
"""Prepared images of one item that may wait for the device: those of an urgent one are not held back by the engine."""

ImagePart = tuple[str, Region | None]
"""What an image is, whatever it is asked about: its address and the part of it."""


def part_of(image: ImageRef) -> ImagePart:
    """See `ImagePart`."""
    return image.uri, image.region


class Wanted(NamedTuple):
    """An image an item is to be scored by; `optional` when others give answers without it."""

    image: ImageRef
    optional: bool


Choose = Callable[[Item], Iterable[Wanted]]
"""Says which of its images an item is scored by, each of them once, or raises `ItemError`: `JobScorer.wanted`."""


class EmbeddedItem(NamedTuple):
    """An item, the embeddings of its images, and why those that can never be had cannot."""

    item: Item
    embedded: Mapping[ImagePart, PendingVector]
    missing: Mapping[ImagePart, PrelabelError] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemImages:
    """An item and what became of its images.

    Attributes:
        item: the item.
        embedded: its images that could be fetched and decoded. Their vectors are there, or have failed.
        optional: those of them the item can do without.
        missing: why each of the optional images that could not be fetched or decoded could not.
        error: why the item cannot be scored whatever becomes of its vectors.
    """

    item: Item
    embedded: Mapping[ImagePart, PendingVector]
    optional: frozenset[ImagePart] = frozenset()
    missing: Mapping[ImagePart, PrelabelError] = field(default_factory=dict)
    error: Exception | None = None

    def scorable(self, may_pass: Callable[[Exception], bool]) -> EmbeddedItem:
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
        usable: dict[ImagePart, PendingVector] = {}
        missing: dict[ImagePart, PrelabelError] = dict(self.missing)
        for which, pending in self.embedded.items():
            error = pending.vector.exception()
            if error is None:
                usable[which] = pending
            elif which in self.optional and isinstance(error, ScorerError) and not may_pass(error):
                log.info("item %s is scored without one of its images: %s", self.item.id, error)
                missing[which] = error
            else:
                raise error
        if missing and not usable:
            raise next(iter(missing.values()))
        return EmbeddedItem(self.item, usable, missing)


def embed_item(
    embedder: ImageEmbedder,
    choose: Choose,
    item: Item,
    then: Callable[[ItemImages], None],
    called_off: Callable[[], bool],
) -> None:
    """On one of the embedder's threads: embed the images the item is scored by. Never raises: what goes wrong is told.

    Args:
        embedder: fetches, decodes and embeds.
        choose: says which images those are.
        item: the item.
        then: called once, on any thread, when every vector is there or has failed; not at all when called off.
        called_off: whether nobody wants the item any more.
    """
    embedded: dict[ImagePart, PendingVector] = {}
    optional: set[ImagePart] = set()
    missing: dict[ImagePart, PrelabelError] = {}
    waiting: deque[Future[Vectors]] = deque()
    try:
        with LastFile() as last:
            for image, can_miss in choose(item):
                if called_off():
                    return
                try:
                    pending = embedder.embed(image, last=last)
                except ItemError as error:
                    if not can_miss:
                        raise
                    log.info("item %s is scored without one of its images: %s", item.id, error)
                    missing[part_of(image)] = error
                    continue
                embedded[part_of(image)] = pending
                if can_miss:
                    optional.add(part_of(image))
                if isinstance(pending.vector, Known):
                    continue
                waiting.append(pending.vector)
                if len(waiting) >= _WAITING_IMAGES:
                    wait([waiting.popleft()])
    except Exception as error:
        if not isinstance(error, PrelabelError):  # an image nobody foresaw must not take its neighbours with it
            log.exception("item %s failed unexpectedly", item.id)
        else:
            log.info("item %s is not scored: %s", item.id, error)
        then(ItemImages(item=item, embedded={}, error=error))
        return
    images = ItemImages(item=item, embedded=embedded, optional=frozenset(optional), missing=missing)
    on_their_way = [one.vector for one in embedded.values() if not isinstance(one.vector, Known)]
    _when_all(on_their_way, lambda: then(images))


def recalled_item(choose: Choose, item: Item, vectors: Mapping[str, PendingVector]) -> ItemImages:
    """The item by stored vectors alone.

    Args:
        choose: says which images it is scored by.
        item: the item.
        vectors: those that are there, by their key (`ImageRef.vector`).
    """
    embedded: dict[ImagePart, PendingVector] = {}
    missing: dict[ImagePart, PrelabelError] = {}
    try:
        for image, can_miss in choose(item):
            if image.vector and image.vector in vectors:
                embedded[part_of(image)] = vectors[image.vector]
                continue
            gone = ItemError(
                image.problem
                or f"{image.display}: its vector is not stored (any more), or was made with another "
                "PRELABEL_PREPROCESSING or PRELABEL_DTYPE: submit the image again"
            )
            # A vector that was there and is gone is no fault of the image, whose answer would be missing.
            if not can_miss or image.vector:
                raise gone
            missing[part_of(image)] = gone
    except ItemError as error:
        return ItemImages(item=item, embedded={}, error=error)
    return ItemImages(item=item, embedded=embedded, missing=missing)


class _Countdown:
    """Calls `then` once, when it was called itself as often as there are futures to wait for.

    Args:
        left: how many those are, at least one.
        then: what to call.
    """

    def __init__(self, left: int, then: Callable[[], None]) -> None:
        self._left = left
        self._then = then
        self._lock = threading.Lock()

    def __call__(self, _: Future[Vectors]) -> None:
        with self._lock:
            self._left -= 1
            over = self._left == 0
        if over:
            self._then()


def _when_all(futures: list[Future[Vectors]], then: Callable[[], None]) -> None:
    """Call `then` once, when the last of the futures is done."""
    if not futures:
        then()
        return
    countdown = _Countdown(len(futures), then)
    for future in futures:
        future.add_done_callback(countdown)
