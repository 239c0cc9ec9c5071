"""Images per second, end to end, against what people run today; `python -m benchmarks.throughput --help`.

Every round runs each contestant once, in turn, on the same images, labels, checkpoint and torch threads; the
figures are medians over rounds, and every figure is a ratio to one of the same rounds. prelabel's time is from
`Client.submit` to the last prediction, through a real Redis-compatible server and a real Celery worker process:
decode, queue, ledger and all, its vector store off, so that every image is embedded anew. The limit is the bare
forward pass over tensors that are ready. Bias: the bundled checkpoint is tiny, so overheads weigh more and the forward
pass less than with google/siglip-base-patch16-512; `--checkpoint base` has that model's geometry with random weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from rich.console import Console
from rich.table import Table

from prelabel.integrations import Client
from prelabel.schemas import Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.siglip import SiglipEncoder
from prelabel.worker.stack import local_stack
from prelabel.worker.warmup import find_batch_size

from .checkpoint import make_base_checkpoint

TEMPLATE = "This is a photo of {}."
PIPELINE_BATCH = 16
PRELABEL = "prelabel"
LIMIT = "bare forward pass, tensors ready (the limit)"

Run = Callable[[Sequence[str], Sequence[str]], None]


def draw_jpegs(directory: Path, count: int, size: tuple[int, int]) -> list[str]:
    """Photo-like JPEGs (smooth shapes and sensor noise, quality 88), each different."""
    rng = np.random.default_rng(0)
    width, height = size
    noise = rng.normal(0, 6, (height, width, 3)).astype(np.float32)
    paths = []
    for index in range(count):
        coarse = rng.integers(0, 256, (max(2, height // 40), max(2, width // 40), 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        path = directory / f"{width}x{height}-{index}.jpg"
        Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8)).save(path, quality=88)
        paths.append(str(path))
    return paths


def pipeline(checkpoint: str, batch: int) -> Run:
    """Transformers' zero-shot pipeline, as most scripts use it, one image at a time or in batches."""
    zero_shot = transformers.pipeline("zero-shot-image-classification", model=checkpoint)

    def run(images: Sequence[str], labels: Sequence[str]) -> None:
        for start in range(0, len(images), batch):
            some = list(images[start : start + batch])
            zero_shot(some, candidate_labels=list(labels), hypothesis_template=TEMPLATE, batch_size=batch)

    return run


def model_with_all_labels(checkpoint: str) -> Run:
    """`model(**inputs)` with every label's text each time, as ML-backend examples do."""
    processor = transformers.AutoProcessor.from_pretrained(checkpoint)
    model = transformers.AutoModel.from_pretrained(checkpoint).eval()

    def run(images: Sequence[str], labels: Sequence[str]) -> None:
        texts = [TEMPLATE.format(label) for label in labels]
        for path in images:
            with Image.open(path) as image:
                inputs = processor(
                    text=texts, images=image, padding="max_length", max_length=64, truncation=True, return_tensors="pt"
                )
            with torch.inference_mode():
                model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"])

    return run


def bare_forward(checkpoint: str) -> Run:
    """The image tower alone, on prepared tensors, in the batch size that is fastest: what no pipeline can beat."""
    encoder = SiglipEncoder(checkpoint, model_id="limit")
    size = find_batch_size(encoder)
    batch = np.stack([encoder.prepare(np.full((8, 8, 3), 127, dtype=np.uint8))] * size)

    def run(images: Sequence[str], labels: Sequence[str]) -> None:  # noqa: ARG001
        for start in range(0, len(images), size):
            encoder.encode_images(batch[: len(images) - start])

    return run


def through_the_queue(client: Client) -> Run:
    """prelabel: submit, wait, read every prediction."""

    def run(images: Sequence[str], labels: Sequence[str]) -> None:
        job = client.submit(images, Taxonomy.flat(list(labels)))
        failed = [prediction.error for prediction in job.results() if prediction.error]
        if failed:
            raise SystemExit(f"an item failed: {failed[0].message}")

    return run


def main() -> None:
    """Measure and print the table; --json also writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=str(CHECKPOINT), help="directory, hub id, or 'base'")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--size", default="640x480", help="of the JPEGs, like 640x480, 1920x1080, 4000x3000")
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 200, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=["one", "batch", "model", "limit"], help="these peers alone")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        checkpoint = options.checkpoint
        if checkpoint == "base":
            checkpoint = str(make_base_checkpoint(root / "base"))
        width, _, height = options.size.partition("x")
        images = draw_jpegs(root, options.images, (int(width), int(height)))
        settings = load_settings(model=checkpoint, image_roots=(root,), vector_store="off")
        with local_stack(settings, root / "state", adapter=False, embedded=True, broker_port=0) as stack:
            stack.wait_until_ready()
            makers: dict[str, tuple[str, Callable[[], Run]]] = {
                "one": ("transformers pipeline, one by one", lambda: pipeline(checkpoint, 1)),
                "batch": (f"transformers pipeline, batches of {PIPELINE_BATCH}", lambda: pipeline(checkpoint, 16)),
                "model": ("model(**inputs), all labels each time", lambda: model_with_all_labels(checkpoint)),
                "limit": (LIMIT, lambda: bare_forward(checkpoint)),
            }
            peers = {name: make() for key, (name, make) in makers.items() if key in (options.only or makers)}
            contestants = {PRELABEL: through_the_queue(stack.client()), **peers}
            figures = [row for count in options.labels for row in measure(contestants, images, count, options.rounds)]
    show(figures, f"{options.checkpoint if options.checkpoint == 'base' else Path(checkpoint).name}, {options.size}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def measure(contestants: dict[str, Run], images: list[str], count: int, rounds: int) -> list[dict[str, object]]:
    """One row per contestant: median images/s over the rounds, and prelabel's ratio to it."""
    labels = [f"label number {i}" for i in range(count)]
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run(images[:4], labels)  # warm: text vectors, thread pools, page cache
    for _ in range(rounds):
        for name, run in contestants.items():
            # The slow ones on fewer images: a rate is a rate.
            some = images if name in (PRELABEL, LIMIT) else images[: max(4, len(images) * 20 // (8 * max(count, 20)))]
            started = time.perf_counter()
            run(some, labels)
            rates[name].append(len(some) / (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return [
        {"labels": count, "contestant": name, "images_per_s": rate, "prelabel_is_times": medians[PRELABEL] / rate}
        for name, rate in medians.items()
    ]


def show(figures: list[dict[str, object]], title: str) -> None:
    """The table for people."""
    table = Table("labels", "contestant", "images/s", "prelabel is", title=f"end to end, {title}")
    for row in figures:
        ratio = "" if row["contestant"] == PRELABEL else f"{row['prelabel_is_times']:.2f}x"
        table.add_row(str(row["labels"]), str(row["contestant"]), f"{row['images_per_s']:.2f}", ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
