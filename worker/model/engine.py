"""The engine: prepared images from every chunk and job in, embeddings out, one forward thread per device.

Images of different jobs share a batch, because they meet text vectors only after the forward pass. A batch is
whatever waits when the device becomes free, up to the batch size: no timer, no polling.

Urgent images go first, in batches of their own: beside bulk images they would wait for those. From the moment one is
announced, bulk images keep little of the device: small batches, one after the other. So an urgent image that takes as
long to get here as a forward pass waits for one such pass at most.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

import numpy as np

from ...schemas.errors import OutOfMemory, ScorerError
from ..arrays import Pixels, Vectors
from ..telemetry import metrics, trace
from ..vectors.records import as_stored
from .encoder import Encoder
from .precedence import Precedence

log = logging.getLogger(__name__)

_WAITING_BATCHES = 4
"""Batches of prepared images that may wait; beyond that `submit` blocks (a 512 px image is 0.8 MB)."""


_IN_FLIGHT = 2
"""Batches a device is given before the first one's vectors are back: it never waits for the host."""

_PART = 4
"""Of a batch: what bulk images get while something urgent is expected, for which they are to be over soon."""

_URGENT_IN_A_ROW = 4
"""Batches of urgent images after which one of bulk images goes: a stream of urgent ones does not stop them."""


class _Waiting(NamedTuple):
    pixels: Pixels
    future: Future[Vectors]
    since_ns: int


class _Started(NamedTuple):
    """A batch on the device; `finish` waits for its vectors."""

    batch: list[_Waiting]
    finish: Callable[[], Vectors]
    begun_ns: int


