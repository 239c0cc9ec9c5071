"""Fetch and decode threads: from an image reference to a future of its embedding."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from ..schemas.errors import ItemError
from ..schemas.items import ImageRef
from ..schemas.settings import Settings
from .decode_fast import decode_pixels
from .embeddings import EmbeddingStore, content_key, stamp_key, vector_space
from .engine import Engine
from .fetch_base import Known
from .metrics import timed
from .scorer import Vectors

_URGENT_FETCHES = 8
_URGENT_DECODES = 2


Fetch = Callable[[ImageRef, Known], bytes | None]


class Embedded(NamedTuple):
    """An image's vector, at hand or on its way.

    Attributes:
        key: under which it is stored.
        vector: `(dim,)` float32, un-normalised.
    """

    key: bytes
    vector: Future[Vectors]

    @classmethod
    def at_hand(cls, key: bytes, vector: Vectors) -> Embedded:
        """One that nobody has to wait for."""
        done: Future[Vectors] = Future()
        done.set_result(vector)
        return cls(key, done)


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
        exact: see `decode_pixels`.
        urgent: whether images go to the front of the engine's queue.
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
        exact: bool,
        urgent: bool,
    ) -> None:
        self._engine = engine
        self._fetch = fetch
        self._store = store
        encoder = engine.encoder
        self._space = vector_space(encoder.model_id, encoder.dim, f"{encoder.preprocessing} {encoder.dtype}")
        self._max_pixels = max_pixels
        self._exact = exact
        self._urgent = urgent
        self._decoding = threading.BoundedSemaphore(decodes)
        self._pool = ThreadPoolExecutor(fetches, thread_name_prefix="prelabel-urgent" if urgent else "prelabel-fetch")

    def run(self, work: Callable[[], None]) -> Future[None]:
        """Run `work`, which calls `embed`, on one of the threads."""
        return self._pool.submit(work)

    def embed(self, image: ImageRef, *, stored_only: bool = False) -> Embedded:
        """On one of the threads: the embedding of an image, from the store where it is there.

        Args:
            image: what to embed.
            stored_only: never fetch.

        Raises:
            ItemError: the image can never be scored, or is not stored.
            TransientError: its store does not deliver for now.
        """
        if image.vector:
            found = self._stored(bytes.fromhex(image.vector))
            if found:
                return found
        if stored_only:
            raise ItemError(f"{image.display}: its vector is not stored (any more): submit the image again")
        mark: bytes | None = None

        def known(text: str) -> bool:
            nonlocal mark, found
            mark = stamp_key(self._space, image.uri, text, image.region)
            key = self._store.lookup([mark]).get(mark)
            found = self._stored(key) if key else None
            return found is not None

        found = None
        with timed("fetch"):
            data = self._fetch(image, known)
        if data is None and found is not None:
            return found
        assert data is not None  # noqa: S101  # nothing was found
        return self._embed(image, data, mark)

    def _embed(self, image: ImageRef, data: bytes, mark: bytes | None) -> Embedded:
        key = content_key(self._space, data, image.region)
        found = self._stored(key)
        if found is None:
            with self._decoding, timed("decode"):
                decoded = decode_pixels(data, max_pixels=self._max_pixels, region=image.region, exact=self._exact)
                pixels = self._engine.encoder.prepare(decoded)
            found = Embedded(key, self._engine.submit(pixels, urgent=self._urgent))
            found.vector.add_done_callback(lambda done: self._keep(key, done))
        if mark:
            self._store.remember({mark: key})
        return found

    def _stored(self, key: bytes) -> Embedded | None:
        vector = self._store.get([key]).get(key)
        return None if vector is None else Embedded.at_hand(key, vector)

    def _keep(self, key: bytes, done: Future[Vectors]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._store.put({key: done.result()})

    def close(self) -> None:
        """Drop what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def bulk_threads(engine: Engine, fetch: Fetch, store: EmbeddingStore, settings: Settings) -> ImageThreads:
    """The threads for bulk chunks."""
    return ImageThreads(
        engine,
        fetch,
        store,
        max_pixels=settings.max_image_pixels,
        fetches=settings.fetch_threads,
        decodes=settings.decode_threads or os.cpu_count() or 1,
        exact=settings.preprocessing == "exact",
        urgent=False,
    )


def urgent_threads(engine: Engine, fetch: Fetch, store: EmbeddingStore, settings: Settings) -> ImageThreads:
    """Threads of their own for interactive chunks: slow bulk downloads must not hold them up."""
    return ImageThreads(
        engine,
        fetch,
        store,
        max_pixels=settings.max_image_pixels,
        fetches=_URGENT_FETCHES,
        decodes=_URGENT_DECODES,
        exact=settings.preprocessing == "exact",
        urgent=True,
    )
