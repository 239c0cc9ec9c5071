"""A worker's pipeline on a device that is fake on purpose: it takes a set time and no CPU, as a GPU would."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.ledger.fleet import Fleet
from prelabel.integrations.ledger.leases import ChunkRef, Ledger
from prelabel.schemas import Settings
from prelabel.schemas.progress import WorkerInfo
from prelabel.worker.arrays import Pixels, Vectors
from prelabel.worker.chunks.keeper import LeaseKeeper
from prelabel.worker.chunks.pipeline import Pipeline
from prelabel.worker.chunks.tools import Tools
from prelabel.worker.embedding.images import bulk_embedder, urgent_embedder
from prelabel.worker.embedding.texts import TextVectors
from prelabel.worker.fetching.fetcher import Fetcher
from prelabel.worker.model.encoder import Encoder, ImageTower, Memory
from prelabel.worker.model.engine import Engine
from prelabel.worker.scoring.job_scorer import JobScorers
from prelabel.worker.vectors.store import EmbeddingStore, NoStore

JOB = "benchmark"


class PacedImages:
    """An `ImageTower` that prepares images as another one does, and embeds `rate` of them a second.

    All vectors are random. It works by itself: a batch is started, and waited for by whoever wants its vectors.

    Args:
        real: the other one.
        dim: length of a vector.
        rate: images a second; 0 is no limit.
    """

    def __init__(self, real: ImageTower, dim: int, rate: float) -> None:
        self.prepare = real.prepare
        self._dim = dim
        self._s_per_image = 1.0 / rate if rate else 0.0
        self._free_at = 0.0
        self._random = np.random.default_rng(0)

    def encode(self, batch: Pixels) -> Vectors:
        """Random vectors, when the device would have been done."""
        return self.start(list(batch))()

    def start(self, images: Sequence[Pixels]) -> Callable[[], Vectors]:
        """Gather a batch, as for a real device; it is done when those before it are and its own time is over."""
        batch = np.stack(images)
        self._free_at = done_at = max(self._free_at, time.perf_counter()) + len(batch) * self._s_per_image

        def vectors() -> Vectors:
            time.sleep(max(0.0, done_at - time.perf_counter()))
            return self._random.normal(size=(len(batch), self._dim)).astype(np.float32)

        return vectors

    def memory_of(self, work: Callable[[], object]) -> Memory | None:
        """It takes none."""
        work()
        return None

    def tune(self, batch_size: int) -> None:
        """There is nothing to tune."""


class RandomTexts:
    """A `TextTower` of random vectors, at once.

    Args:
        dim: length of a vector.
    """

    def __init__(self, dim: int) -> None:
        self._dim = dim

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Random vectors."""
        return np.random.default_rng(len(texts)).normal(size=(len(texts), self._dim)).astype(np.float32)


def paced(real: Encoder, rate: float) -> Encoder:
    """Another encoder's card, on a device that is fake on purpose; see `PacedImages`."""
    dim = real.card.dim
    return replace(real, images=PacedImages(real.images, dim, rate), texts=RandomTexts(dim))


def run(
    settings: Settings, ledger: Ledger, encoder: Encoder, chunks: int, store: EmbeddingStore | None = None
) -> float:
    """Score all chunks of `JOB`; returns the seconds it took."""
    redis = connect_redis(settings)
    store = store or NoStore()
    engine = Engine(encoder, batch_size=settings.batch_size)
    fetcher = Fetcher(settings)
    info = WorkerInfo(name="benchmark", model=encoder.card.id, device="none", dtype="none", card=encoder.card)
    keeper = LeaseKeeper(ledger, Fleet(redis), info, settings.lease_s)
    bulk = bulk_embedder(engine, fetcher.fetch, store, settings)
    urgent = urgent_embedder(engine, fetcher.fetch, store, settings)
    tools = Tools(
        engine=engine,
        scorers=JobScorers(encoder, TextVectors(encoder, 1000)),
        bulk=bulk,
        urgent=urgent,
        ledger=ledger,
        hint=lambda *_: None,
        push=lambda _: None,
        stopping=threading.Event(),
    )
    pipeline = Pipeline(tools=tools, keeper=keeper)
    keeper.start()
    started = time.perf_counter()
    with ThreadPoolExecutor(settings.bulk_chunks) as pool:
        list(pool.map(lambda index: pipeline.run(ChunkRef(JOB, index)), range(chunks)))
    took = time.perf_counter() - started
    keeper.stop()
    bulk.close()
    urgent.close()
    engine.close()
    fetcher.close()
    return took
