"""What the ledger costs: items per second with it and without it; `python -m benchmarks.ledger_cost --help`.

The same pipeline (fetch, decode, batches, scoring, outcomes) runs over the same chunks twice a round: once on the
ledger in a real Redis-compatible server, once on a stand-in that leases from memory and keeps outcomes in a list.
The scorer is fake on purpose: it takes exactly 1/rate seconds an image and no CPU, as a GPU would, so that what
the ledger adds is not hidden behind a slow model. Figures are medians over interleaved rounds.
"""

from __future__ import annotations

import argparse
import base64
import io
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from rich.table import Table

from prelabel.integrations.broker import connect_redis
from prelabel.integrations.chunks import make_chunks
from prelabel.integrations.job_store import JobStore
from prelabel.schemas import Outcome, Settings, Taxonomy
from prelabel.schemas.items import Chunk, Item
from prelabel.schemas.jobs import Control, JobSpec, WorkerInfo
from prelabel.schemas.settings import load_settings
from prelabel.worker.embedded import embedded_broker
from prelabel.worker.embeddings import NoStore
from prelabel.worker.engine import Engine
from prelabel.worker.fetch import Fetcher
from prelabel.worker.gate import Gate
from prelabel.worker.image_threads import ImageThreads, bulk_threads, urgent_threads
from prelabel.worker.job_scorers import JobScorers
from prelabel.worker.leases import LeaseKeeper
from prelabel.worker.ledger import ChunkRef, Lease, Ledger, Refusal, Written
from prelabel.worker.pipeline import Pipeline
from prelabel.worker.scorer import ColourEncoder, Pixels, Vectors
from prelabel.worker.texts import TextVectors

from .common import add_json, console, in_own_session, write

JOB = "benchmark"


class PacedEncoder(ColourEncoder):
    """A device that embeds `rate` images per second and leaves the CPU alone."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._s_per_image = 1.0 / rate
        self._free_at = 0.0

    def encode_images(self, batch: Pixels) -> Vectors:
        """Mean colours, when the device would have been done."""
        self._free_at = max(self._free_at, time.perf_counter() - 0.005) + len(batch) * self._s_per_image
        vectors = super().encode_images(batch)
        time.sleep(max(0.0, self._free_at - time.perf_counter()))
        return vectors


class NoLedger(Ledger):
    """Leases from memory and keeps outcomes in a list: no Redis, no JSON, no promise."""

    def __init__(self, chunks: Sequence[Chunk], spec: JobSpec) -> None:
        self._chunks = chunks
        self._spec = spec
        self.outcomes: list[tuple[int, Outcome]] = []

    def claim(self, ref: ChunkRef, *, alone: bool = False) -> Lease | Refusal:  # noqa: ARG002
        """The chunk, always."""
        pairs = self._chunks[ref.chunk].pairs()
        return Lease(ref=ref, token=1, deaths=0, rounds=0, why="", spec=self._spec, spec_json=b"", pairs=pairs)

    def renew(self, lease: Lease) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def complete(self, lease: Lease, outcomes: Sequence[tuple[int, Outcome]], *, close: bool) -> Written:  # noqa: ARG002
        """Keep them."""
        self.outcomes.extend(outcomes)
        return Written(held=True, push_ready=False)

    def forget_owner(self) -> None:
        """Nothing is kept under a name."""


def pictures(count: int) -> list[Item]:
    """Tiny PNGs in `data:` links, each with its own colour: nothing to fetch, little to decode."""
    items = []
    for index in range(count):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (index % 256, index // 256 % 256, 128)).save(buffer, "PNG")
        items.append(Item.of("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()))
    return items


def run(settings: Settings, ledger: Ledger, rate: float, chunks: int) -> float:
    """Score all chunks; returns the seconds it took."""
    redis = connect_redis(settings)
    encoder = PacedEncoder(rate)
    engine = Engine(encoder, batch_size=settings.batch_size)
    fetcher = Fetcher(settings)
    info = WorkerInfo(name="benchmark", model=encoder.model_id, device="none", dtype="none")
    keeper = LeaseKeeper(ledger, redis, info, settings.lease_s)
    threads: list[ImageThreads] = [
        bulk_threads(engine, fetcher.fetch_unless, NoStore(), settings),
        urgent_threads(engine, fetcher.fetch_unless, NoStore(), settings),
    ]
    pipeline = Pipeline(
        engine=engine,
        scorers=JobScorers(encoder, TextVectors(encoder, 1000)),
        bulk=threads[0],
        urgent=threads[1],
        ledger=ledger,
        keeper=keeper,
        hint=lambda *_: None,
        push=lambda _: None,
        gate=Gate(),
        stopping=threading.Event(),
    )
    keeper.start()
    started = time.perf_counter()
    with ThreadPoolExecutor(settings.bulk_chunks) as pool:
        list(pool.map(lambda index: pipeline.run(ChunkRef(JOB, index)), range(chunks)))
    took = time.perf_counter() - started
    keeper.stop()
    for some in threads:
        some.close()
    engine.close()
    fetcher.close()
    return took


def main() -> None:
    """Measure and print the table; --json also writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=6400)
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1000.0, help="images per second of the fake scorer")
    parser.add_argument("--rounds", type=int, default=5)
    add_json(parser, "ledger_cost")
    options = parser.parse_args()
    taxonomy = Taxonomy.flat([f"label number {i}" for i in range(options.labels)])
    spec = JobSpec(controls=(Control(taxonomy=taxonomy),))
    chunks = list(make_chunks(pictures(options.items)))
    rates: dict[str, list[float]] = {"without ledger": [], "with ledger": []}
    with (
        tempfile.TemporaryDirectory() as directory,
        embedded_broker(Path(directory), port=0) as url,
    ):
        settings = load_settings(redis_url=url, batch_size=64)
        redis = connect_redis(settings)
        store = JobStore(redis, 3600)
        for turn in range(-1, options.rounds):
            for name, found in rates.items():
                redis.flushall()
                if name == "with ledger":
                    store.create(JOB, spec)
                    for first in range(0, len(chunks), 16):
                        store.add_chunks(JOB, first, chunks[first : first + 16])
                    store.seal(JOB)
                    ledger = Ledger(redis, owner="benchmark", lease_s=settings.lease_s, ttl_s=3600)
                else:
                    ledger = NoLedger(chunks, spec)
                took = run(settings, ledger, options.rate, len(chunks))
                if name == "with ledger" and store.progress(JOB).done != options.items:
                    raise SystemExit("items are missing from the ledger")
                if turn >= 0:  # the first turn warms up
                    found.append(options.items / took)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    ratio = medians["with ledger"] / medians["without ledger"]
    table = Table("", "items/s", "of the scorer's rate", title=f"{len(chunks)} chunks, {options.labels} labels")
    for name, median in medians.items():
        table.add_row(name, f"{median:.0f}", f"{median / options.rate:.1%}")
    console().print(table)
    console().print(f"with / without: {ratio:.3f} (the ledger costs {1 - ratio:.1%})")
    write(options.json, {"items_per_s": medians, "ratio": ratio, "rounds": rates})


if __name__ == "__main__":
    in_own_session("benchmarks.ledger_cost", main)
