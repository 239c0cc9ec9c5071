"""What the queue costs an item; `python -m benchmarks.queue_cost --help`.

CPU microseconds an item, of the submitting process and of the worker, for references whose vectors are stored: no
image is fetched and no model runs, so what is left is queue, leases, scoring against 20 labels and the ledger. Once as
a job is submitted (each item passes an image thread), once as it is scored again from stored vectors. The peer is
one plain Celery task an image that does nothing, on the same server, with and without a result that is kept. Two CPUs
are enough for nobody to wait; the figures are CPU time, which load changes little.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from celery import Celery
from rich.table import Table

from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.schemas import Taxonomy
from prelabel.schemas.items import ImageRef
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.machine.children import spawn, stop
from prelabel.worker.model.encoder import Encoder
from prelabel.worker.model.registry import load_encoder
from prelabel.worker.vectors.disk.store import DiskStore
from prelabel.worker.vectors.keys import image_space, space_tag

from .common import RunningWorker, add_json, console, in_own_session, running_worker, shown_machine, write

BROKER = "BENCH_CELERY_BROKER"

naive = Celery("naive", broker=os.environ.get(BROKER), backend=os.environ.get(BROKER))
naive.conf.update(task_acks_late=True, worker_prefetch_multiplier=4, task_default_queue="naive")


@naive.task(name="naive.score", ignore_result=True)
def naive_score(image: str) -> None:
    """What many projects queue: one image."""


@naive.task(name="naive.score_kept")
def naive_score_kept(image: str) -> str:
    """The same with its result kept in Redis."""
    return image


@dataclass(frozen=True)
class Cost:
    """CPU microseconds an item, and items a second."""

    what: str
    items: int
    producer_us: float
    worker_us: float
    items_per_s: float


def stored(folder: Path, count: int, encoder: Encoder) -> list[ImageRef]:
    """References whose vectors lie in a store, under keys as the encoder's have them."""
    tag = space_tag(image_space(encoder.card, encoder.dtype))
    store = DiskStore(folder, 8 * 2**30)
    rng = np.random.default_rng(0)
    references = []
    for start in range(0, count, 4096):
        keys = [rng.bytes(16 - len(tag)) + tag for _ in range(min(4096, count - start))]
        store.put({key: rng.normal(size=encoder.card.dim).astype(np.float32) for key in keys})
        store.flush(60)
        references += [
            ImageRef(uri=f"s3://photos/2026/img-{start + i:09d}.jpg", vector=key.hex()) for i, key in enumerate(keys)
        ]
    store.close()
    return references


def through_prelabel(worker: RunningWorker, references: list[ImageRef]) -> Iterator[Cost]:
    """A submission, and the same items scored again with other labels."""
    client = worker.stack.client()
    me = psutil.Process()
    job = client.submit(references[:500], Taxonomy.flat([f"label {i}" for i in range(20)]))
    job.wait()
    for again in (False, True):
        taxonomy = Taxonomy.flat([f"{'other' if again else 'label'} {i}" for i in range(20)])
        mine, theirs, started = _cpu(me), worker.cpu_s(), time.perf_counter()
        job = client.rescore(job, taxonomy) if again else client.submit(references, taxonomy)
        producer = _cpu(me) - mine
        while not job.progress().state.ended:
            time.sleep(0.05)
        took = time.perf_counter() - started
        done = job.progress().done
        if done != len(references):
            raise SystemExit(f"{len(references) - done} items failed")
        yield Cost(
            "prelabel, scored again from stored vectors" if again else "prelabel, submitted, vectors stored",
            done,
            1e6 * producer / done,
            1e6 * (worker.cpu_s() - theirs) / done,
            done / took,
        )


def through_celery(url: str, count: int, kept: bool) -> Cost:
    """One task an image."""
    environment = {**os.environ, BROKER: url}
    naive.conf.update(broker_url=url, result_backend=url)
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.queue_cost:naive", "worker"]
    options = ["--pool", "threads", "--concurrency", "4", "--without-gossip", "--without-mingle", "-l", "ERROR"]
    child = spawn([*command, *options], env=environment, output=subprocess.DEVNULL)  # type: ignore[arg-type]
    me, worker = psutil.Process(), psutil.Process(child.pid)
    redis = connect_redis(load_settings(redis_url=url))
    task = naive_score_kept if kept else naive_score
    try:
        task.delay("warm")
        _wait_until_empty(redis)
        time.sleep(1)
        mine, theirs, started = _cpu(me), _cpu(worker), time.perf_counter()
        for index in range(count):
            task.delay(f"s3://photos/2026/img-{index:09d}.jpg")
        producer = _cpu(me) - mine
        _wait_until_empty(redis)
        took = time.perf_counter() - started
        worked = _cpu(worker) - theirs
    finally:
        stop(child, 20)
    name = f"Celery, a task an image{', result kept' if kept else ''}"
    return Cost(name, count, 1e6 * producer / count, 1e6 * worked / count, count / took)


def _wait_until_empty(redis: object) -> None:
    while redis.llen("naive") or redis.hlen("unacked"):  # type: ignore[attr-defined]
        time.sleep(0.02)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=50_000, help="for prelabel")
    parser.add_argument("--tasks", type=int, default=3_000, help="for one task an image")
    add_json(parser, "queue_cost")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        settings = load_settings(model=str(CHECKPOINT), image_roots=(root,), vector_store_dir=root / "vectors")
        encoder = load_encoder(settings, settings_model_id(settings))
        references = stored(root / "vectors", options.items, encoder)
        with running_worker(settings, root / "state") as worker:
            costs = list(through_prelabel(worker, references))
            costs += [through_celery(worker.stack.redis_url, options.tasks, kept) for kept in (False, True)]
    table = Table("", "items", "producer, CPU us", "worker, CPU us", "items/s", title="the queue's cost of an item")
    for cost in costs:
        table.add_row(
            cost.what,
            f"{cost.items:,}",
            f"{cost.producer_us:.0f}",
            f"{cost.worker_us:.0f}",
            f"{cost.items_per_s:,.0f}",
        )
    out = console()
    out.print(table)
    out.print(shown_machine())
    write(options.json, {"costs": [asdict(cost) for cost in costs]})


if __name__ == "__main__":
    in_own_session("benchmarks.queue_cost", main)
