"""How many images a second one worker can feed a fast device; `python -m benchmarks.host_rate --help`.

Everything of a worker but the forward pass: files are read, decoded and resized to the model's 512 pixels, batches
gathered, vectors stored on disk, answers made and written to the ledger in a real Redis-compatible server. In place of
the forward pass stands a device that takes a set time and no CPU, or no time at all: this says on any machine what a
GPU would have to wait for. The CPU time is the worker's own; beside it stands what decoding and resizing alone take on
one thread. That part is done by as many cores as there are; the rest is mostly Python, which runs one thread at a time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.client.cutting import make_chunks
from prelabel.integrations.ledger.jobs import JobStore
from prelabel.integrations.ledger.leases import Ledger
from prelabel.schemas import Settings, Taxonomy
from prelabel.schemas.items import Item
from prelabel.schemas.jobs import Control, JobSpec
from prelabel.schemas.settings import load_settings
from prelabel.worker.decoding.pixels import decode_pixels
from prelabel.worker.machine.host import single_threaded_blas
from prelabel.worker.model.encoder import Encoder
from prelabel.worker.model.registry import load_encoder
from prelabel.worker.running.broker import embedded_broker
from prelabel.worker.runtime import collect_garbage_seldom
from prelabel.worker.vectors.disk.store import DiskStore

from .checkpoint import make_base_checkpoint
from .common import add_json, console, draw_jpegs, in_own_session, median, shown_machine, write
from .paced import JOB, paced, run


def different_files(directory: Path, count: int, size: tuple[int, int]) -> list[Item]:
    """JPEGs whose bytes differ (behind their end), so that no vector is found that is stored already."""
    folder = directory / f"{size[0]}x{size[1]}"
    folder.mkdir()
    drawn = [Path(path).read_bytes() for path in draw_jpegs(folder, min(count, 16), size)]
    items = []
    for index in range(count):
        path = folder / f"{index}.jpg"
        path.write_bytes(drawn[index % len(drawn)] + index.to_bytes(4, "little"))
        items.append(Item.of(str(path)))
    return items


def decoding_ms(encoder: Encoder, items: list[Item]) -> float:
    """CPU milliseconds an image, on one thread."""
    contents = [Path(item.images[0].uri).read_bytes() for item in items]
    taken = []
    for data in (contents[0], *contents):  # the first warms up
        begun = time.thread_time()
        encoder.images.prepare(decode_pixels(data, max_pixels=10**9))
        taken.append(1000 * (time.thread_time() - begun))
    return median(taken[1:])


def measure(settings: Settings, real: Encoder, items: list[Item], rate: float, folder: Path) -> tuple[float, float]:
    """Images a second, and milliseconds of this process's CPU an image."""
    redis = connect_redis(settings)
    redis.flushall()
    jobs = JobStore(redis, 3600)
    chunks = list(make_chunks(items))
    jobs.create(JOB, JobSpec(controls=(Control(taxonomy=Taxonomy.flat([f"label number {i}" for i in range(20)])),)))
    for first in range(0, len(chunks), 16):
        jobs.add_chunks(JOB, first, chunks[first : first + 16])
    jobs.seal(JOB)
    ledger = Ledger(redis, owner="benchmark", lease_s=settings.lease_s, ttl_s=3600)
    store = DiskStore(folder, 2**33)
    cpu = time.process_time()
    took = run(settings, ledger, paced(real, rate), len(chunks), store)
    store.close()
    cpu = time.process_time() - cpu
    if jobs.progress(JOB).done != len(items):
        raise SystemExit("items are missing from the ledger")
    return len(items) / took, 1000 * cpu / len(items)


def main() -> None:
    """Measure and print the table; --json also writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", default=["640x480", "1920x1080"])
    parser.add_argument("--images", type=int, default=1280, help="at 640x480; of larger ones fewer")
    parser.add_argument("--rate", type=float, nargs="+", default=[0, 1000], help="images/s of the device; 0: no limit")
    parser.add_argument("--rounds", type=int, default=3)
    add_json(parser, "host_rate")
    options = parser.parse_args()
    single_threaded_blas()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory, embedded_broker(Path(directory), port=0) as url:
        root = Path(directory)
        settings = load_settings(
            redis_url=url,
            model=str(make_base_checkpoint(root / "base")),
            image_roots=(root,),
            batch_size=64,
            preprocessing="fast",
        )
        real = load_encoder(settings, "base@00000000")
        collect_garbage_seldom()
        for size in options.size:
            width, height = (int(side) for side in size.split("x"))
            count = max(64, options.images * 640 * 480 // max(640 * 480, width * height))
            items = different_files(root, count, (width, height))
            decoding = decoding_ms(real, items[:32])
            for rate in options.rate:
                taken = [
                    measure(settings, real, items, rate, root / f"vectors-{size}-{rate}-{turn}")
                    for turn in range(-1, options.rounds)
                ][1:]  # the first turn warms up
                rates, cpu = zip(*taken, strict=True)
                row = {"size": size, "images": count, "device": rate, "images_per_s": rates, "cpu_ms": cpu}
                row["decoding_ms"] = decoding
                found.append(row)
    table = Table(
        "JPEGs",
        "images",
        "the device's images/s",
        "reached",
        "CPU ms/image",
        "decoding alone",
        title="one worker's host side",
    )
    for row in found:
        paced = f"{row['device']:,.0f}" if row["device"] else "no limit"
        cells = (f"{median(row['images_per_s']):,.0f}", f"{median(row['cpu_ms']):.2f}", f"{row['decoding_ms']:.2f}")
        table.add_row(row["size"], f"{row['images']:,}", paced, *cells)
    console().print(table)
    console().print(shown_machine())
    write(options.json, {"rows": found})


if __name__ == "__main__":
    in_own_session("benchmarks.host_rate", main)
