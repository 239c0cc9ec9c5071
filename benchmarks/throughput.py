"""Images per second, end to end, against what people run today; `python -m benchmarks.throughput --help`.

Every round runs each contestant once, in turn, on the same images, labels, checkpoint and torch threads; figures are
medians over rounds, and every ratio is the median of the rounds' own ratios. prelabel's time is from `Client.submit`
to the last prediction, through a real Redis-compatible server and a real Celery worker process: references in,
predictions in the ledger and read back, its vector store off, so that every image is embedded anew.

Peers: (one) transformers' zero-shot pipeline, image by image; (batch) the same in batches; (model) `model(**inputs)`
with every label's text each time, as ML-backend examples do; (limit) the bare forward pass over tensors that are ready.
The slow ones run on fewer images, as the table says: an image costs `(one)` and `(model)` as many text passes as there
are labels. The ratio of CPU seconds an image stands beside the one of time: other people's load on the machine changes
it less.

Bias: the bundled checkpoint is tiny, so overheads weigh more and the forward pass less than with
google/siglip-base-patch16-512; `--checkpoint base` has that model's geometry with random weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import torch
import transformers
from PIL import Image
from rich.table import Table

from prelabel.integrations import Client
from prelabel.schemas import Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.model.torchvision_ops import make_importable

from .checkpoint import make_base_checkpoint
from .common import (
    RunningWorker,
    add_json,
    console,
    draw_jpegs,
    in_own_session,
    median,
    running_worker,
    shown_machine,
    write,
)
from .device import BareForward, Device, measure
from .stages import per_image_ms, read

TEMPLATE = "This is a photo of {}."
PIPELINE_BATCH = 16
PRELABEL, LIMIT = "prelabel", "limit"
NAMES = {
    PRELABEL: "prelabel",
    "one": "(a) transformers pipeline, one by one",
    "batch": f"(b) transformers pipeline, batches of {PIPELINE_BATCH}",
    "model": "(c) model(**inputs), all labels each time",
    LIMIT: "(d) bare forward pass, tensors ready: the limit",
}

Run = Callable[[Sequence[str], Sequence[str]], None]


@dataclass
class Contestant:
    """Somebody who scores images.

    Attributes:
        run: scores images against labels.
        process: whose CPU time counts.
        images: how many it gets a round.
    """

    run: Run
    process: psutil.Process
    images: int


@dataclass
class Row:
    """One contestant's figures at one size and number of labels.

    Attributes:
        images: in a round.
        images_per_s: in each round.
        cpu_s: CPU seconds an image, in each round.
    """

    contestant: str
    size: str
    labels: int
    images: int
    images_per_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    prelabel_is_times: float = float("nan")
    prelabel_cpu_share: float = float("nan")


def pipeline(checkpoint: str, batch: int) -> Run:
    """Transformers' zero-shot pipeline, as most scripts use it, one image at a time or in batches."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    make_importable()
    zero_shot = transformers.pipeline(
        "zero-shot-image-classification",
        model=checkpoint,
        image_processor=transformers.AutoImageProcessor.from_pretrained(checkpoint, backend="pil"),
        device=device,
        dtype=dtype,
    )

    def run(images: Sequence[str], labels: Sequence[str]) -> None:
        for start in range(0, len(images), batch):
            some = list(images[start : start + batch])
            zero_shot(some, candidate_labels=list(labels), hypothesis_template=TEMPLATE, batch_size=batch)

    return run


