"""One chunk from its lease to its outcomes: fetch and decode on threads, embed in the engine, score, write.

The chunk's own thread only waits, scores what is ready and writes it. Every hand-over is bounded: at most
`fetch_threads` files and the engine's few batches of prepared images are in memory, however large the job.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import redis

from ..schemas.errors import ConfigError, ItemError, PrelabelError, ScorerError
from ..schemas.items import ImageRef, Item
from ..schemas.jobs import JobSpec, Priority
from ..schemas.predictions import ItemFailure, Outcome
from ..schemas.settings import Settings
from ..schemas.versions import model_version
from .decode import decode
from .engine import Engine
from .leases import LeaseKeeper
from .ledger import ChunkRef, Lease, Ledger, Refusal, Written
from .scorer import Pixels, Vectors
from .scoring import Answerer, pair_logits
from .sweeper import Hint
from .texts import TextVectors

log = logging.getLogger(__name__)

_FLUSH_S = 0.25
"""Seconds outcomes are held before they are written, so that a slow device shows progress."""

_FLUSH_ITEMS = 32
_JOBS_KEPT = 64
_URGENT_THREADS = 8
_PATIENCE_S = 1.0
"""Longest pause between tries of a write while Redis is away."""


class _Ready(NamedTuple):
    """An item whose embeddings are there, or the reason why they never will be."""

    ordinal: int
    item: Item
    embeddings: dict[ImageRef, Future[Vectors]]
    error: Exception | None


@dataclass(frozen=True, slots=True)
class _JobScorer:
    """What is prepared once per job: answer rules, text matrices `(n_leaves, dim)`, the version string."""

    version: str
    images: tuple[str | None, ...]
    answerers: tuple[Answerer, ...]
    texts: tuple[Vectors, ...]


class Pipeline:
    """Scores chunks; `run` is called from many threads at once.

    Args:
        settings: thread counts and caps.
        engine: embeds prepared images.
        texts: the taxonomies' text vectors.
        ledger: leases and outcomes.
        keeper: renews leases.
        fetch: reads an image's bytes; raises `ItemError` or `TransientError`.
        hint: puts a handed-back chunk on its queue again.
        push: says that a job has predictions to push.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        engine: Engine,
        texts: TextVectors,
        ledger: Ledger,
        keeper: LeaseKeeper,
        fetch: Callable[[ImageRef], bytes],
        hint: Hint,
        push: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._texts = texts
        self._ledger = ledger
        self._keeper = keeper
        self._fetch = fetch
        self._hint = hint
        self._push = push
        self._stopping = threading.Event()
        # Urgent items have threads of their own: a bulk chunk of slow downloads must not hold them up.
        self._bulk = ThreadPoolExecutor(settings.fetch_threads, thread_name_prefix="prelabel-fetch")
        self._urgent = ThreadPoolExecutor(_URGENT_THREADS, thread_name_prefix="prelabel-urgent")
        cores = settings.decode_threads or os.cpu_count() or 1
        self._decoding = {False: threading.BoundedSemaphore(cores), True: threading.BoundedSemaphore(2)}
        self._jobs: OrderedDict[str, _JobScorer] = OrderedDict()
        self._jobs_lock = threading.Lock()

    def stop(self) -> None:
        """Make every running chunk write what it has and hand back the rest."""
        self._stopping.set()

    def close(self) -> None:
        """Release the threads; call after the last `run` has returned."""
        self._bulk.shutdown(wait=False, cancel_futures=True)
        self._urgent.shutdown(wait=False, cancel_futures=True)

    def run(self, ref: ChunkRef) -> None:
        """Score one chunk, unless somebody else does or it needs no scoring any more."""
        if self._stopping.is_set():
            return  # it stays in the ledger; another worker's sweeper sends it again
        lease = self._ledger.claim(ref)
        if isinstance(lease, Refusal):
            log.debug("job %s chunk %d: %s", ref.job_id, ref.chunk, lease.value)
            return
        with self._keeper.hold(lease) as lost:
            finished = False
            try:
                finished = _ChunkRun(self, lease, lost).run()
            finally:
                if not finished and self._ledger.release(lease):
                    self._hint(ref, lease.spec.priority.value)

    def _job_scorer(self, lease: Lease) -> _JobScorer:
        with self._jobs_lock:
            known = self._jobs.get(lease.ref.job_id)
            if known:
                self._jobs.move_to_end(lease.ref.job_id)
                return known
        made = self._make_job_scorer(lease.spec)
        with self._jobs_lock:
            self._jobs[lease.ref.job_id] = made
            while len(self._jobs) > _JOBS_KEPT:
                self._jobs.popitem(last=False)
        return made

    def _make_job_scorer(self, spec: JobSpec) -> _JobScorer:
        model = self._engine.encoder.model_id
        if spec.model is not None and spec.model != model:
            raise ConfigError(
                f"the job asks for {spec.model}, this worker serves {model}: "
                "set PRELABEL_MODEL alike for producers, adapter and workers"
            )
        return _JobScorer(
            version=model_version(model, spec.controls),
            images=tuple(control.image for control in spec.controls),
            answerers=tuple(
                Answerer(control.taxonomy, control=control.name, top_k=spec.top_k) for control in spec.controls
            ),
            texts=tuple(self._texts.matrix(control.taxonomy) for control in spec.controls),
        )

    def _prepare(self, image: ImageRef, *, urgent: bool) -> Pixels:
        data = self._fetch(image)
        with self._decoding[urgent]:
            decoded = decode(data, max_pixels=self._settings.max_image_pixels, region=image.region)
            return self._engine.encoder.prepare(decoded)

    def _patiently(self, write: Callable[[], Written]) -> Written:
        """Repeat an idempotent write until Redis is back; the lease decides whether it still counts."""
        pause = 0.05
        while True:
            try:
                return write()
            except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.OutOfMemoryError) as error:
                if self._stopping.is_set():
                    raise
                log.warning("cannot write outcomes (%s), trying again", error)
                time.sleep(pause)
                pause = min(_PATIENCE_S, pause * 2)