class Engine:
    """Runs the encoder on one thread; hands vectors out on another, while the next batch is under way.

    Both begin with the first image.

    Args:
        encoder: what to run.
        batch_size: images per forward pass at most, see `allow`; halved for good when the device runs out of memory.
        on_broken: called once, from one of the two threads, when the encoder fails for another reason than memory.
            Every waiting and later image then gets that `ScorerError`.

    Attributes:
        precedence: where urgent images are announced before they come.
    """

    def __init__(
        self, encoder: Encoder, batch_size: int = 1, on_broken: Callable[[ScorerError], None] = lambda _: None
    ) -> None:
        self.encoder = encoder
        self._on_broken = on_broken
        self._broken: ScorerError | None = None
        self._urgent: deque[_Waiting] = deque()
        self._bulk: deque[_Waiting] = deque()
        self.allow(batch_size)
        self._begun = self._closing = self._dropping = False
        # One lock, taken once a batch and once an image: among many threads each more would cost a switch or two.
        lock = threading.Lock()
        self._filled, self._room, self._free = (threading.Condition(lock) for _ in range(3))
        self._started: queue.SimpleQueue[_Started | None] = queue.SimpleQueue()
        self._free_ns = 0
        self._on_device: dict[int, int] = {}
        self._in_flight = 0
        self._urgent_in_a_row = 0
        self.precedence = Precedence(self._look_again)
        self._threads = (
            threading.Thread(target=self._run, name="prelabel-forward", daemon=True),
            threading.Thread(target=self._hand_out, name="prelabel-vectors", daemon=True),
        )

    def allow(self, batch_size: int) -> None:
        """Form batches of up to this many images from now on."""
        self.batch_size = batch_size
        self._capacity = max(64, batch_size * _WAITING_BATCHES)

    def submit(self, pixels: Pixels, *, urgent: bool = False) -> Future[Vectors]:
        """Queue one prepared image; blocks while too many wait (urgent ones never block).

        Returns:
            A future of its `(dim,)` float32 embedding, un-normalised, rounded as a store keeps it. It raises
            `OutOfMemory` when not even this image alone fits, another `ScorerError` when the encoder fails.
        """
        future: Future[Vectors] = Future()
        if self._broken:
            future.set_exception(self._broken)
            return future
        waiting = _Waiting(pixels, future, trace.now_ns())
        with self._filled:
            if not self._begun:
                self._begun = True
                for thread in self._threads:
                    thread.start()
            if urgent:
                self._urgent.append(waiting)
                self._free.notify()  # more may be in flight now
            else:
                while len(self._bulk) >= self._capacity:
                    self._room.wait()
                self._bulk.append(waiting)
            self._filled.notify()
            dropped = self._dropping
        if dropped:
            future.cancel()
        return future

    @property
    def broken(self) -> bool:
        """Whether the encoder has failed for good."""
        return self._broken is not None

    def busy_s(self) -> float:
        """Seconds the oldest batch has been on the device; 0 when there is none."""
        since = list(self._on_device.values())
        return (trace.now_ns() - min(since)) / 1e9 if since else 0.0

    def fail(self, error: ScorerError, cause: Exception | None = None) -> None:
        """The encoder has failed for good, here or elsewhere: every waiting and later image gets the first such error.

        Args:
            error: what the images are told.
            cause: whose traceback is logged.
        """
        if self._broken is None:
            self._broken = error
            log.error("the encoder failed; this worker can score nothing more: %s", error, exc_info=cause)
            self._on_broken(error)

    def close(self, *, drop: bool = False) -> None:
        """Finish what waits, then end the threads.

        Args:
            drop: finish only what is on the device; the futures of what waits, and of what comes later, are cancelled.
        """
        with self._filled:
            self._closing, self._dropping = True, drop
            dropped = [*self._urgent, *self._bulk] if drop else []
            if drop:
                self._urgent.clear()
                self._bulk.clear()
                self._room.notify_all()
            self._filled.notify()
            self._free.notify()
            begun = self._begun
        for waiting in dropped:
            waiting.future.cancel()
        for thread in self._threads if begun else ():
            thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            # Nobody waits for a cancelled future.
            wanted = [waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()]
            if not wanted:
                self._landed()
                continue
            now_ns = trace.now_ns()
            for waiting in wanted:
                metrics.observe("wait", (now_ns - waiting.since_ns) / 1e9)
            self._forward(wanted)
        self._started.put(None)

    def _next_batch(self) -> list[_Waiting]:
        """What goes next, once the device may have it; empty when the engine is closed and nothing waits any more."""
        with self._filled:
            while True:
                line, limit, in_flight = self._turn()
                if line and self._in_flight < in_flight:
                    break
                if line:
                    self._free.wait()
                elif self._closing:
                    return []
                else:
                    self._filled.wait()
            batch = [line.popleft() for _ in range(min(limit, len(line)))]
            self._in_flight += 1
            self._urgent_in_a_row = self._urgent_in_a_row + 1 if line is self._urgent and self._bulk else 0
            self._room.notify(len(batch))
            return batch

    def _turn(self) -> tuple[deque[_Waiting], int, int]:
        """Whose turn it is, how many of them may go together, and how many batches may be in flight then."""
        if self._urgent and (not self._bulk or self._urgent_in_a_row < _URGENT_IN_A_ROW):
            return self._urgent, self.batch_size, _IN_FLIGHT
        few = max(1, self.batch_size // _PART)
        if self._urgent:  # they have had their batches in a row
            return self._bulk, few, _IN_FLIGHT
        if self.precedence.expected:
            return self._bulk, few, 1
        return self._bulk, self.batch_size, _IN_FLIGHT

    def _landed(self) -> None:
        """One batch less is in flight."""
        with self._free:
            self._in_flight -= 1
            self._free.notify()

    def _look_again(self) -> None:
        """More may be in flight now."""
        with self._free:
            self._free.notify()

    def _forward(self, batch: list[_Waiting]) -> None:
        """Start a batch; it is one of those in flight."""
        images = [waiting.pixels for waiting in batch]
        begun = trace.now_ns()
        self._on_device[id(batch)] = begun
        trace.record("wait", batch[0].since_ns, begun, images=len(batch))
        try:
            if self._broken:
                raise self._broken
            finish = self.encoder.images.start(images)
            metrics.batch_images.observe(len(batch))
        except OutOfMemory as error:
            self._on_device.pop(id(batch), None)
            self._split(batch, error)
            return
        except Exception as error:  # whatever it is, the futures must learn of it
            finish = partial(_raise, error)
        self._started.put(_Started(batch, finish, begun))
        trace.record("forward", begun, trace.now_ns(), images=len(batch))

    def _split(self, batch: list[_Waiting], error: OutOfMemory) -> None:
        if len(batch) == 1:
            alone = OutOfMemory(f"one image alone does not fit into memory: {error}")
            batch[0].future.set_exception(alone)
            self._landed()
            return
        half = (len(batch) + 1) // 2  # upwards: where three do not fit two may
        self.batch_size = min(self.batch_size, half)
        log.warning("out of memory with a batch of %d: going on with batches of %d", len(batch), self.batch_size)
        self._forward(batch[:half])
        with self._free:
            while self._in_flight >= _IN_FLIGHT:
                self._free.wait()
            self._in_flight += 1
        self._forward(batch[half:])

    def _hand_out(self) -> None:
        while (started := self._started.get()) is not None:
            with trace.span("vectors", images=len(started.batch)):
                self._finish(started)
            self._landed()

    def _finish(self, started: _Started) -> None:
        try:
            try:
                # Rounded here, once: what is answered from a store later must not differ.
                vectors = as_stored(started.finish())
            finally:
                self._on_device.pop(id(started.batch), None)
        except Exception as error:
            # Before its images learn of it: who waits for one asks then whether the encoder is broken.
            self.fail(
                error if isinstance(error, ScorerError) else ScorerError(f"forward pass failed: {error!r}"), error
            )
            for waiting in started.batch:
                waiting.future.set_exception(self._broken)
        else:
            now_ns = trace.now_ns()
            # A device does one batch after the other: this one's time begins when the last one's has ended.
            metrics.observe("forward", (now_ns - max(started.begun_ns, self._free_ns)) / 1e9)
            self._free_ns = now_ns
            numbers = np.logical_and.reduce(np.isfinite(vectors), axis=1)
            for waiting, vector, is_number in zip(started.batch, vectors, numbers, strict=True):
                if is_number:
                    waiting.future.set_result(vector)
                else:
                    waiting.future.set_exception(ScorerError("the model made no number of this image (overflow?)"))


def _raise(error: Exception) -> Vectors:
    raise error
