"""Everything one worker process is made of: wired together here, started and stopped by the Celery app."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from redis import Redis, RedisError

from ..integrations.broker.celery import Sender
from ..integrations.broker.connection import connect_redis
from ..integrations.broker.errors import broker_errors
from ..integrations.client.capable import able_model
from ..integrations.client.checkpoint import names_one_model, settings_model_id
from ..integrations.ledger.fleet import Fleet
from ..integrations.ledger.jobs import JobStore
from ..integrations.ledger.leases import ChunkRef, Ledger
from ..integrations.ledger.push_hints import PushHints
from ..integrations.ledger.queues import queue_states
from ..integrations.ledger.searches import Searches
from ..integrations.telemetry.queues import Queues
from ..integrations.telemetry.server import serve_metrics
from ..schemas.errors import ConfigError, PrelabelError, ScorerError
from ..schemas.jobs import JobSpec
from ..schemas.package import package_version
from ..schemas.progress import WorkerInfo
from ..schemas.queues import queue_of, search_queue
from ..schemas.settings import Settings
from .chunks.keeper import LeaseKeeper
from .chunks.pipeline import Pipeline
from .chunks.sweeper import Sweeper
from .chunks.tools import Tools
from .decoding.budget import DecodeBudget
from .delivering.platforms import Platforms
from .delivering.pusher import JobPusher
from .delivering.showcase import Showcase
from .embedding.images import bulk_embedder, urgent_embedder
from .embedding.texts import TextVectors
from .fetching.fetcher import Fetcher
from .fetching.open import make_fetcher
from .machine.children import EXIT_BROKEN, WORKER_NAME_VARIABLE, new_worker_name
from .machine.host import single_threaded_blas
from .model.batch_size import find_batch_size
from .model.encoder import Encoder
from .model.engine import Engine
from .model.registry import load_encoder
from .retrieval.desk import SearchDesk
from .retrieval.query import QueryVectors
from .retrieval.searcher import Searcher
from .scoring.job_scorer import JobScorers
from .telemetry import metrics, trace
from .vectors.counted import CountingStore
from .vectors.keys import image_space
from .vectors.open import open_store, store_name
from .vectors.store import EmbeddingStore, NoStore

log = logging.getLogger(__name__)

HUNG_S = 300.0
"""Seconds after which a batch that is not back means that the device hangs; a large one on a CPU takes a minute."""

_SWEEP_S = 2.0
"""Seconds between sweeps at most: a lost message is noticed within about three of them."""


class _Hints:
    """Messages that say what waits: a chunk to score, a job with predictions to push.

    One that cannot be sent is a line in the log: a sweep finds what waits without one, so it fails nothing.
    """

    def __init__(self, settings: Settings, sender: Sender, pushes: PushHints) -> None:
        self._settings = settings
        self._sender = sender
        self._pushes = pushes

    def chunk(self, ref: ChunkRef, queue: str) -> None:
        self._send(lambda: self._sender.score_chunk(ref.job_id, ref.chunk, queue), ref.job_id)

    def push(self, job_id: str) -> None:
        def send() -> None:
            if self._pushes.due(job_id):
                self._sender.push(job_id)

        self._send(send, job_id)

    def _send(self, send: Callable[[], None], job_id: str) -> None:
        try:
            with broker_errors(self._settings):  # kombu's are no redis-py's
                send()
        except (PrelabelError, RedisError) as error:
            log.warning("no message for job %s could be sent, a sweep sends it: %s", job_id, error)


class _AbleQueues:
    """Finds workers for what this one's model cannot answer."""

    def __init__(self, redis: Redis) -> None:
        self._fleet = Fleet(redis)

    def __call__(self, spec: JobSpec) -> str | None:
        model = able_model(spec, self._fleet.workers())
        return None if model is None else queue_of(spec.priority.value, model)