def model_with_all_labels(checkpoint: str) -> Run:
    """`model(**inputs)` with every label's text each time, as ML-backend examples do."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    make_importable()
    processor = transformers.AutoProcessor.from_pretrained(checkpoint, backend="pil")
    model = transformers.AutoModel.from_pretrained(checkpoint).eval().to(device)

    def run(images: Sequence[str], labels: Sequence[str]) -> None:
        texts = [TEMPLATE.format(label) for label in labels]
        for path in images:
            with Image.open(path) as image:
                inputs = processor(
                    text=texts, images=image, padding="max_length", max_length=64, truncation=True, return_tensors="pt"
                )
            with torch.inference_mode():
                ids, pixels = inputs["input_ids"].to(device), inputs["pixel_values"].to(device)
                model(input_ids=ids, pixel_values=pixels).logits_per_image.sigmoid().tolist()

    return run


def through_the_queue(client: Client) -> Run:
    """prelabel: submit, wait, read every prediction."""

    def run(images: Sequence[str], labels: Sequence[str]) -> None:
        job = client.submit(images, Taxonomy.flat(list(labels)))
        failed = [prediction.error for prediction in job.results() if prediction.error]
        if failed:
            raise SystemExit(f"an item failed: {failed[0].message}")

    return run


def compete(contestants: dict[str, Contestant], images: list[str], size: str, count: int, rounds: int) -> list[Row]:
    """Rounds of everybody in turn; prelabel first, so that each ratio is to the same round's."""
    labels = [f"label number {i}" for i in range(count)]
    rows = {name: Row(name, size, count, one.images) for name, one in contestants.items()}
    contestants[PRELABEL].run(images[:2], labels)  # text vectors, page cache: a job's first image pays for them
    for _ in range(rounds):
        for name, one in contestants.items():
            some = images[: one.images]
            cpu, started = _cpu_s(one.process), time.perf_counter()
            one.run(some, labels)
            rows[name].images_per_s.append(len(some) / (time.perf_counter() - started))
            rows[name].cpu_s.append((_cpu_s(one.process) - cpu) / len(some))
            told = f"{size}, {count} labels, {NAMES[name]}: {rows[name].images_per_s[-1]:.3f} images/s"
            print(told, file=sys.stderr, flush=True)
    ours = rows[PRELABEL]
    for row in rows.values():
        ratios = [a / b for a, b in zip(ours.images_per_s, row.images_per_s, strict=True)]
        row.prelabel_is_times = median(ratios)
        row.prelabel_cpu_share = median([a / b for a, b in zip(ours.cpu_s, row.cpu_s, strict=True)])
    return list(rows.values())


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=str(CHECKPOINT), help="directory, hub id, or 'base'")
    parser.add_argument("--images", type=int, default=128, help="a round, for prelabel and the limit")
    parser.add_argument(
        "--peer-images", type=int, default=0, help="a round, for the others at 20 labels (default: fewer)"
    )
    parser.add_argument("--size", nargs="+", default=["640x480"], help="of the JPEGs, like 640x480 1920x1080 4000x3000")
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 200, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=["one", "batch", "model", "limit"], help="these peers alone")
    add_json(parser, "throughput")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        checkpoint = options.checkpoint
        if checkpoint == "base":
            checkpoint = str(make_base_checkpoint(root / "base"))
        pictures = {
            size: draw_jpegs(root, options.images, (int(size.partition("x")[0]), int(size.partition("x")[2])))
            for size in options.size
        }
        trace = root / "trace.json"
        settings = load_settings(
            model=checkpoint, image_roots=(root,), vector_store="off", trace=trace, max_image_bytes=50 * 2**20
        )
        limit = BareForward(checkpoint)
        device = measure(limit.encoder)
        with running_worker(settings, root / "state") as worker:
            rows = [
                row
                for size, images in pictures.items()
                for count in options.labels
                for row in compete(
                    chosen(options, checkpoint, worker, limit, count), images, size, count, options.rounds
                )
            ]
        stages = per_image_ms(read(trace))
    title = options.checkpoint if options.checkpoint == "base" else Path(checkpoint).name
    show(rows, f"end to end, {title}, {options.rounds} rounds")
    show_device(rows, device, stages)
    figures = {"rows": [asdict(row) for row in rows], "device": device.figures(), "stages_ms": stages}
    write(options.json, {"checkpoint": options.checkpoint, **figures})


_loaded: dict[str, Run] = {}


def chosen(
    options: argparse.Namespace, checkpoint: str, worker: RunningWorker, limit: BareForward, labels: int
) -> dict[str, Contestant]:
    """Who takes part, and how many images each gets: the slow ones fewer, the more labels the fewer."""
    me = psutil.Process()
    wanted = options.only or [name for name in NAMES if name != PRELABEL]
    fewer = (options.peer_images or max(4, options.images // 8)) * 20 // max(labels, 20)
    makers: dict[str, Callable[[], Run]] = {
        "one": lambda: pipeline(checkpoint, 1),
        "batch": lambda: pipeline(checkpoint, PIPELINE_BATCH),
        "model": lambda: model_with_all_labels(checkpoint),
        LIMIT: lambda: lambda images, _: limit(len(images)),
    }
    made = {PRELABEL: Contestant(through_the_queue(worker.stack.client()), worker.process, options.images)}
    for name in wanted:
        if name not in _loaded:
            _loaded[name] = makers[name]()
        # A batch is only one when it is full: its texts are encoded once for all of it.
        least = PIPELINE_BATCH if name == "batch" else 1
        images = options.images if name == LIMIT else min(options.images, max(least, fewer))
        made[name] = Contestant(_loaded[name], me, images)
    return made


def show(rows: list[Row], title: str) -> None:
    """The table for people."""
    table = Table(
        "JPEGs", "labels", "contestant", "images a round", "images/s", "prelabel is", "CPU s/image", title=title
    )
    for row in rows:
        ratio = "" if row.contestant == PRELABEL else f"{row.prelabel_is_times:.2f}x"
        table.add_row(
            row.size,
            str(row.labels),
            NAMES[row.contestant],
            str(row.images),
            f"{median(row.images_per_s):.2f}",
            ratio,
            f"{median(row.cpu_s):.3f}",
        )
    out = console()
    out.print(table)
    for row in rows:
        if row.contestant == LIMIT:
            out.print(
                f"{row.size}, {row.labels} labels: limit / end to end {1 / row.prelabel_is_times:.3f} in time, "
                f"{row.prelabel_cpu_share:.3f} in CPU seconds"
            )


def show_device(rows: list[Row], device: Device, stages: dict[str, float]) -> None:
    """What the device could do, and where an image's time goes."""
    table = Table("", "images/s", "of the matrix product", title=f"{device.name}, {device.dtype}")
    table.add_row("measured matrix product", f"{device.matmul_flops / device.image_flop:.2f}", "100 %")
    for name in (LIMIT, PRELABEL):
        rates = [max(row.images_per_s) for row in rows if row.contestant == name]
        if rates:
            table.add_row(NAMES[name], f"{max(rates):.2f}", f"{device.share(max(rates)):.0%}")
    out = console()
    out.print(table)
    out.print(
        f"{device.matmul_flops / 1e12:.2f} TFLOP/s in a matrix product, {device.image_flop / 1e9:.1f} GFLOP an image"
    )
    out.print("the worker's milliseconds an image, stages overlap: ", end="")
    out.print(", ".join(f"{stage} {ms:.2f}" for stage, ms in stages.items()))
    out.print(shown_machine())


if __name__ == "__main__":
    in_own_session("benchmarks.throughput", main)
