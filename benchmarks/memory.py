"""What a job costs in memory, in the client and in Redis; `python -m benchmarks.memory --help`.

Pending: references of about 60 characters are submitted from a generator to a real Redis-compatible server while the
client's resident memory is sampled. Redis's share is the growth of its `used_memory` by item, and what `MEMORY USAGE`
says of every key, counted in full. Finished: the outcomes a real scorer makes (random embeddings, the default
`top_k` of 20) are written through the worker's own ledger. Bytes are the server's, allocator overhead included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.table import Table

from prelabel.integrations import Client
from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.ledger.columns import pack
from prelabel.integrations.ledger.keys import JobKeys
from prelabel.integrations.ledger.leases import Answered, ChunkRef, Ledger, Refusal
from prelabel.schemas import Outcome, Taxonomy
from prelabel.schemas.queues import QUEUE_BULK
from prelabel.schemas.settings import Settings, load_settings
from prelabel.worker.embedding.items import EmbeddedItem, part_of
from prelabel.worker.embedding.pending import PendingVector
from prelabel.worker.embedding.texts import TextVectors
from prelabel.worker.model.colour import ColourEncoder, colour_card
from prelabel.worker.running.broker import embedded_broker
from prelabel.worker.scoring.job_scorer import JobScorers

from .common import add_json, console, in_own_session, write

WARM = 0.05
"""Share of the items after which the client's memory counts: by then every pool and cache it needs is there."""


@dataclass
class Pending:
    """Figures of a submission.

    Attributes:
        items: how many.
        items_per_s: submitted per second.
        reference_bytes: length of one reference.
        client_rss: resident bytes of the client, after 5 % of the items and at its largest after that.
        redis_bytes: growth of `used_memory` by item.
        keys: `MEMORY USAGE` of each key by item.
    """

    items: int
    items_per_s: float
    reference_bytes: int
    client_rss: tuple[int, int]
    redis_bytes: float
    keys: dict[str, float] = field(default_factory=dict)


@dataclass
class Finished:
    """Figures of outcomes.

    Attributes:
        items: how many.
        labels: labels asked about.
        json_bytes: mean length of an outcome as JSON, as `prelabel results -o out.jsonl` writes it.
        redis_bytes: growth of `used_memory` by item, beyond what the pending item took.
        keys: `MEMORY USAGE` of each key by item.
    """

    items: int
    labels: int
    json_bytes: float
    redis_bytes: float
    keys: dict[str, float] = field(default_factory=dict)


def references(count: int) -> Iterator[str]:
    """References of about 60 characters, made as they are asked for."""
    return (f"s3://company-photos/2026/incoming/batch-0042/img-{index:09d}.jpg" for index in range(count))


def measure_pending(settings: Settings, items: int) -> Pending:
    """Submit `items` references and say what they cost."""
    client = Client(settings)
    redis: Any = connect_redis(settings)
    client.submit(references(1000), taxonomy(20))  # connections, scripts, the queue's own key
    redis.flushall()
    before = redis.info("memory")["used_memory"]
    me = psutil.Process()
    samples: list[tuple[int, int]] = []
    started = time.perf_counter()
    job = client.submit(
        references(items), taxonomy(20), on_submitted=lambda count: samples.append((count, me.memory_info().rss))
    )
    took = time.perf_counter() - started
    warm = [rss for count, rss in samples if count >= WARM * items]
    return Pending(
        items=items,
        items_per_s=items / took,
        reference_bytes=len(next(references(1))),
        client_rss=(warm[0], max(warm)),
        redis_bytes=(redis.info("memory")["used_memory"] - before) / items,
        keys=key_sizes(redis, job.id, items),
    )


