"""A whole job scored again, through queue, worker and ledger; `python -m benchmarks.rescore_job --help`.

A job of references whose vectors are stored is submitted and answered. Then it is scored again with other labels:
measured are the time from `Client.rescore` to its last item, and that of reading its answers as columns (`Job.table`).
Beside it, in the same run: the same vectors against as many labels as `benchmarks.rescore` streams them, which writes
nothing. Vectors are random. CPU seconds stand beside the time, because other people's load changes them less.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.table import Table

from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.schemas import Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.model.encoder import Encoder
from prelabel.worker.model.registry import load_encoder
from prelabel.worker.vectors.disk.store import DiskStore

from .common import RunningWorker, add_json, console, in_own_session, running_worker, shown_machine, write
from .queue_cost import stored
from .rescore import rescore


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds.

    Attributes:
        items: of the job.
        labels: asked about.
        submit_s: time of `Client.rescore`.
        producer_cpu_s: CPU time of it.
        total_s: time from there to the last item.
        worker_cpu_s: CPU time of the worker meanwhile.
        redis_cpu_s: CPU time of the server meanwhile.
        redis_bytes: growth of the server's memory.
        table_s: time of `Job.table`.
        streaming_s: time of the vectors and labels alone.
    """

    items: int
    labels: int
    submit_s: float
    producer_cpu_s: float
    total_s: float
    worker_cpu_s: float
    redis_cpu_s: float
    redis_bytes: int
    table_s: float
    streaming_s: float


def measure(worker: RunningWorker, folder: Path, items: int, labels: int, encoder: Encoder) -> Cost:
    """One job of so many items, scored again with so many labels."""
    client = worker.stack.client()
    redis: Any = connect_redis(load_settings(redis_url=worker.stack.redis_url))
    references = stored(folder, items, encoder)
    first = client.submit(references, Taxonomy.flat([f"label {i}" for i in range(20)]))
    _until_done(first)
    taxonomy = Taxonomy.flat([f"other {i}" for i in range(labels)])
    warm = client.submit(references[:64], taxonomy)  # its labels are encoded
    _until_done(warm)
    before, used, mine, theirs = redis.info("memory"), _server_s(redis), psutil.Process().cpu_times(), worker.cpu_s()
    started = time.perf_counter()
    job = client.rescore(first, taxonomy)
    submitted, mine_now = time.perf_counter() - started, psutil.Process().cpu_times()
    _until_done(job)
    total = time.perf_counter() - started
    worked, server = worker.cpu_s() - theirs, _server_s(redis) - used
    grown = redis.info("memory")["used_memory"] - before["used_memory"]
    if job.progress().done != items:
        raise SystemExit(f"{items - job.progress().done} items failed")
    started = time.perf_counter()
    if len(job.table()) != items:
        raise SystemExit("the table is not whole")
    table = time.perf_counter() - started
    store = DiskStore(folder, 8 * 2**30)
    keys = [bytes.fromhex(reference.vector) for reference in references if reference.vector]
    texts = np.random.default_rng(1).normal(size=(labels, encoder.card.dim)).astype(np.float32)
    started = time.perf_counter()
    rescore(store, keys, texts)
    streaming = time.perf_counter() - started
    store.close()
    return Cost(
        items=items,
        labels=labels,
        submit_s=submitted,
        producer_cpu_s=mine_now.user + mine_now.system - mine.user - mine.system,
        total_s=total,
        worker_cpu_s=worked,
        redis_cpu_s=server,
        redis_bytes=grown,
        table_s=table,
        streaming_s=streaming,
    )


def _until_done(job: Any) -> None:
    while not job.progress().state.ended:
        time.sleep(0.05)


def _server_s(redis: Any) -> float:
    cpu = redis.info("cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=200)
    add_json(parser, "rescore_job")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        settings = load_settings(model=str(CHECKPOINT), image_roots=(root,), vector_store_dir=root / "vectors")
        encoder = load_encoder(settings, settings_model_id(settings))
        with running_worker(settings, root / "state") as worker:
            cost = measure(worker, root / "vectors", options.items, options.labels, encoder)
    table = Table("", "s", title=f"{cost.items:,} items scored again, {cost.labels} labels")
    for name, seconds in (
        ("from Client.rescore to the last item", cost.total_s),
        ("of it Client.rescore", cost.submit_s),
        ("CPU, who submits", cost.producer_cpu_s),
        ("CPU, worker", cost.worker_cpu_s),
        ("CPU, Redis", cost.redis_cpu_s),
        ("the answers read as columns", cost.table_s),
        ("vectors and labels alone, nothing written", cost.streaming_s),
    ):
        table.add_row(name, f"{seconds:.2f}")
    out = console()
    out.print(table)
    out.print(f"{cost.items / cost.total_s:,.0f} items/s; Redis {cost.redis_bytes / cost.items:.0f} bytes an item")
    out.print(shown_machine())
    write(options.json, {"cost": asdict(cost)})


if __name__ == "__main__":
    in_own_session("benchmarks.rescore_job", main)
