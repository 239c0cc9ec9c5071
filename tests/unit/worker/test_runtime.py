"""A worker's life: wired without doing anything, warmed up, announced, and gone without leaving anything behind."""

from __future__ import annotations

import gc
import threading
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image
from redis import Redis

from prelabel.integrations import Client
from prelabel.schemas import ConfigError, JobState, OutOfMemory, Settings, Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.arrays import Pixels, Vectors
from prelabel.worker.model.colour import ColourEncoder, ColourImages
from prelabel.worker.runtime import Runtime
from prelabel.worker.telemetry import metrics
from tests.conftest import eventually


class Watched(ColourImages):
    """Remembers what the device was asked to do, and has room for four images at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[int] = []
        self.tuned: list[int] = []

    def encode(self, batch: Pixels) -> Vectors:
        self.passes.append(len(batch))
        if len(batch) > 4:
            raise OutOfMemory("the device is full")
        return super().encode(batch)

    def tune(self, batch_size: int) -> None:
        self.tuned.append(batch_size)

    def start(self, images: Sequence[Pixels]) -> Callable[[], Vectors]:
        self.passes.append(len(images))
        return super().start(images)


@pytest.fixture
def device() -> Watched:
    return Watched()


@pytest.fixture
def here(settings: Settings, tmp_path: Path, free_port: int) -> Settings:
    changes = {
        "image_roots": (tmp_path,),
        "vector_store_dir": tmp_path / "vectors",
        "revision": "0" * 40,
        "trace": tmp_path / "trace.json",
        "metrics_port": free_port,
        "model": "google/siglip",
    }
    return settings.model_copy(update=changes)


@pytest.fixture
def wired(device: Watched) -> Iterator[Callable[[Settings], Runtime]]:
    """Wires workers; what a test leaves running is ended after it."""
    runtimes: list[Runtime] = []
    thresholds = gc.get_threshold()

    def wire(settings: Settings) -> Runtime:
        runtimes.append(Runtime.wire(settings, ColourEncoder(images=device)))
        return runtimes[-1]

    yield wire
    for runtime in runtimes:
        runtime.close()
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def connections(redis: Redis) -> int:
    return len(redis.client_list())


def scrape(port: int) -> str:
    answer: bytes = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read()
    return answer.decode()


class TestWire:
    def test_does_nothing_but_build(self, here, wired, device, tmp_path) -> None:
        nowhere = load_settings(**{**here.model_dump(), "redis_url": "redis://127.0.0.1:1/0"})
        threads = set(threading.enumerate())
        wired(nowhere)
        assert set(threading.enumerate()) == threads
        assert device.passes == device.tuned == []
        assert list(tmp_path.iterdir()) == []

    def test_makes_no_connection(self, client, here, wired) -> None:
        before = connections(client.connection.redis)
        wired(here)
        assert connections(client.connection.redis) == before

    def test_what_was_never_started_can_be_closed_and_embeds_nothing_then(self, here, wired) -> None:
        runtime = wired(here)
        runtime.close()
        for embedder in (runtime.tools.bulk, runtime.tools.urgent):
            with pytest.raises(RuntimeError, match="after shutdown"):
                embedder.run(print, deque(["an image"]))


class TestStart:
    def test_finds_the_batch_size_and_tunes_the_model_to_it(self, client, here, wired, device) -> None:
        runtime = wired(here)
        runtime.start()
        (batch_size,) = device.tuned
        assert batch_size in (1, 2, 4)
        assert runtime.describe().endswith(f"batches of {batch_size}")

    def test_takes_a_batch_size_that_is_set(self, client, here, wired, device) -> None:
        runtime = wired(here.model_copy(update={"batch_size": 3}))
        runtime.start()
        assert (device.passes, device.tuned) == ([], [3])

    def test_shows_no_worker_yet(self, client, here, wired) -> None:
        wired(here).start()
        assert client.workers() == []

    def test_a_trace_that_cannot_be_written_is_one_line(self, here, wired, tmp_path) -> None:
        runtime = wired(here.model_copy(update={"trace": tmp_path}))
        with pytest.raises(ConfigError, match=r"PRELABEL_TRACE=.* cannot be written: Is a directory"):
            runtime.start()


def picture(folder: Path) -> str:
    Image.new("RGB", (8, 8), "red").save(folder / "red.png")
    return str(folder / "red.png")


def test_a_worker_that_was_announced_is_seen_and_scores(client: Client, here, wired, tmp_path) -> None:
    runtime = wired(here)
    runtime.start()
    runtime.announce()
    assert eventually(client.workers)[0].name == runtime.info.name
    job = client.submit([picture(tmp_path)], Taxonomy.flat(["red", "blue"]))
    runtime.score_chunk(job.id, 0)
    assert job.progress().state is JobState.DONE
    assert [prediction.label for prediction in job.results_so_far()] == ["red"]


class TestClose:
    def test_leaves_no_thread_no_connection_and_no_worker_behind(self, client, here, wired, tmp_path) -> None:
        job = client.submit([picture(tmp_path)], Taxonomy.flat(["red", "blue"]))
        threads, before = set(threading.enumerate()), connections(client.connection.redis)
        runtime = wired(here)
        runtime.start()
        runtime.announce()
        eventually(client.workers)
        runtime.score_chunk(job.id, 0)
        runtime.stop_soon()
        runtime.close()
        assert client.workers() == []
        assert eventually(lambda: set(threading.enumerate()) <= threads)
        assert eventually(lambda: connections(client.connection.redis) <= before)

    def test_ends_the_metrics_so_that_the_next_worker_of_the_process_has_them(self, client, here, wired) -> None:
        for _ in range(2):
            runtime = wired(here)
            runtime.start()
            assert f'prelabel_worker_info{{device="cpu",dtype="float32",model="{runtime.info.model}"' in scrape(
                here.metrics_port
            )
            runtime.close()
            assert metrics.REGISTRY.get_sample_value("prelabel_device_memory_bytes", {"kind": "total"}) is None
            with pytest.raises(OSError, match="refused"):
                scrape(here.metrics_port)

    def test_ends_the_trace(self, client, here, wired, tmp_path) -> None:
        runtime = wired(here)
        runtime.start()
        runtime.close()
        written = here.trace.read_text()
        wired(here.model_copy(update={"trace": None})).start()
        assert here.trace.read_text() == written
