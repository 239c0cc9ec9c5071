"""Fetch and decode threads: from an image reference to a future of its embedding."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from PIL import Image

from ...schemas.errors import ItemError
from ...schemas.items import ImageRef
from ...schemas.settings import Settings
from ..arrays import Pixels, Vectors
from ..decoding.budget import DecodeBudget, Share
from ..decoding.crop import crop
from ..decoding.pixels import EncodedImage
from ..fetching.reader import Fetched, IsKnown, no_content
from ..machine.host import usable_cpus
from ..model.engine import Engine
from ..model.precedence import Turns
from ..telemetry.stages import stage
from ..vectors.keys import ImageKeys, image_space, space_tag
from ..vectors.records import floats
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

    Used in a `with` block, whose end gives back what its pixels have of the memory for decoding.

    Attributes:
        uri: its address; empty before the first.
        mark: its store's mark for its content, if there is one.
        content: its bytes.
        decoded: the image in it, once a region of it was needed.
        share: what that has of the memory for decoding.
    """

    uri: str = ""
    mark: str | None = None
    content: bytes = b""
    decoded: Image.Image | None = None
    share: Share | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.forget_pixels()

    def forget_pixels(self) -> None:
        """Hold only the file itself from now on."""
        self.decoded = None
        if self.share:
            self.share.release()
            self.share = None

    def replace(self, ref: ImageRef, fetched: Fetched) -> None:
        """Hold the file of this image from now on.

        Raises:
            ItemError: it was fetched without its content.
        """
        if fetched.content is None:
            raise ItemError(f"{ref.display}: {no_content()}")
        self.uri, self.mark, self.content = ref.uri, fetched.mark, fetched.content


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
        self.vector = _recalled(self.store, key) if key else None
        return self.vector is not None


class ImageEmbedder:
    """One set of threads that fetch, decode, resize and hand images to the engine.

    A thread holds one image at a time from its first byte to its hand-over, so at most `fetches` files are in
    memory. Decoding is CPU work and limited apart from that, in threads and in memory.

    Args:
        engine: embeds what is prepared.
        fetch: reads an image's file; raises `ItemError` or `TransientError`.
        store: vectors embedded before.
        max_pixels: largest image decoded.
        fetches: threads.
        decodes: threads that may decode at once.
        preprocessing: "exact", "fast" or "scaled", see `EncodedImage`.
        urgent: whether images go to the front of the engine's queue.
        budget: the memory for decoding, shared with whoever else decodes in this process; None is one of its own.
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
        budget: DecodeBudget | None = None,
        thumbnail: Thumbnail = _no_thumbnail,
    ) -> None:
        self._engine = engine
        self._fetch = fetch
        self._store = store
        self._space = image_space(engine.encoder.card, engine.encoder.dtype)
        self._tag = space_tag(self._space)
        self._max_pixels = max_pixels
        self._exact = preprocessing == "exact"
        self._scaled = preprocessing == "scaled"
        self._urgent = urgent
        self._thumbnail = thumbnail
        self._budget = budget or DecodeBudget()
        self._turns: AbstractContextManager[object] = (
            threading.BoundedSemaphore(decodes) if urgent else Turns(decodes, engine.precedence)
        )
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
        if image.problem:
            raise ItemError(image.problem)
        if (key := self._key_of(image)) and (vector := _recalled(self._store, key)):
            return vector
        if last is not None:
            return self._embed(image, last)
        with LastFile() as file:
            return self._embed(image, file)

    def _embed(self, image: ImageRef, file: LastFile) -> PendingVector:
        keys = ImageKeys(self._space, image)
        recall = _Recall(self._store, keys)
        if file.uri != image.uri:
            file.forget_pixels()  # a fetch may take long
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
        if vector := _recalled(self._store, key):
            if stamp:
                self._store.remember({stamp: key})
            return vector
        pixels, thumbnail = self._prepared(keys.ref, file)
        future = self._engine.submit(pixels, urgent=self._urgent)
        # A mark counts only for a vector that is stored: it is remembered after that.
        future.add_done_callback(lambda done: self._keep(key, stamp, done))
        return PendingVector(key, future, thumbnail)

    def recall(self, images: Iterable[ImageRef]) -> dict[str, PendingVector]:
        """The stored vectors of images whose vector's key is known, by that key; on any thread, in one look."""
        keys = list(dict.fromkeys(key for image in images if (key := self._key_of(image))))
        recalled: dict[str, PendingVector] = {}
        for positions, halves in self._store.blocks(keys):
            for at, vector in zip(positions.tolist(), floats(halves), strict=True):
                recalled[keys[at].hex()] = PendingVector.at_hand(keys[at], vector)
        return recalled

    def _key_of(self, image: ImageRef) -> bytes | None:
        """The key a job has handed on, if its vector was made as this worker makes them."""
        key = bytes.fromhex(image.vector) if image.vector else b""
        return key if key.endswith(self._tag) else None

    def _prepared(self, image: ImageRef, file: LastFile) -> tuple[Pixels, str]:
        """The image at the model's size, and a thumbnail when one is due.

        The memory is taken before the turn to decode: what a file holds for further regions comes free only when those
        get their turn.
        """
        if image.region is None:
            file.forget_pixels()
            encoded = self._opened(file)
            with self._budget.take(encoded.memory, urgent=self._urgent), self._turn(), stage("decode"):
                return self._shown(encoded.pixels())
        if file.decoded is None:
            file.forget_pixels()  # an earlier region may have failed half-way
            encoded = self._opened(file)
            file.share = self._budget.take(encoded.image_memory, urgent=self._urgent)
            with self._turn(), stage("decode"):
                file.decoded = encoded.image()
            file.share.shrink(encoded.kept_memory)
        with self._turn(), stage("decode"):
            return self._shown(np.array(crop(file.decoded, image.region)))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """A turn to decode, which an urgent image announces once more: its download may have been a long one.

        It has its memory by then: an image that waits for that would have those make way for it that have some.
        """
        with self._engine.precedence.expect() if self._urgent else nullcontext(), self._turns:
            yield

    def _opened(self, file: LastFile) -> EncodedImage:
        return EncodedImage(file.content, max_pixels=self._max_pixels, exact=self._exact, scaled=self._scaled)

    def _shown(self, pixels: Pixels) -> tuple[Pixels, str]:
        return self._engine.encoder.images.prepare(pixels), self._thumbnail(pixels)

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


def _recalled(store: EmbeddingStore, key: bytes) -> PendingVector | None:
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
    engine: Engine,
    fetch: Fetch,
    store: EmbeddingStore,
    settings: Settings,
    budget: DecodeBudget | None = None,
    thumbnail: Thumbnail = _no_thumbnail,
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
        budget=budget or DecodeBudget(settings.decode_bytes),
        thumbnail=thumbnail,
    )


def urgent_embedder(
    engine: Engine,
    fetch: Fetch,
    store: EmbeddingStore,
    settings: Settings,
    budget: DecodeBudget | None = None,
    thumbnail: Thumbnail = _no_thumbnail,
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
        budget=budget or DecodeBudget(settings.decode_bytes),
        thumbnail=thumbnail,
    )
