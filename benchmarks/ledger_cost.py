"""What the ledger costs: items per second with it and without it; `python -m benchmarks.ledger_cost --help`.

The same pipeline (fetch, decode, batches, scoring, outcomes) runs over the same chunks twice a round: once on the
ledger in a real Redis-compatible server, once on a stand-in that leases from memory and keeps outcomes in a list.
The device is `paced`: 1/rate seconds an image and no CPU, so that what the ledger adds is not hidden behind a
slow model. Figures are medians over interleaved rounds.
"""

from __future__ import annotations

import argparse
import base64
import io
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.table import Table

from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.client.cutting import make_chunks
from prelabel.integrations.ledger.jobs import JobStore
from prelabel.integrations.ledger.leases import Answered, ChunkRef, Lease, Ledger, Refusal, Written
from prelabel.schemas import Outcome, Taxonomy
from prelabel.schemas.chunks import Chunk
from prelabel.schemas.items import Item
from prelabel.schemas.jobs import Control, JobSpec
from prelabel.schemas.settings import load_settings
from prelabel.worker.model.colour import ColourEncoder
from prelabel.worker.running.broker import embedded_broker

from .common import add_json, console, in_own_session, write
from .paced import JOB, paced, run


class NoLedger(Ledger):
    """Leases from memory and keeps outcomes in a list: no Redis, no JSON, no promise."""

    def __init__(self, chunks: Sequence[Chunk], spec: JobSpec) -> None:
        self._chunks = chunks
        self._spec = spec
        self.outcomes: list[tuple[int, Outcome]] = []
        self.answered: list[Answered] = []

    def claim(self, ref: ChunkRef, *, alone: bool = False) -> Lease | Refusal:  # noqa: ARG002
        """The chunk, always."""
        pairs = self._chunks[ref.chunk].pairs()
        return Lease(ref=ref, token=1, deaths=0, postponed=0, why="", spec=self._spec, spec_json=b"", pairs=pairs)

    def renew(self, lease: Lease) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def complete(
        self,
        lease: Lease,  # noqa: ARG002
        outcomes: Sequence[tuple[int, Outcome]],
        *,
        close: bool,  # noqa: ARG002
        answered: Sequence[Answered] = (),
    ) -> Written:
        """Keep them."""
        self.outcomes.extend(outcomes)
        self.answered.extend(answered)
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
                took = run(settings, ledger, paced(ColourEncoder(), options.rate), len(chunks))
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
