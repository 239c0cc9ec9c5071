"""The engine: prepared images from every chunk and job in, embeddings out, one forward thread.

Images of different jobs share a batch, because they meet text vectors only after the forward pass. A batch is
whatever waits when the device becomes free, up to the batch size: no timer, no polling. Urgent images go first.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from ..schemas.errors import OutOfMemory, ScorerError
from . import metrics
from .scorer import Encoder, Pixels, Vectors

log = logging.getLogger(__name__)

_WAITING_BATCHES = 4
"""Batches of prepared images that may wait; beyond that `submit` blocks (a 512 px image is 0.8 MB)."""


class _Waiting(NamedTuple):
    rank: int
    order: int
    pixels: Pixels | None
    future: Future[Vectors]
    since: float


class Engine:
    """Runs the encoder on one thread.

    Args:
        encoder: what to run.
        batch_size: images per forward pass at most; halved for good when the device runs out of memory.
        on_broken: called once, from the forward thread, when the encoder fails for another reason than memory.
            Every waiting and later image then gets that `ScorerError`.
    """

    def __init__(
        self, encoder: Encoder, batch_size: int, on_broken: Callable[[ScorerError], None] = lambda _: None
    ) -> None:
        self.encoder = encoder
        self.batch_size = batch_size
        self._on_broken = on_broken
        self._broken: ScorerError | None = None
        self._order = itertools.count()
        self._waiting: queue.PriorityQueue[_Waiting] = queue.PriorityQueue()
        self._room = threading.BoundedSemaphore(max(64, batch_size * _WAITING_BATCHES))
        self._thread = threading.Thread(target=self._run, name="prelabel-forward", daemon=True)
        self._thread.start()

    def submit(self, pixels: Pixels, *, urgent: bool = False) -> Future[Vectors]:
        """Queue one prepared image; blocks while too many wait (urgent ones never block).

        Returns:
            A future of its `(dim,)` float32 embedding, un-normalised. It raises `ScorerError` when the encoder fails.
        """
        future: Future[Vectors] = Future()
        if not urgent:
            self._room.acquire()
            future.add_done_callback(lambda _: self._room.release())
        if self._broken:
            future.set_exception(self._broken)
        else:
            self._waiting.put(_Waiting(0 if urgent else 1, next(self._order), pixels, future, time.perf_counter()))
        return future

    @property
    def broken(self) -> bool:
        """Whether the encoder has failed for good."""
        return self._broken is not None

    def close(self) -> None:
        """Finish what waits, then end the thread."""
        self._waiting.put(_Waiting(2, next(self._order), None, Future(), 0.0))
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            batch = [self._waiting.get()]
            while len(batch) < self.batch_size and not self._waiting.empty():
                batch.append(self._waiting.get())
            closing = any(waiting.pixels is None for waiting in batch)
            # Nobody waits for a cancelled future.
            wanted = [w for w in batch if w.pixels is not None and w.future.set_running_or_notify_cancel()]
            if wanted:
                now = time.perf_counter()
                for waiting in wanted:
                    metrics.observe("wait", now - waiting.since)
                self._forward(wanted)

    def _forward(self, batch: list[_Waiting]) -> None:
        if self._broken:
            for waiting in batch:
                waiting.future.set_exception(self._broken)
            return
        try:
            with metrics.timed("forward"):
                vectors = self.encoder.encode_images(np.stack([w.pixels for w in batch if w.pixels is not None]))
            metrics.batch_images.observe(len(batch))
        except OutOfMemory as error:
            self._split(batch, error)
        except Exception as error:  # whatever it is, the futures must learn of it
            self._broken = error if isinstance(error, ScorerError) else ScorerError(f"forward pass failed: {error!r}")
            log.exception("the encoder failed; this worker can score nothing more")
            self._forward(batch)
            self._on_broken(self._broken)
        else:
            for waiting, vector in zip(batch, vectors, strict=True):
                waiting.future.set_result(vector)

    def _split(self, batch: list[_Waiting], error: OutOfMemory) -> None:
        if len(batch) == 1:
            batch[0].future.set_exception(ScorerError(f"one image alone does not fit into memory: {error}"))
            return
        half = len(batch) // 2
        self.batch_size = min(self.batch_size, half)
        log.warning("out of memory with a batch of %d: going on with batches of %d", len(batch), self.batch_size)
        self._forward(batch[:half])
        self._forward(batch[half:])
