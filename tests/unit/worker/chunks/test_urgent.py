"""An interactive chunk beside a bulk job: real chunks on a real Redis, and a device whose passes are counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from prelabel.integrations import Client, Job
from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.ledger.fleet import Fleet
from prelabel.integrations.ledger.keys import JobKeys
from prelabel.integrations.ledger.leases import ChunkRef, Ledger
from prelabel.schemas import ImageRef, ItemError, Settings, Taxonomy, WorkerInfo
from prelabel.worker.arrays import Pixels, Vectors
from prelabel.worker.chunks.keeper import LeaseKeeper
from prelabel.worker.chunks.pipeline import Pipeline
from prelabel.worker.chunks.tools import Tools
from prelabel.worker.embedding.images import bulk_embedder, urgent_embedder
from prelabel.worker.embedding.texts import TextVectors
from prelabel.worker.fetching.reader import Fetched, IsKnown
from prelabel.worker.model.colour import ColourEncoder, ColourImages
from prelabel.worker.model.engine import Engine
from prelabel.worker.scoring.job_scorer import JobScorers
from prelabel.worker.vectors.store import NoStore
from tests.conftest import eventually

COLOURS = Taxonomy.flat(["red", "green", "blue"])
BATCH, BULK = 8, 60


class Device(ColourImages):
    """Works by itself, and has done its oldest batch when it is told to.

    Attributes:
        started: images of each batch.
        prepared: images that were decoded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.started: list[int] = []
        self.prepared = 0
        self.free = False
        self._lock = threading.Lock()
        self._steps = threading.Semaphore(0)

    def prepare(self, image: Pixels) -> Pixels:
        with self._lock:
            self.prepared += 1
        return super().prepare(image)

    def start(self, images: Sequence[Pixels]) -> Callable[[], Vectors]:
        self.started.append(len(images))
        compute = super().start(images)

        def wait() -> Vectors:
            assert self.free or self._steps.acquire(timeout=20)
            return compute()

        return wait

    def finish_oldest(self) -> None:
        self._steps.release()

    def finish_all(self) -> None:
        self.free = True
        self._steps.release(1000)


@dataclass
class Place:
    """A worker's pipeline, threads that have it work, and a store whose urgent image comes when a test says so."""

    client: Client
    pipeline: Pipeline
    device: Device
    image: str
    begun: threading.Event = field(default_factory=threading.Event)
    arrives: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def fetch(self, image: ImageRef, _known: IsKnown) -> Fetched:
        if image.uri != self.image:
            self.begun.set()
            assert self.arrives.wait(20)
            if "gone" in image.uri:
                raise ItemError("no such image")
        return Fetched(None, Path(self.image).read_bytes())

    def start(self, job: Job, *, urgent: bool = False) -> None:
        """Have the job's chunk scored on a thread."""
        (chunk,) = self.client.connection.redis.zrange(JobKeys(job.id).open, 0, -1)
        self.threads.append(
            threading.Thread(
                target=self.pipeline.run, args=(ChunkRef(job.id, int(chunk)),), kwargs={"urgent": urgent}, daemon=True
            )
        )
        self.threads[-1].start()

    def start_both(self, urgent: str) -> tuple[Job, Job]:
        """A bulk job with two batches in flight and all its other images waiting for the device; an interactive one."""
        bulk = self.client.submit([self.image] * BULK, COLOURS)
        self.start(bulk)
        eventually(lambda: self.device.prepared == BULK and len(self.device.started) == 2)
        opened = self.client.submit([urgent], COLOURS, priority="interactive")
        self.start(opened, urgent=True)
        assert self.begun.wait(20)
        return bulk, opened


@pytest.fixture
def place(client: Client, settings: Settings, tmp_path: Path) -> Iterator[Place]:
    image = tmp_path / "red.png"
    Image.new("RGB", (8, 8), "red").save(image)
    device = Device()
    encoder = ColourEncoder(images=device)
    redis, engine = connect_redis(settings), Engine(encoder, BATCH)
    ledger = Ledger(redis, owner="a", lease_s=30, ttl_s=100)
    info = WorkerInfo(name="a", model=encoder.card.id, device="cpu", dtype="float32")

    def fetch(ref: ImageRef, known: IsKnown) -> Fetched:
        return place.fetch(ref, known)

    embedders = [make(engine, fetch, NoStore(), settings) for make in (bulk_embedder, urgent_embedder)]
    tools = Tools(
        engine=engine,
        scorers=JobScorers(encoder, TextVectors(encoder, 1000)),
        bulk=embedders[0],
        urgent=embedders[1],
        ledger=ledger,
        hint=lambda *_: None,
        push=lambda _: None,
        stopping=threading.Event(),
    )
    pipeline = Pipeline(tools=tools, keeper=LeaseKeeper(ledger, Fleet(redis), info, 30))
    place = Place(client, pipeline, device, str(image))
    yield place
    device.finish_all()
    place.arrives.set()
    for thread in place.threads:
        thread.join(20)
    for embedder in embedders:
        embedder.close(wait=True)
    engine.close()
    redis.close()


def test_an_image_whose_chunk_was_taken_a_pass_ago_waits_for_one_pass_at_most(place) -> None:
    bulk, opened = place.start_both("opened.png")
    device = place.device
    first = list(device.started)
    for _ in first:  # what was on the device when its chunk came is done while it is fetched
        device.finish_oldest()
    eventually(lambda: device.started == [*first, BATCH // 4])
    place.arrives.set()
    eventually(lambda: device.started == [*first, BATCH // 4, 1])
    device.finish_oldest()
    assert not opened.progress().done
    device.finish_oldest()
    assert opened.wait(timeout=20).done == 1
    device.finish_all()
    assert bulk.wait(timeout=20).done == BULK
    assert max(device.started) == BATCH, "full batches again"


@pytest.mark.parametrize("cancelled", [False, True], ids=["fails", "called off"])
def test_an_image_that_never_gets_to_the_device_holds_the_others_up_no_longer_than_its_chunk(place, cancelled) -> None:
    bulk, opened = place.start_both("gone.png")
    expected = place.pipeline.tools.engine.precedence
    assert expected.expected
    if cancelled:
        opened.cancel()
    place.arrives.set()
    eventually(lambda: not expected.expected)
    place.device.finish_all()
    assert bulk.wait(timeout=20).done == BULK
    assert max(place.device.started) == BATCH
    assert cancelled or opened.wait(timeout=20).failed == 1