@dataclass(kw_only=True)
class Runtime:
    """One worker's parts and what becomes of them: `wire`, `start`, `announce`, `stop_soon`, `close`.

    Attributes:
        settings: the worker's settings.
        info: what it tells about itself.
        redis: its connection to the ledger.
        sender: puts messages on queues.
        store: vectors embedded before.
        fetcher: reads images.
        tools: what its chunks are scored and written with.
        pipeline: scores chunks.
        keeper: renews leases, and shows that the worker lives.
        sweeper: finds what got lost.
        platforms: where predictions are sent to.
        pusher: sends predictions to their platform.
        searches: answers searches.
    """

    settings: Settings
    info: WorkerInfo
    redis: Redis
    sender: Sender
    store: EmbeddingStore
    fetcher: Fetcher
    tools: Tools
    pipeline: Pipeline
    keeper: LeaseKeeper
    sweeper: Sweeper
    platforms: Platforms
    pusher: JobPusher
    searches: SearchDesk
    _deadline: threading.Timer | None = field(default=None, init=False)
    _metrics: ExitStack = field(default_factory=ExitStack, init=False)

    @classmethod
    def wire(cls, settings: Settings, encoder: Encoder) -> Self:
        """Build a worker's parts. None of them does anything yet: no forward pass, no thread, no file, no connection.

        Args:
            settings: the worker's settings.
            encoder: the loaded model.

        Raises:
            ConfigError: a setting cannot be used.
        """
        name = os.environ.get(WORKER_NAME_VARIABLE) or new_worker_name()
        card = encoder.card
        where = store_name(settings) if names_one_model(settings) else ""
        info = WorkerInfo(
            name=name,
            model=card.id,
            device=encoder.device,
            dtype=encoder.dtype,
            card=card,
            search=search_queue(card.id, where) if where else "",
        )
        redis, sender = connect_redis(settings), Sender(settings)
        ledger = Ledger(redis, owner=name, lease_s=settings.lease_s, ttl_s=settings.job_ttl_s)
        jobs = JobStore(redis, settings.job_ttl_s)
        platforms = Platforms(settings, redis)
        hints = _Hints(settings, sender, PushHints(redis))
        engine = Engine(encoder, on_broken=_stop_loudly)
        store, fetcher, showcase = _vector_store(settings), make_fetcher(settings), Showcase(redis)
        budget = DecodeBudget(settings.decode_bytes)
        images, texts = CountingStore(store, "images"), CountingStore(store, "texts")
        text_vectors = TextVectors(encoder, settings.text_cache, texts)
        tools = Tools(
            engine=engine,
            scorers=JobScorers(encoder, text_vectors),
            bulk=bulk_embedder(engine, fetcher.fetch, images, settings, budget, showcase.thumbnail),
            urgent=urgent_embedder(engine, fetcher.fetch, images, settings, budget, showcase.thumbnail),
            ledger=ledger,
            hint=hints.chunk,
            push=hints.push,
            stopping=threading.Event(),
            item_retries=settings.item_retries,
            show=showcase.show,
            queue_of_able=_AbleQueues(redis),
        )
        keeper = LeaseKeeper(ledger, Fleet(redis), info, settings.lease_s, partial(_end_if_hung, engine))
        sweeper = Sweeper(
            ledger,
            jobs,
            redis,
            hints.chunk,
            hints.push,
            owner=name,
            every_s=min(settings.lease_s / 5, _SWEEP_S),
            lease_s=settings.lease_s,
        )
        queries = QueryVectors(card, text_vectors, lambda image: tools.urgent.embed(image).vector.result())
        searcher = Searcher(card, image_space(card, encoder.dtype), store, queries, settings, redis)
        return cls(
            settings=settings,
            searches=SearchDesk(searcher, Searches(redis)),
            info=info,
            redis=redis,
            sender=sender,
            store=store,
            fetcher=fetcher,
            tools=tools,
            pipeline=Pipeline(tools=tools, keeper=keeper),
            keeper=keeper,
            sweeper=sweeper,
            platforms=platforms,
            pusher=JobPusher(jobs, redis, settings, platforms.get),
        )

    def describe(self) -> str:
        """Model, device and batch size, for people."""
        return f"{self.info.model} on {self.info.device} ({self.info.dtype}), batches of {self.tools.engine.batch_size}"

    @property
    def broken(self) -> bool:
        """Whether the encoder has failed for good."""
        return self.tools.engine.broken

    def start(self) -> None:
        """Make it ready for its first chunk: run the model's first forward passes, begin the trace and the metrics.

        Raises:
            ConfigError: the trace cannot be written.
            ScorerError: the model cannot be run.
        """
        encoder = self.tools.engine.encoder
        batch_size = self.settings.batch_size or find_batch_size(encoder)
        encoder.images.tune(batch_size)
        self.tools.engine.allow(batch_size)
        if self.settings.trace:
            _start_trace(self.settings.trace)
        if self.settings.metrics_port:
            self._serve_metrics(self.settings.metrics_port)

    def announce(self) -> None:
        """Show the world a worker that takes chunks; begin to renew leases and to sweep."""
        self.keeper.start()
        self.sweeper.start()
        collect_garbage_seldom()

    def _serve_metrics(self, port: int) -> None:
        info, engine = self.info, self.tools.engine
        metrics.worker_info.labels(info.name, info.model, info.device, info.dtype, package_version()).set(1)
        metrics.batch_limit.set_function(lambda: engine.batch_size)
        self._metrics.callback(metrics.worker_info.clear)
        for collector in (Queues(lambda: queue_states(self.redis)), metrics.DeviceMemory(engine.encoder.device_memory)):
            metrics.REGISTRY.register(collector)
            self._metrics.callback(metrics.REGISTRY.unregister, collector)
        served = serve_metrics(metrics.REGISTRY, self.settings.host, port)
        if served:
            self._metrics.callback(served[1])

    def score_chunk(self, job_id: str, chunk: int, *, urgent: bool = False) -> None:
        """Score one chunk; returns when it is written, handed back or needs no work."""
        self.pipeline.run(ChunkRef(job_id, chunk), urgent=urgent)

    def push(self, job_id: str) -> None:
        """Push what a job has ready."""
        self.pusher.push(job_id)

    def search(self, request: str) -> None:
        """Answer a search."""
        self.searches.answer(request)

    def stop_soon(self) -> None:
        """Let running chunks finish within the grace time, then make them hand back the rest."""
        self.pusher.stop()
        self._deadline = threading.Timer(self.settings.grace_s, self.tools.stopping.set)
        self._deadline.daemon = True
        self._deadline.start()

    def close(self) -> None:
        """End all threads and connections; call when no chunk runs any more."""
        if self._deadline:
            self._deadline.cancel()
        self.tools.stopping.set()
        self._metrics.close()
        self.tools.bulk.close()
        self.tools.urgent.close()
        self.sweeper.stop()
        self.tools.engine.close()
        self.keeper.stop()
        self.fetcher.close()
        self.store.close()
        self.platforms.close()
        self.sender.close()
        trace.stop()
        self.redis.close()