class _ChunkRun:
    """The state of one chunk while it is worked on."""

    def __init__(self, pipeline: Pipeline, lease: Lease, lost: threading.Event) -> None:
        self._pipeline = pipeline
        self._lease = lease
        self._lost = lost
        self._urgent = lease.spec.priority is Priority.INTERACTIVE
        self._ready: queue.SimpleQueue[_Ready] = queue.SimpleQueue()
        self._outcomes: list[tuple[int, Outcome]] = []

    def run(self) -> bool:
        """Returns whether the chunk needs no handing back: it is complete, or no longer ours."""
        try:
            job = self._pipeline._job_scorer(self._lease)
        except PrelabelError as error:
            if isinstance(error, ScorerError):
                raise
            self._outcomes = [(ordinal, _failure(error)) for ordinal, _ in self._lease.pairs]
            self._flush(left=0)
            return True
        threads = self._pipeline._urgent if self._urgent else self._pipeline._bulk
        tasks = [threads.submit(self._start, job, ordinal, item) for ordinal, item in self._lease.pairs]
        try:
            return self._collect(job, len(tasks))
        finally:
            for task in tasks:
                task.cancel()

    def _start(self, job: _JobScorer, ordinal: int, item: Item) -> None:
        """On a fetch thread: everything up to the engine. Never raises; the outcome says what went wrong."""
        embeddings: dict[ImageRef, Future[Vectors]] = {}
        try:
            for name in job.images:
                image = item.image(name)
                if image is None:
                    raise ItemError(f"the item has no image named {name!r}")
                if self._lost.is_set() or self._pipeline._stopping.is_set():
                    return
                if image not in embeddings:
                    pixels = self._pipeline._prepare(image, urgent=self._urgent)
                    embeddings[image] = self._pipeline._engine.submit(pixels, urgent=self._urgent)
        except PrelabelError as error:
            self._ready.put(_Ready(ordinal, item, {}, error))
        except Exception as error:  # an image nobody foresaw must not take the chunk with it
            log.exception("item %s failed unexpectedly", item.id)
            self._ready.put(_Ready(ordinal, item, {}, error))
        else:
            self._when_all(embeddings, lambda: self._ready.put(_Ready(ordinal, item, embeddings, None)))

    @staticmethod
    def _when_all(futures: dict[ImageRef, Future[Vectors]], then: Callable[[], None]) -> None:
        left = len(futures)
        lock = threading.Lock()

        def one_done(_: Future[Vectors]) -> None:
            nonlocal left
            with lock:
                left -= 1
                last = left == 0
            if last:
                then()

        for future in futures.values():
            future.add_done_callback(one_done)

    def _collect(self, job: _JobScorer, left: int) -> bool:
        if left == 0:
            self._flush(left=0)
        flushed = time.monotonic()
        while left:
            ready = self._drain()
            left -= len(ready)
            self._outcomes += self._score(job, ready)
            stopping = self._pipeline._stopping.is_set()
            due = len(self._outcomes) >= _FLUSH_ITEMS or time.monotonic() - flushed >= _FLUSH_S
            if not left or stopping or (self._outcomes and due):
                if not self._flush(left):
                    return True
                flushed = time.monotonic()
            if self._lost.is_set():
                return True
            if left and stopping:
                return False
        return True

    def _drain(self) -> list[_Ready]:
        """Whatever is ready, at least one unless nothing comes for a moment."""
        ready = []
        try:
            ready.append(self._ready.get(timeout=_FLUSH_S))
            while len(ready) < _FLUSH_ITEMS:
                ready.append(self._ready.get_nowait())
        except queue.Empty:
            pass
        return ready

    def _score(self, job: _JobScorer, ready: list[_Ready]) -> list[tuple[int, Outcome]]:
        """Outcomes of ready items: one matrix product per control over all of them."""
        outcomes: list[tuple[int, Outcome]] = []
        embedded: list[tuple[_Ready, list[Vectors]]] = []
        for one in ready:
            try:
                if one.error:
                    raise one.error
                images = [one.item.image(name) for name in job.images]
                embedded.append((one, [one.embeddings[image].result() for image in images if image]))
            except ScorerError as error:
                if self._pipeline._engine.broken:
                    raise
                outcomes.append((one.ordinal, _failure(error)))
            except Exception as error:
                outcomes.append((one.ordinal, _failure(error)))
        if embedded:
            encoder = self._pipeline._engine.encoder
            logits = [
                pair_logits(
                    np.stack([vectors[i] for _, vectors in embedded]), texts, encoder.logit_scale, encoder.logit_bias
                )
                for i, texts in enumerate(job.texts)
            ]
            for row, (one, _) in enumerate(embedded):
                answers = tuple(answerer(rows[row]) for answerer, rows in zip(job.answerers, logits, strict=True))
                outcomes.append((one.ordinal, Outcome(model_version=job.version, answers=answers)))
        return outcomes

    def _flush(self, left: int) -> bool:
        """Write what there is; close the chunk when nothing is left. False: the lease is no longer ours."""
        outcomes, self._outcomes = self._outcomes, []
        written = self._pipeline._patiently(
            lambda: self._pipeline._ledger.complete(self._lease, outcomes, close=left == 0)
        )
        if not written.held:
            log.info("job %s chunk %d was taken over or cancelled", self._lease.ref.job_id, self._lease.ref.chunk)
            return False
        if written.push_ready and outcomes:
            self._pipeline._push(self._lease.ref.job_id)
        return True


def _failure(error: Exception) -> Outcome:
    message = str(error) if isinstance(error, PrelabelError) else f"unexpected {type(error).__name__}: {error}"
    return Outcome(error=ItemFailure(kind=type(error).__name__, message=message[:500]))