def measure_finished(settings: Settings, items: int, labels: int) -> Finished:
    """Score `items` random embeddings and say what their outcomes cost."""
    redis: Any = connect_redis(settings)
    redis.flushall()
    encoder = ColourEncoder(card=colour_card("google/siglip-base-patch16-512@753a9495"))
    random = np.random.default_rng(7)
    job = Client(settings).submit(references(items), taxonomy(labels))
    scorer = JobScorers(encoder, TextVectors(encoder, labels)).get(job.id, job.spec())
    ledger = Ledger(redis, owner="benchmark", lease_s=600, ttl_s=3600)
    before = redis.info("memory")["used_memory"]
    chars = 0
    for chunk in range(redis.hlen(JobKeys(job.id).chunks)):
        lease = ledger.claim(ChunkRef(job.id, chunk))
        if isinstance(lease, Refusal):
            raise SystemExit(f"chunk {chunk} was not leased: {lease}")
        vectors = random.normal(size=(len(lease.pairs), encoder.card.dim)).astype(np.float32)
        ready = [
            EmbeddedItem(item, {part_of(item.images[0]): PendingVector.at_hand(random.bytes(16), vector)})
            for (_, item), vector in zip(lease.pairs, vectors, strict=True)
        ]
        scored = scorer.score(ready)
        if scored.columns is None:
            raise SystemExit("nothing was answered")
        chars += sum(len(outcome.to_json()) for outcome in scored.each(ready) if isinstance(outcome, Outcome))
        answered = Answered([ordinal for ordinal, _ in lease.pairs], pack(scored.columns))
        ledger.complete(lease, [], close=True, answered=[answered])
    return Finished(
        items=items,
        labels=labels,
        json_bytes=chars / items,
        redis_bytes=(redis.info("memory")["used_memory"] - before) / items,
        keys=key_sizes(redis, job.id, items),
    )


def key_sizes(redis: Any, job_id: str, items: int) -> dict[str, float]:
    """Bytes by item of the job's keys and of the queue, every element counted."""
    keys = {key.rpartition(":")[2]: key for key in JobKeys(job_id).all()} | {"queue": QUEUE_BULK}
    sizes = {name: redis.memory_usage(key, samples=0) for name, key in keys.items()}
    return {name: size / items for name, size in sizes.items() if size}


def taxonomy(labels: int) -> Taxonomy:
    """Labels as long as people's."""
    return Taxonomy.flat([f"category {index:03d}" for index in range(labels)])


def show(pending: Pending, finished: list[Finished]) -> None:
    """The tables for people."""
    out = console()
    mib = 2**20
    first, most = pending.client_rss
    table = Table("", "measured", title=f"{pending.items:,} items of {pending.reference_bytes} characters submitted")
    table.add_row("items/s", f"{pending.items_per_s:,.0f}")
    table.add_row("client's memory after 5 %", f"{first / mib:.1f} MiB")
    table.add_row("its growth after that", f"{(most - first) / mib:.1f} MiB")
    table.add_row("Redis, bytes an item", f"{pending.redis_bytes:.1f}")
    for name, size in pending.keys.items():
        table.add_row(f"  of them {name}", f"{size:.2f}")
    out.print(table)
    for row in finished:
        table = Table("", "bytes an item", title=f"{row.items:,} outcomes, {row.labels} labels, top_k 20")
        table.add_row("outcome as JSON", f"{row.json_bytes:.0f}")
        table.add_row("Redis, beyond the pending item", f"{row.redis_bytes:.0f}")
        for name, size in row.keys.items():
            table.add_row(f"  {name}", f"{size:.2f}")
        out.print(table)


def main() -> None:
    """Measure and print the tables; --json also writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000, help="references to submit")
    parser.add_argument("--outcomes", type=int, default=20_000, help="outcomes to write")
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 200])
    add_json(parser, "memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, embedded_broker(Path(directory), port=0) as url:
        settings = load_settings(redis_url=url)
        pending = measure_pending(settings, options.items)
        finished = [measure_finished(settings, options.outcomes, labels) for labels in options.labels]
    show(pending, finished)
    write(options.json, {"pending": asdict(pending), "finished": [asdict(row) for row in finished]})


if __name__ == "__main__":
    in_own_session("benchmarks.memory", main)
