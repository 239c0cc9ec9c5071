"""Where chunks are scored in tests: a real pipeline on a real Redis, with an encoder that sees colours only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from prelabel.integrations import Client, Job
from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.ledger.fleet import Fleet
from prelabel.integrations.ledger.leases import ChunkRef, Ledger
from prelabel.schemas import Settings, WorkerInfo
from prelabel.schemas.errors import ConfigError, OutOfMemory
from prelabel.worker.arrays import Pixels, Vectors
from prelabel.worker.chunks.keeper import LeaseKeeper
from prelabel.worker.chunks.pipeline import Pipeline
from prelabel.worker.chunks.tools import Tools
from prelabel.worker.embedding.images import bulk_embedder, urgent_embedder
from prelabel.worker.embedding.texts import TextVectors
from prelabel.worker.fetching.fetcher import Fetcher
from prelabel.worker.model.colour import ColourEncoder, ColourImages, ColourTexts
from prelabel.worker.model.engine import Engine
from prelabel.worker.scoring.job_scorer import JobScorers
from prelabel.worker.vectors.disk.store import DiskStore


class Trouble:
    """A device's: no memory for texts that hold a word; no memory, or no number, for images of a colour.

    And a model's: nothing for texts that hold a word.
    """

    def __init__(self) -> None:
        self.no_memory_for: set[str] = set()
        self.unknown: set[str] = set()
        self.too_large: set[str] = set()
        self.no_number_for: set[str] = set()
        self.broken = False


class Texts(ColourTexts):
    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble

    def encode(self, texts: Sequence[str]) -> Vectors:
        if any(word in text for word in self._trouble.no_memory_for for text in texts):
            raise OutOfMemory("the device is full")
        for text in texts:
            if any(word in text for word in self._trouble.unknown):
                raise ConfigError(f"the text {text!r} holds a special token")
        return super().encode(texts)


class Images(ColourImages):
    def __init__(self, trouble: Trouble) -> None:
        super().__init__()
        self._trouble = trouble

    def start(self, images: Sequence[Pixels]) -> Callable[[], Vectors]:
        if self._trouble.broken:
            raise RuntimeError("an illegal memory access was encountered")
        if any(self._shows(image, self._trouble.too_large) for image in images):
            raise OutOfMemory("the device is full")
        vectors = super().start(images)()
        vectors[[self._shows(image, self._trouble.no_number_for) for image in images]] = np.nan
        return lambda: vectors

    def _shows(self, image: Pixels, colours: set[str]) -> bool:
        return any(tuple(image[0, 0]) == ColourTexts.NAMED[colour] for colour in colours & ColourTexts.NAMED.keys())


@dataclass
class Workplace:
    """A pipeline, what its device suffers from, and a client of the same Redis."""

    client: Client
    pipeline: Pipeline
    trouble: Trouble
    store: DiskStore
    stopped: list[Exception] = field(default_factory=list)

    def run(self, job: Job) -> None:
        """Have each chunk that waits scored once."""
        for raw in self.client.connection.redis.zrange(f"prelabel:{{{job.id}}}:open", 0, -1):
            self.pipeline.run(ChunkRef(job.id, int(raw)))

    def waits(self, job: Job) -> int:
        """Chunks that are not done."""
        return int(self.client.connection.redis.zcard(f"prelabel:{{{job.id}}}:open"))

    def run_until_done(self, job: Job) -> int:
        """Have the job's one chunk scored as often as it takes, whatever it is postponed for. Returns how often."""
        times = 0
        while self.waits(job):
            self.client.connection.redis.zadd(f"prelabel:{{{job.id}}}:open", {"0": -1})  # it is due now
            self.run(job)
            times += 1
        return times

    def replace_chunk(self, job: Job, text: str, chunk: int = 0) -> None:
        self.client.connection.redis.hset(f"prelabel:{{{job.id}}}:chunks", str(chunk), text)


@contextmanager
def workplace(client: Client, settings: Settings, folder: Path, store: DiskStore) -> Iterator[Workplace]:
    """A workplace whose images lie in a folder.

    Args:
        client: submits to it.
        settings: where its Redis is.
        folder: of images.
        store: of vectors.
    """
    trouble = Trouble()
    encoder = ColourEncoder(images=Images(trouble), texts=Texts(trouble))
    stopped: list[Exception] = []
    here = settings.model_copy(
        update={"image_roots": (folder,), "fetch_attempts": 1, "allow_hosts": ("127.0.0.1",), "fetch_threads": 2}
    )
    redis = connect_redis(settings)
    engine, fetcher = Engine(encoder, 8, on_broken=stopped.append), Fetcher(here)
    ledger = Ledger(redis, owner="a", lease_s=30, ttl_s=100)
    info = WorkerInfo(name="a", model=encoder.card.id, device="cpu", dtype="float32")
    threads = [make(engine, fetcher.fetch, store, here) for make in (bulk_embedder, urgent_embedder)]
    tools = Tools(
        engine=engine,
        scorers=JobScorers(encoder, TextVectors(encoder, 1000)),
        bulk=threads[0],
        urgent=threads[1],
        ledger=ledger,
        hint=lambda *_: None,
        push=lambda _: None,
        stopping=threading.Event(),
        item_retries=2,
    )
    pipeline = Pipeline(tools=tools, keeper=LeaseKeeper(ledger, Fleet(redis), info, 30))
    yield Workplace(client, pipeline, trouble, store, stopped)
    for one in threads:
        one.close()
    engine.close()
    fetcher.close()
    redis.close()
