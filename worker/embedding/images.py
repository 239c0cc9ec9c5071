"""Fetch and decode threads: from an image reference to a future of its embedding."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from PIL import Image

from ...schemas.errors import ItemError
from ...schemas.items import ImageRef
from ...schemas.settings import Settings
from ..arrays import Pixels, Vectors
from ..decoding.crop import crop
from ..decoding.pillow import decode
from ..decoding.pixels import decode_pixels
from ..fetching.reader import Fetched, IsKnown, no_content
from ..machine.host import usable_cpus
from ..model.engine import Engine
from ..telemetry.stages import stage
from ..vectors.keys import ImageKeys, vector_space
from ..vectors.store import EmbeddingStore
from .pending import PendingVector

_T = TypeVar("_T")

_URGENT_FETCHES = 8
_URGENT_DECODES = 2

Fetch = Callable[[ImageRef, IsKnown], Fetched]
"""`Fetcher.fetch`."""

Thumbnail = Callable[[Pixels], str]
"""`Showcase.thumbnail`."""


def _no_thumbnail(_: Pixels) -> str:
    return ""


@dataclass(slots=True)
class LastFile:
    """The file an item's last image came from: the next ones are often other regions of it.

    Attributes:
        uri: its address; empty before the first.
        mark: its store's mark for its content, if there is one.
        content: its bytes.
        decoded: the image in it, once a region of it was needed.
    """

    uri: str = ""
    mark: str | None = None
    content: bytes = b""
    decoded: Image.Image | None = None

    def replace(self, ref: ImageRef, fetched: Fetched) -> None:
        """Hold the file of this image from now on.

        Raises:
            ItemError: it was fetched without its content.
        """
        if fetched.content is None:
            raise ItemError(f"{ref.display}: {no_content()}")
        self.uri, self.mark, self.content, self.decoded = ref.uri, fetched.mark, fetched.content, None


@dataclass(slots=True)
class _Recall:
    """Looks for an image's vector by the marks its store gives for it, and keeps the one there is.

    Attributes:
        store: vectors embedded before.
        keys: the image's.
        vector: what was embedded of the content that the last mark stands for.
    """

    store: EmbeddingStore
    keys: ImageKeys
    vector: PendingVector | None = field(default=None, init=False)

    def knows(self, mark: str) -> bool:
        """Whether the content of this mark was embedded before."""
        stamp = self.keys.stamp(mark)
        key = self.store.lookup([stamp]).get(stamp)
        self.vector = _stored(self.store, key) if key else None
        return self.vector is not None


class ImageEmbedder:
    """One set of threads that fetch, decode, resize and hand images to the engine.

    A thread holds one image at a time from its first byte to its hand-over, so at most `fetches` files are in
    memory. Decoding is CPU work and limited apart from that.

    Args:
        engine: embeds what is prepared.
        fetch: reads an image's file; raises `ItemError` or `TransientError`.
        store: vectors embedded before.
        max_pixels: largest image decoded.
        fetches: threads.
        decodes: threads that may decode at once.
        preprocessing: "exact", "fast" or "scaled", see `decode_pixels`.
        urgent: whether images go to the front of the engine's queue.
        thumbnail: makes one of a decoded image now and then.
    """

    def __init__(
        self,
        engine: Engine,
        fetch: Fetch,
        store: EmbeddingStore,
        *,
        max_pixels: int,
        fetches: int,
        decodes: int,
        preprocessing: str,
        urgent: bool,
        thumbnail: Thumbnail = _no_thumbnail,
    ) -> None:
        self._engine = engine
        self._fetch = fetch
        self._store = store
        card = engine.encoder.card
        self._space = vector_space(card.id, card.dim, f"{card.preprocessing} {engine.encoder.dtype}")
        self._max_pixels = max_pixels
        self._exact = preprocessing == "exact"
        self._scaled = preprocessing == "scaled"
        self._urgent = urgent
        self._thumbnail = thumbnail
        self._decoding = threading.BoundedSemaphore(decodes)
        self._fetches = fetches
        self._pool = ThreadPoolExecutor(fetches, thread_name_prefix="prelabel-urgent" if urgent else "prelabel-fetch")

    def run(self, work: Callable[[_T], None], todo: deque[_T]) -> None:
        """Have the threads do `work`, which calls `embed`, for all of `todo`, from its front; do not wait for it.

        Whoever clears `todo` calls off what has not begun.
        """
        for _ in range(min(len(todo), self._fetches)):
            self._pool.submit(_work_off, work, todo)

    def embed(self, image: ImageRef, *, last: LastFile | None = None) -> PendingVector:
        """On one of the threads: the embedding of an image, from the vector store where it is there.

        Args:
            image: what to embed.
            last: the file of the image before it, which is not fetched and decoded again; is changed.

        Raises:
            ItemError: the image can never be scored.
            TransientError: its store does not deliver for now.
        """
        if image.vector and (vector := _stored(self._store, bytes.fromhex(image.vector))):
            return vector
        file = last or LastFile()
        keys = ImageKeys(self._space, image)
        recall = _Recall(self._store, keys)
        if file.uri != image.uri:
            with stage("fetch"):
                fetched = self._fetch(image, recall.knows)
            if not recall.vector:
                file.replace(image, fetched)
        elif file.mark:
            recall.knows(file.mark)
        return recall.vector or self._embed_file(keys, file)

    def _embed_file(self, keys: ImageKeys, file: LastFile) -> PendingVector:
        key = keys.content(file.content)
        stamp = keys.stamp(file.mark) if file.mark else None
        if vector := _stored(self._store, key):
            if stamp:
                self._store.remember({stamp: key})
            return vector
        with self._decoding, stage("decode"):
            decoded = self._decode(keys.ref, file)
            pixels, thumbnail = self._engine.encoder.images.prepare(decoded), self._thumbnail(decoded)
        del decoded  # large; the next line may wait
        pending = PendingVector(key, self._engine.submit(pixels, urgent=self._urgent), thumbnail)
        # A mark counts only for a vector that is stored: it is remembered after that.
        pending.vector.add_done_callback(lambda done: self._keep(key, stamp, done))
        return pending

    def stored(self, images: Iterable[ImageRef]) -> dict[ImageRef, PendingVector]:
        """Those of the images whose vector's key is known and whose vector is stored; on any thread, in one look."""
        keys = {image: bytes.fromhex(image.vector) for image in images if image.vector}
        vectors = self._store.get(list(keys.values()))
        return {image: PendingVector.at_hand(key, vectors[key]) for image, key in keys.items() if key in vectors}

    def _decode(self, image: ImageRef, file: LastFile) -> Pixels:
        if image.region is None:
            return decode_pixels(file.content, max_pixels=self._max_pixels, exact=self._exact, scaled=self._scaled)
        if file.decoded is None:
            file.decoded = decode(file.content, max_pixels=self._max_pixels)
        return np.array(crop(file.decoded, image.region))

    def _keep(self, key: bytes, stamp: bytes | None, done: Future[Vectors]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._store.put({key: done.result()})
            if stamp:
                self._store.remember({stamp: key})

    def close(self, *, wait: bool = False) -> None:
        """Drop what has not begun.

        Args:
            wait: return when the threads have ended.
        """
        self._pool.shutdown(wait=wait, cancel_futures=True)


def _stored(store: EmbeddingStore, key: bytes) -> PendingVector | None:
    vector = store.get([key]).get(key)
    return None if vector is None else PendingVector.at_hand(key, vector)


def _work_off(work: Callable[[_T], None], todo: deque[_T]) -> None:
    while True:
        try:
            task = todo.popleft()
        except IndexError:
            return
        work(task)


def bulk_embedder(
    engine: Engine, fetch: Fetch, store: EmbeddingStore, settings: Settings, thumbnail: Thumbnail = _no_thumbnail
) -> ImageEmbedder:
    """What embeds the images of bulk chunks."""
    return ImageEmbedder(
        engine,
        fetch,
        store,
        max_pixels=settings.max_image_pixels,
        fetches=settings.fetch_threads,
        decodes=settings.decode_threads or usable_cpus(),
        preprocessing=settings.preprocessing,
        urgent=False,
        thumbnail=thumbnail,
    )


def urgent_embedder(
    engine: Engine, fetch: Fetch, store: EmbeddingStore, settings: Settings, thumbnail: Thumbnail = _no_thumbnail
) -> ImageEmbedder:
    """What embeds the images of interactive chunks, on threads of its own: no slow bulk download holds them up."""
    return ImageEmbedder(
        engine,
        fetch,
        store,
        max_pixels=settings.max_image_pixels,
        fetches=_URGENT_FETCHES,
        decodes=_URGENT_DECODES,
        preprocessing=settings.preprocessing,
        urgent=True,
        thumbnail=thumbnail,
    )
