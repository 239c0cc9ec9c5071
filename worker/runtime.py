"""Everything one worker process is made of, wired together; started and stopped by the Celery app."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from ..integrations.broker.celery import Sender
from ..integrations.broker.connection import connect_redis
from ..integrations.client.checkpoint import names_one_model, settings_model_id
from ..integrations.ledger.jobs import JobStore
from ..integrations.ledger.leases import ChunkRef, Ledger
from ..integrations.ledger.push_hints import PushHints
from ..integrations.ledger.queues import queue_states
from ..integrations.telemetry.queues import Queues
from ..integrations.telemetry.server import serve_metrics
from ..schemas.errors import ConfigError, ScorerError
from ..schemas.package import package_version
from ..schemas.progress import WorkerInfo
from ..schemas.settings import Settings
from .chunks.keeper import LeaseKeeper
from .chunks.pipeline import Pipeline
from .chunks.sweeper import Sweeper
from .chunks.tools import Tools
from .delivering.pusher import JobPusher
from .delivering.showcase import Showcase
from .embedding.images import bulk_embedder, urgent_embedder
from .embedding.texts import TextVectors
from .fetching.fetcher import Fetcher
from .machine.children import EXIT_BROKEN, WORKER_NAME_VARIABLE, new_worker_name
from .machine.host import single_threaded_blas
from .model.batch_size import find_batch_size
from .model.encoder import Encoder
from .model.engine import Engine
from .model.registry import load_encoder
from .scoring.job_scorer import JobScorers
from .telemetry import metrics, trace
from .vectors.counted import CountingStore
from .vectors.open import open_store
from .vectors.store import EmbeddingStore, NoStore

log = logging.getLogger(__name__)

HUNG_S = 300.0
"""Seconds after which a batch that is not back means that the device hangs; a large one on a CPU takes a minute."""

_SWEEP_S = 2.0
"""Seconds between sweeps at most: a lost message is noticed within about three of them."""


class Runtime:
    """One worker's engine, pipeline and threads.

    Args:
        settings: the worker's settings.
        encoder: the loaded model.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        self.settings = settings
        self.name = os.environ.get(WORKER_NAME_VARIABLE) or new_worker_name()
        redis = connect_redis(settings)
        self._sender = Sender(settings)
        self._push_hints = PushHints(redis)
        self._ledger = Ledger(redis, owner=self.name, lease_s=settings.lease_s, ttl_s=settings.job_ttl_s)
        info = WorkerInfo(name=self.name, model=encoder.card.id, device=encoder.device, dtype=encoder.dtype)
        self._keeper = LeaseKeeper(self._ledger, redis, info, settings.lease_s, self._end_if_hung)
        store = JobStore(redis, settings.job_ttl_s)
        self._sweeper = Sweeper(
            self._ledger,
            store,
            redis,
            self._hint,
            self._hint_push,
            owner=self.name,
            every_s=min(settings.lease_s / 5, _SWEEP_S),
            lease_s=settings.lease_s,
        )
        batch_size = settings.batch_size or find_batch_size(encoder)
        encoder.images.tune(batch_size)
        if settings.trace:
            _start_trace(settings.trace)
        self._engine = Engine(encoder, batch_size, on_broken=_stop_loudly)
        self._store = _vector_store(settings)
        self._fetcher = make_fetcher(settings)
        showcase = Showcase(redis)
        images = CountingStore(self._store, "images")
        self._tools = Tools(
            engine=self._engine,
            scorers=JobScorers(encoder, TextVectors(encoder, settings.text_cache, CountingStore(self._store, "texts"))),
            bulk=bulk_embedder(self._engine, self._fetcher.fetch, images, settings, showcase.thumbnail),
            urgent=urgent_embedder(self._engine, self._fetcher.fetch, images, settings, showcase.thumbnail),
            ledger=self._ledger,
            hint=self._hint,
            push=self._hint_push,
            stopping=threading.Event(),
            item_retries=settings.item_retries,
            show=showcase.show,
        )
        self._pipeline = Pipeline(tools=self._tools, keeper=self._keeper)
        self._pusher = JobPusher(store, redis, settings)
        self._deadline: threading.Timer | None = None
        self._redis = redis
        self._info = info
        self._stop_metrics: Callable[[], None] = lambda: None

    def describe(self) -> str:
        """Model, device and batch size, for people."""
        encoder = self._engine.encoder
        return f"{encoder.card.id} on {encoder.device} ({encoder.dtype}), batches of {self._engine.batch_size}"

    def start(self) -> None:
        """Become visible and begin to renew leases and sweep."""
        self._keeper.start()
        self._sweeper.start()
        collect_garbage_seldom()
        if self.settings.metrics_port:
            self._serve_metrics()

    def _serve_metrics(self) -> None:
        encoder = self._engine.encoder
        info = self._info
        metrics.worker_info.labels(info.name, info.model, info.device, info.dtype, package_version()).set(1)
        metrics.batch_limit.set_function(lambda: self._engine.batch_size)
        for collector in (Queues(lambda: queue_states(self._redis)), metrics.DeviceMemory(encoder.device_memory)):
            metrics.REGISTRY.register(collector)
        served = serve_metrics(metrics.REGISTRY, self.settings.host, self.settings.metrics_port)
        if served:
            self._stop_metrics = served[1]

    def _end_if_hung(self) -> None:
        """A device that does not come back cannot be told to: the process ends, and its parent starts another."""
        busy_s = self._engine.busy_s()
        if busy_s > HUNG_S:
            log.critical("the device has been at one batch for %.0f s: ending this worker", busy_s)
            logging.shutdown()
            os._exit(EXIT_BROKEN)

    @property
    def broken(self) -> bool:
        """Whether the encoder has failed for good."""
        return self._engine.broken

    def score_chunk(self, job_id: str, chunk: int, *, urgent: bool = False) -> None:
        """Score one chunk; returns when it is written, handed back or needs no work."""
        self._pipeline.run(ChunkRef(job_id, chunk), urgent=urgent)

    def push(self, job_id: str) -> None:
        """Push what a job has ready."""
        self._pusher.push(job_id)

    def stop_soon(self) -> None:
        """Let running chunks finish within the grace time, then make them hand back the rest."""
        self._pusher.stop()
        self._deadline = threading.Timer(self.settings.grace_s, self._tools.stopping.set)
        self._deadline.daemon = True
        self._deadline.start()

    def close(self) -> None:
        """End all threads; call when no chunk runs any more."""
        if self._deadline:
            self._deadline.cancel()
        self._tools.stopping.set()
        self._stop_metrics()
        self._tools.bulk.close()
        self._tools.urgent.close()
        self._sweeper.stop()
        self._engine.close()
        self._keeper.stop()
        self._fetcher.close()
        self._store.close()
        self._sender.close()
        trace.stop()

    def _hint(self, ref: ChunkRef, queue: str) -> None:
        self._sender.score_chunk(ref.job_id, ref.chunk, queue)

    def _hint_push(self, job_id: str) -> None:
        if self._push_hints.due(job_id):
            self._sender.push(job_id)


def load_runtime(settings: Settings) -> Runtime:
    """Load the model and wire a worker.

    Raises:
        ModelLoadError: the checkpoint cannot be loaded.
        ConfigError: a setting, or the package that brings the model's family, cannot be used.
    """
    encoder = load_encoder(settings, settings_model_id(settings))
    single_threaded_blas()
    return Runtime(settings, encoder)


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


def _stop_loudly(error: ScorerError) -> None:
    log.critical("%s: stopping this worker", error)
    os.kill(os.getpid(), signal.SIGTERM)


def make_fetcher(settings: Settings) -> Fetcher:
    """A fetcher that identifies itself to Label Studio where that is set up."""
    if not settings.label_studio_url or not settings.label_studio_api_key:
        return Fetcher(settings)
    from ..integrations.label_studio.api.auth import LabelStudioAuth

    auth = LabelStudioAuth.from_settings(settings)
    return Fetcher(settings, auth.media_headers, auth.refused)
