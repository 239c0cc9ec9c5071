"""A worker's memory over a long job; `python -m benchmarks.worker_memory --help`.

One job goes through a real Redis-compatible server and a real Celery worker process, whose resident memory is sampled
twice a second beside the job's progress. Everything has to be done for each image: it is read, decoded and embedded
(the vector store is on, and every reference is a file with content of its own), scored and written. Flat means within
5 % of what it was after 5,000 items. The checkpoint is the bundled tiny one: what grows with items grows with any.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from rich.table import Table

from prelabel.schemas import Taxonomy
from prelabel.schemas.items import Item
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT

from .common import RunningWorker, add_json, console, in_own_session, running_worker, shown_machine, write

SETTLED = 5_000
FLAT = 0.05
_PICTURES = 64
_EVERY_S = 0.5


def pictures() -> list[bytes]:
    """A few JPEGs of 160x120."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(_PICTURES):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((160, 120), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        made.append(buffer.getvalue())
    return made


def references(folder: Path, count: int, *, fresh: bool) -> Iterator[Item]:
    """Files written as they are asked for, each with content of its own if `fresh`."""
    some = pictures()
    for index in range(count):
        path = folder / f"{index // 1000:04d}" / f"{index % 1000:03d}.jpg"
        path.parent.mkdir(exist_ok=True)
        # What follows the end of a JPEG is no pixel, but other content.
        path.write_bytes(some[index % _PICTURES] + (str(index).encode() if fresh else b""))
        yield Item.of(str(path))


class Sampler:
    """Samples memory, and the newest job's progress, until it is stopped."""

    def __init__(self, worker: RunningWorker) -> None:
        self.samples: list[tuple[int, int]] = []
        self._worker = worker
        self._client = worker.stack.client()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            for progress in self._client.jobs(1):
                self.samples.append((progress.done + progress.failed, self._worker.rss()))

    def stop(self) -> list[tuple[int, int]]:
        """Items done and bytes resident, in time."""
        self._stop.set()
        self._thread.join()
        return self.samples


def at(samples: list[tuple[int, int]], items: int) -> int:
    """Bytes resident at the first sample with so many items done."""
    return next((rss for done, rss in samples if done >= items), samples[-1][1])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--checkpoint", default=str(CHECKPOINT))
    parser.add_argument("--same", action="store_true", help="few contents, so that most images are stored already")
    add_json(parser, "worker_memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        settings = load_settings(model=options.checkpoint, image_roots=(root,), vector_store_dir=root / "vectors")
        with running_worker(settings, root / "state") as worker:
            client = worker.stack.client()
            before = worker.rss()
            folder = root / "images"
            folder.mkdir()
            sampler = Sampler(worker)
            started = time.perf_counter()
            taxonomy = Taxonomy.flat([f"label number {i}" for i in range(options.labels)])
            job = client.submit(references(folder, options.items, fresh=not options.same), taxonomy, name="memory")
            progress = job.wait()
            samples = sampler.stop()
            took = time.perf_counter() - started
    if progress.failed:
        raise SystemExit(f"{progress.failed} items failed")
    show(options.items, before, samples, took, options.json)


def show(items: int, before: int, samples: list[tuple[int, int]], took: float, path: Path) -> None:
    """The table for people and the figures for files."""
    mib = 2**20
    settled = at(samples, min(SETTLED, items // 2))
    later = [rss for done, rss in samples if done >= min(SETTLED, items // 2)]
    least, most = min(later) / settled - 1, max(later) / settled - 1
    table = Table("items done", "resident, MiB", "against 5,000", title=f"a worker's memory over {items:,} items")
    table.add_row("0 (model loaded)", f"{before / mib:.0f}", "")
    marks = [mark for mark in (1000, 5000, 10_000, 25_000, 50_000, 75_000, 100_000) if mark <= items]
    for mark in marks:
        rss = at(samples, mark)
        table.add_row(f"{mark:,}", f"{rss / mib:.0f}", f"{rss / settled - 1:+.1%}")
    out = console()
    out.print(table)
    flat = max(-least, most) <= FLAT
    out.print(
        f"between {min(SETTLED, items // 2):,} and {items:,} items: {least:+.1%} to {most:+.1%}, "
        f"{'flat' if flat else 'NOT flat'} (+-{FLAT:.0%}); {items / took:.0f} images/s\n{shown_machine()}"
    )
    write(path, {"items": items, "before": before, "samples": samples, "range": [least, most], "seconds": took})


if __name__ == "__main__":
    in_own_session("benchmarks.worker_memory", main)
