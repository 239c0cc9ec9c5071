"""Images per second, end to end, against what people run today; `python -m benchmarks.throughput --help`.

Every round runs each contestant once, in turn, on the same images, labels, checkpoint and torch threads; the
figures are medians over rounds. prelabel's time is from `Client.submit` to the last prediction, through a real
Redis-compatible server and a real Celery worker process: decode, queue, ledger and all. Bias: the bundled checkpoint
is tiny, so overheads weigh more and the forward pass less than with google/siglip-base-patch16-512. Give --checkpoint
to measure yours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from PIL import Image
from rich.console import Console
from rich.table import Table

from prelabel.integrations import Client
from prelabel.schemas import Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT, draw_pictures
from prelabel.worker.stack import local_stack

TEMPLATE = "This is a photo of {}."


def pipeline_one_by_one(checkpoint: str) -> Callable[[list[str], list[str]], None]:
    """Transformers' zero-shot pipeline, an image at a time: what most scripts do."""
    pipeline = transformers.pipeline("zero-shot-image-classification", model=checkpoint)

    def run(images: list[str], labels: list[str]) -> None:
        for image in images:
            pipeline(image, labels, hypothesis_template=TEMPLATE)

    return run


def model_with_all_labels(checkpoint: str) -> Callable[[list[str], list[str]], None]:
    """`model(**inputs)` with every label's text each time, as ML-backend examples do."""
    processor = transformers.AutoProcessor.from_pretrained(checkpoint)
    model = transformers.AutoModel.from_pretrained(checkpoint).eval()

    def run(images: list[str], labels: list[str]) -> None:
        texts = [TEMPLATE.format(label) for label in labels]
        for path in images:
            with Image.open(path) as image:
                inputs = processor(
                    text=texts, images=image, padding="max_length", max_length=64, truncation=True, return_tensors="pt"
                )
            with torch.inference_mode():
                model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"])

    return run


def through_the_queue(client: Client) -> Callable[[list[str], list[str]], None]:
    """prelabel: submit, wait, read every prediction."""

    def run(images: list[str], labels: list[str]) -> None:
        job = client.submit(images, Taxonomy.flat(labels))
        failed = [prediction.error for prediction in job.results() if prediction.error]
        if failed:
            raise SystemExit(f"an item failed: {failed[0].message}")

    return run


def main() -> None:
    """Measure and print the table; --json also writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=str(CHECKPOINT), help="directory or hub id of a SigLIP checkpoint")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        pictures = [str(picture.path) for picture in draw_pictures(root)]
        images = (pictures * (1 + options.images // len(pictures)))[: options.images]
        settings = load_settings(model=options.checkpoint, image_roots=(root,))
        with local_stack(settings, root / "state", adapter=False, embedded=True, broker_port=0) as stack:
            stack.wait_until_ready()
            contestants = {
                "prelabel": through_the_queue(stack.client()),
                "transformers pipeline, one by one": pipeline_one_by_one(options.checkpoint),
                "model(**inputs), all labels each time": model_with_all_labels(options.checkpoint),
            }
            figures = [row for count in options.labels for row in measure(contestants, images, count, options.rounds)]
    show(figures, options.checkpoint)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def measure(
    contestants: dict[str, Callable[[list[str], list[str]], None]], images: list[str], count: int, rounds: int
) -> list[dict[str, object]]:
    """One row per contestant: median images/s over the rounds, and prelabel's ratio to it."""
    labels = [f"label number {i}" for i in range(count)]
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run(images[:4], labels)  # warm: text vectors, thread pools, page cache
    for _ in range(rounds):
        for name, run in contestants.items():
            # The slow ones on fewer images: a rate is a rate.
            some = images if name == "prelabel" else images[: max(8, len(images) // 8)]
            started = time.perf_counter()
            run(some, labels)
            rates[name].append(len(some) / (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return [
        {"labels": count, "contestant": name, "images_per_s": rate, "prelabel_is_times": medians["prelabel"] / rate}
        for name, rate in medians.items()
    ]


def show(figures: list[dict[str, object]], checkpoint: str) -> None:
    """The table for people."""
    table = Table("labels", "contestant", "images/s", "prelabel is", title=f"end to end, {checkpoint}")
    for row in figures:
        ratio = "" if row["contestant"] == "prelabel" else f"{row['prelabel_is_times']:.1f}x"
        table.add_row(str(row["labels"]), str(row["contestant"]), f"{row['images_per_s']:.1f}", ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
