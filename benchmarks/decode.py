"""From a JPEG's bytes to the model's pixels; `python -m benchmarks.decode --help`.

CPU milliseconds an image on one thread, in turn, medians: transformers' own path (Pillow and its processor, float32
out) and prelabel's three (`PRELABEL_PREPROCESSING`, uint8 out: rescaling and normalising happen on the device). Beside
it how far the pixels are from transformers', and the least cosine between the embeddings, by the checkpoint given. The
pictures are drawn (smooth shapes and sensor noise) unless `--photos` names a folder of real ones.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from rich.table import Table

from prelabel.schemas.settings import load_settings
from prelabel.worker.arrays import Pixels, Vectors
from prelabel.worker.decoding.pixels import decode_pixels
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.model.registry import load_encoder

from .checkpoint import make_base_checkpoint
from .common import add_json, console, draw_jpegs, in_own_session, median, shown_machine, write

MODES = ("exact", "fast", "scaled")
REFERENCE = "transformers' processor"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="base", help="directory, hub id, 'demo', or 'base' (random weights)")
    parser.add_argument("--size", nargs="+", default=["640x480", "1920x1080", "4000x3000"])
    parser.add_argument("--images", type=int, default=3, help="of each size")
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs to take instead of drawn ones")
    parser.add_argument("--rounds", type=int, default=3)
    add_json(parser, "decode")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        checkpoint = {"demo": str(CHECKPOINT)}.get(options.checkpoint, options.checkpoint)
        if checkpoint == "base":
            checkpoint = str(make_base_checkpoint(root / "base"))
        sizes = {size: (int(size.partition("x")[0]), int(size.partition("x")[2])) for size in options.size}
        files = {size: draw_jpegs(root, options.images, pair) for size, pair in sizes.items()}
        if options.photos:
            photos = sorted(path for path in options.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
            files = {"photos": [str(path) for path in photos]}
        rows = [row for size, some in files.items() for row in measure(checkpoint, size, some, options.rounds)]
    table = Table("JPEGs", "path", "CPU ms an image", "faster", "mean off", "most off, of 255", "least cosine")
    for row in rows:
        numbers = (f"{row['cpu_ms']:.1f}", f"{row['faster']:.1f}x", f"{row['mean']:.3f}", f"{row['most']:.0f}")
        table.add_row(str(row["size"]), str(row["path"]), *numbers, f"{row['cosine']:.6f}")
    out = console()
    out.print(table)
    out.print(shown_machine())
    write(options.json, {"checkpoint": options.checkpoint, "rows": rows})


def measure(checkpoint: str, size: str, files: list[str], rounds: int) -> list[dict[str, float | str]]:
    """All paths in turn over some files."""
    torch.set_num_threads(1)
    processor = transformers.AutoImageProcessor.from_pretrained(checkpoint)
    encoder, exactly = (
        load_encoder(load_settings(model=checkpoint, cpu_threads=1, preprocessing=preprocessing), "m@1").images
        for preprocessing in ("fast", "exact")
    )

    def reference(data: bytes) -> Pixels:
        with Image.open(io.BytesIO(data)) as image:
            values = processor(images=image.convert("RGB"), return_tensors="np")["pixel_values"][0]
        return np.asarray((values * 0.5 + 0.5) * 255).round().astype(np.uint8).transpose(1, 2, 0)

    def ours(mode: str) -> Callable[[bytes], Pixels]:
        taken = exactly if mode == "exact" else encoder
        return lambda data: taken.prepare(
            decode_pixels(data, max_pixels=10**9, exact=mode == "exact", scaled=mode == "scaled")
        )

    paths = {REFERENCE: reference, **{mode: ours(mode) for mode in MODES}}
    contents = [Path(file).read_bytes() for file in files]
    cpu: dict[str, list[float]] = {name: [] for name in paths}
    made: dict[str, list[Pixels]] = {}
    for _ in range(rounds):
        for name, path in paths.items():
            begun = time.thread_time()
            made[name] = [path(data) for data in contents]
            cpu[name].append(1000 * (time.thread_time() - begun) / len(contents))
    vectors = {name: np.concatenate([encoder.encode(one[None]) for one in some]) for name, some in made.items()}
    rows: list[dict[str, float | str]] = []
    for name in paths:
        off = [np.abs(a.astype(int) - b) for a, b in zip(made[name], made[REFERENCE], strict=True)]
        rows.append(
            {
                "size": size,
                "path": name,
                "cpu_ms": median(cpu[name]),
                "faster": median([a / b for a, b in zip(cpu[REFERENCE], cpu[name], strict=True)]),
                "mean": float(np.mean([one.mean() for one in off])),
                "most": float(max(one.max() for one in off)),
                "cosine": _least_cosine(vectors[name], vectors[REFERENCE]),
            }
        )
    return rows


def _least_cosine(some: Vectors, others: Vectors) -> float:
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return float((np.einsum("ij,ij->i", some, others) / lengths).min())


if __name__ == "__main__":
    in_own_session("benchmarks.decode", main)
