"""Fetch and decode threads: from an image reference to a future of its embedding."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from ...schemas.items import ImageRef
from ...schemas.settings import Settings
from ..arrays import Pixels, Vectors
from ..decoding.crop import crop
from ..decoding.pillow import decode
from ..decoding.pixels import decode_pixels
from ..fetching.reader import Known
from ..machine.host import usable_cpus
from ..model.engine import Engine
from ..telemetry.stages import stage
from ..vectors.keys import content_key, stamp_key, vector_space
from ..vectors.store import EmbeddingStore
from .embedded import Embedded

_T = TypeVar("_T")

_URGENT_FETCHES = 8
_URGENT_DECODES = 2


Fetch = Callable[[ImageRef, Known], bytes | None]


Thumbnail = Callable[[Pixels], str]
"""`Showcase.thumbnail`."""


def _no_thumbnail(_: Pixels) -> str:
    return ""


@dataclass(slots=True)
class LastFile:
    """The file an item's last image came from: the next ones are often other regions of it.

    Attributes:
        uri: its address.
        content: its bytes.
        mark: its store's mark for that content.
        picture: it decoded, once a region of it was needed.
    """

    uri: str = ""
    content: bytes = b""
    mark: str | None = None
    picture: Image.Image | None = None


class ImageThreads:
    """One set of threads that fetch, decode, resize and hand images to the engine.

    A thread holds one image at a time from its first byte to its hand-over, so at most `fetches` files are in
    memory. Decoding is CPU work and limited apart from that.

    Args:
        engine: embeds what is prepared.
        fetch: reads an image's bytes, or None when their mark is known; raises `ItemError` or `TransientError`.
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

    def embed(self, image: ImageRef, *, last: LastFile | None = None) -> Embedded:
        """On one of the threads: the embedding of an image, from the store where it is there.

        Args:
            image: what to embed.
            last: the file of the image before it, which is not fetched and decoded again; is changed.

        Raises:
            ItemError: the image can never be scored.
            TransientError: its store does not deliver for now.
        """
        if image.vector:
            found = self._stored(bytes.fromhex(image.vector))
            if found:
                return found
        last = last or LastFile()
        found = None
        mark: str | None = None

        def known(text: str) -> bool:
            nonlocal mark, found
            mark = text
            stamp = stamp_key(self._space, image.uri, text, image.region)
            key = self._store.lookup([stamp]).get(stamp)
            found = self._stored(key) if key else None
            return found is not None

        if last.uri == image.uri:
            if last.mark and known(last.mark) and found:
                return found
        else:
            with stage("fetch"):
                data = self._fetch(image, known)
            if data is None and found is not None:
                return found
            assert data is not None  # noqa: S101  # nothing was found
            last.uri, last.content, last.mark, last.picture = image.uri, data, mark, None
        return self._embed(image, last)

    def _embed(self, image: ImageRef, file: LastFile) -> Embedded:
        key = content_key(self._space, file.content, image.region)
        found = self._stored(key)
        if found is None:
            with self._decoding, stage("decode"):
                decoded = self._decode(image, file)
                pixels, thumbnail = self._engine.encoder.images.prepare(decoded), self._thumbnail(decoded)
            del decoded  # large; the next line may wait
            found = Embedded(key, self._engine.submit(pixels, urgent=self._urgent), thumbnail)
            # A mark counts only for a vector that is stored: it is remembered after that.
            mark = self._stamp(image, file)
            found.vector.add_done_callback(lambda done: self._keep(key, mark, done))
        elif mark := self._stamp(image, file):
            self._store.remember({mark: key})
        return found

    def _stamp(self, image: ImageRef, file: LastFile) -> bytes | None:
        return stamp_key(self._space, image.uri, file.mark, image.region) if file.mark else None

    def stored(self, images: Iterable[ImageRef]) -> dict[ImageRef, Embedded]:
        """Those of the images whose vector's key is known and whose vector is stored; on any thread, in one look."""
        keys = {image: bytes.fromhex(image.vector) for image in images if image.vector}
        vectors = self._store.get(list(keys.values()))
        return {image: Embedded.at_hand(key, vectors[key]) for image, key in keys.items() if key in vectors}

    def _decode(self, image: ImageRef, file: LastFile) -> Pixels:
        if image.region is None:
            return decode_pixels(file.content, max_pixels=self._max_pixels, exact=self._exact, scaled=self._scaled)
        if file.picture is None:
            file.picture = decode(file.content, max_pixels=self._max_pixels)
        return np.array(crop(file.picture, image.region))

    def _stored(self, key: bytes) -> Embedded | None:
        vector = self._store.get([key]).get(key)
        return None if vector is None else Embedded.at_hand(key, vector)

    def _keep(self, key: bytes, mark: bytes | None, done: Future[Vectors]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._store.put({key: done.result()})
            if mark:
                self._store.remember({mark: key})

    def close(self, *, wait: bool = False) -> None:
        """Drop what has not begun.

        Args:
            wait: return when the threads have ended.
        """
        self._pool.shutdown(wait=wait, cancel_futures=True)


def _work_off(work: Callable[[_T], None], todo: deque[_T]) -> None:
    while True:
        try:
            one = todo.popleft()
        except IndexError:
            return
        work(one)


def bulk_threads(
    engine: Engine, fetch: Fetch, store: EmbeddingStore, settings: Settings, thumbnail: Thumbnail = _no_thumbnail
) -> ImageThreads:
    """The threads for bulk chunks."""
    return ImageThreads(
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


def urgent_threads(
    engine: Engine, fetch: Fetch, store: EmbeddingStore, settings: Settings, thumbnail: Thumbnail = _no_thumbnail
) -> ImageThreads:
    """Threads of their own for interactive chunks: slow bulk downloads must not hold them up."""
    return ImageThreads(
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
