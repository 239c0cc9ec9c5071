"""Fetch and decode threads: from an image reference to a future of its embedding."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from ..schemas.items import ImageRef
from ..schemas.settings import Settings
from .decode_fast import decode_pixels
from .engine import Engine
from .scorer import Vectors

_URGENT_FETCHES = 8
_URGENT_DECODES = 2


class ImageThreads:
    """One set of threads that fetch, decode, resize and hand images to the engine.

    A thread holds one image at a time from its first byte to its hand-over, so at most `fetches` files are in
    memory. Decoding is CPU work and limited apart from that.

    Args:
        engine: embeds what is prepared.
        fetch: reads an image's bytes; raises `ItemError` or `TransientError`.
        max_pixels: largest image decoded.
        fetches: threads.
        decodes: threads that may decode at once.
        exact: see `decode_pixels`.
        urgent: whether images go to the front of the engine's queue.
    """

    def __init__(
        self,
        engine: Engine,
        fetch: Callable[[ImageRef], bytes],
        *,
        max_pixels: int,
        fetches: int,
        decodes: int,
        exact: bool,
        urgent: bool,
    ) -> None:
        self._engine = engine
        self._fetch = fetch
        self._max_pixels = max_pixels
        self._exact = exact
        self._urgent = urgent
        self._decoding = threading.BoundedSemaphore(decodes)
        self._pool = ThreadPoolExecutor(fetches, thread_name_prefix="prelabel-urgent" if urgent else "prelabel-fetch")

    def run(self, work: Callable[[], None]) -> Future[None]:
        """Run `work`, which calls `embed`, on one of the threads."""
        return self._pool.submit(work)

    def embed(self, image: ImageRef) -> Future[Vectors]:
        """On one of the threads: the future `(dim,)` embedding of an image.

        Raises:
            ItemError: the image can never be scored.
            TransientError: its store does not deliver for now.
        """
        data = self._fetch(image)
        with self._decoding:
            decoded = decode_pixels(data, max_pixels=self._max_pixels, region=image.region, exact=self._exact)
            pixels = self._engine.encoder.prepare(decoded)
        return self._engine.submit(pixels, urgent=self._urgent)

    def close(self) -> None:
        """Drop what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def bulk_threads(engine: Engine, fetch: Callable[[ImageRef], bytes], settings: Settings) -> ImageThreads:
    """The threads for bulk chunks."""
    return ImageThreads(
        engine,
        fetch,
        max_pixels=settings.max_image_pixels,
        fetches=settings.fetch_threads,
        decodes=settings.decode_threads or os.cpu_count() or 1,
        exact=settings.preprocessing == "exact",
        urgent=False,
    )


def urgent_threads(engine: Engine, fetch: Callable[[ImageRef], bytes], settings: Settings) -> ImageThreads:
    """Threads of their own for interactive chunks: slow bulk downloads must not hold them up."""
    return ImageThreads(
        engine,
        fetch,
        max_pixels=settings.max_image_pixels,
        fetches=_URGENT_FETCHES,
        decodes=_URGENT_DECODES,
        exact=settings.preprocessing == "exact",
        urgent=True,
    )