def load_runtime(settings: Settings) -> Runtime:
    """Load the model and wire a worker; see `Runtime.wire`.

    Raises:
        ModelLoadError: the checkpoint cannot be loaded.
        ConfigError: a setting, or the package that brings the model's family, cannot be used.
    """
    encoder = load_encoder(settings, settings_model_id(settings))
    single_threaded_blas()
    return Runtime.wire(settings, encoder)


def collect_garbage_seldom() -> None:
    """Look for cycles of garbage where there may be some, and not all the time.

    What a loaded worker is made of stays as long as it does, and what an image leaves is freed by counting references:
    at Python's own thresholds a tenth of a fast worker's time went into finding nothing. Ten times less often than this
    it held a fifth more memory.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 5)


def _vector_store(settings: Settings) -> EmbeddingStore:
    if names_one_model(settings):
        return open_store(settings)
    log.warning(
        "no vectors are stored: %s may change on the hub; set PRELABEL_REVISION to one of its commits", settings.model
    )
    return NoStore()


def _start_trace(path: Path) -> None:
    try:
        trace.start(path)
    except OSError as error:
        raise ConfigError(f"PRELABEL_TRACE={path} cannot be written: {error.strerror or error}") from None
    log.info("writing a trace of the pipeline to %s: open it in https://ui.perfetto.dev", path)


def _end_if_hung(engine: Engine) -> None:
    """A device that does not come back cannot be told to: the process ends, and its parent starts another."""
    busy_s = engine.busy_s()
    if busy_s > HUNG_S:
        log.critical("the device has been at one batch for %.0f s: ending this worker", busy_s)
        logging.shutdown()
        os._exit(EXIT_BROKEN)


def _stop_loudly(error: ScorerError) -> None:
    log.critical("%s: stopping this worker", error)
    os.kill(os.getpid(), signal.SIGTERM)
