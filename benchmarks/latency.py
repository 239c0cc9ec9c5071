"""How long one interactive image takes; `python -m benchmarks.latency --help`.

From `Client.submit(priority="interactive")` to the prediction in hand, through a real Redis-compatible server and a
warm Celery worker, once while it has nothing else to do and once while a bulk job keeps it busy. Beside it, in turn:
the forward pass at batch 1 and what reading and decoding the file takes, in this process. What is left is prelabel's
own: the target is 20 ms. Under load an image also waits for what is on the device already. Every image is a new one,
its labels are known.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from prelabel.integrations import Client
from prelabel.schemas import Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.decoding.pixels import decode_pixels
from prelabel.worker.demo.story import CHECKPOINT

from .checkpoint import make_base_checkpoint
from .common import (
    add_json,
    console,
    draw_jpegs,
    in_own_session,
    percentile,
    running_worker,
    shown_machine,
    write,
)
from .device import BareForward

OVERHEAD_MS = 20.0


def ask(client: Client, image: str, taxonomy: Taxonomy) -> float:
    """Seconds until the answer is here."""
    begun = time.perf_counter()
    job = client.submit([image], taxonomy, priority="interactive")
    (prediction,) = job.results(timeout=600)
    took = time.perf_counter() - begun
    if prediction.error:
        raise SystemExit(f"an item failed: {prediction.error.message}")
    return took


def prepare(limit: BareForward, image: str) -> float:
    """Seconds to read, decode and resize."""
    begun = time.perf_counter()
    limit.encoder.images.prepare(decode_pixels(Path(image).read_bytes(), max_pixels=10**8))
    return time.perf_counter() - begun


def again_and_again(images: list[str]) -> Iterator[str]:
    """Bulk work that does not end soon."""
    for _ in range(1000):
        yield from images


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=str(CHECKPOINT), help="directory, hub id, or 'base'")
    parser.add_argument("--images", type=int, default=100, help="asked for while idle, and again under load")
    parser.add_argument("--size", default="1920x1080", help="of the JPEGs")
    parser.add_argument("--labels", type=int, default=20)
    add_json(parser, "latency")
    options = parser.parse_args()
    width, _, height = options.size.partition("x")
    taxonomy = Taxonomy.flat([f"label number {i}" for i in range(options.labels)])
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        checkpoint = options.checkpoint
        if checkpoint == "base":
            checkpoint = str(make_base_checkpoint(root / "base"))
        images = draw_jpegs(root, options.images, (int(width), int(height)))
        limit = BareForward(checkpoint)
        settings = load_settings(model=checkpoint, image_roots=(root,), vector_store="off")
        seconds: dict[str, list[float]] = {name: [] for name in ("forward", "prepare", "idle", "loaded")}
        with running_worker(settings, root / "state") as worker:
            client = worker.stack.client()
            for image in images[:2]:
                ask(client, image, taxonomy)
            for image in images:
                seconds["forward"].append(limit.batch_of_one_s(1))
                seconds["prepare"].append(prepare(limit, image))
                seconds["idle"].append(ask(client, image, taxonomy))
            bulk = client.submit(again_and_again(images[:64]), taxonomy, name="load")
            next(bulk.results())
            seconds["loaded"] = [ask(client, image, taxonomy) for image in images]
            bulk.cancel()
    show(seconds, options.size)
    write(options.json, {"checkpoint": options.checkpoint, "size": options.size, "seconds": seconds})


def show(seconds: dict[str, list[float]], size: str) -> None:
    """The table for people."""
    table = Table("", "p50, ms", "p95, ms", title=f"one interactive image, {size}")
    names = {
        "forward": "forward pass at batch 1",
        "prepare": "read, decode, resize",
        "idle": "submit to prediction, worker idle",
        "loaded": "submit to prediction, bulk job running",
    }
    for key, name in names.items():
        table.add_row(name, *(f"{1000 * percentile(seconds[key], share):.1f}" for share in (0.5, 0.95)))
    # Each question's own round: a machine that is slow for a while is so for all three.
    own = [
        1000 * (idle - forward - prepared)
        for idle, forward, prepared in zip(seconds["idle"], seconds["forward"], seconds["prepare"], strict=True)
    ]
    table.add_row("prelabel's own part, idle", *(f"{percentile(own, share):.1f}" for share in (0.5, 0.95)))
    out = console()
    out.print(table)
    out.print(f"target for its own part: {OVERHEAD_MS:.0f} ms\n{shown_machine()}")


if __name__ == "__main__":
    in_own_session("benchmarks.latency", main)
