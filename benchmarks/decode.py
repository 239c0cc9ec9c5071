"""From an image's bytes to the model's pixels; `python -m benchmarks.decode --help`.

CPU milliseconds an image on one thread, in turn, medians: transformers' own path (Pillow and its processor, float32
out) and prelabel's three (`PRELABEL_PREPROCESSING`, uint8 out: rescaling and normalising happen on the device). Beside
it how far the pixels are from transformers', and by the checkpoint given the least cosine between the embeddings and
the largest difference of a label's sigmoid or of its part of a softmax. The pictures are drawn JPEGs (smooth shapes and
sensor noise) unless `--photos` names a folder of real images.
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

from prelabel.schemas import Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.arrays import Pixels
from prelabel.worker.decoding.pillow import has_alpha
from prelabel.worker.decoding.pixels import decode_pixels
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.embedding.texts import TextVectors
from prelabel.worker.model.registry import load_encoder
from prelabel.worker.model.similarity import Floats, normalise, pair_logits
from prelabel.worker.model.torchvision_ops import make_importable

from .checkpoint import make_base_checkpoint
from .common import add_json, console, draw_jpegs, in_own_session, median, shown_machine, write

MODES = ("exact", "fast", "scaled")
REFERENCE = "transformers' processor"
LABELS = ("circle", "red star", "ring", "blue square", "triangle", "heart")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="base", help="directory, hub id, 'demo', or 'base' (random weights)")
    parser.add_argument("--size", nargs="+", default=["320x240", "640x480", "1920x1080", "4000x3000"])
    parser.add_argument("--images", type=int, default=3, help="of each size")
    parser.add_argument("--photos", type=Path, help="a folder of images to take instead of drawn ones")
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
            files = {"photos": [str(path) for path in sorted(options.photos.rglob("*")) if _is_read(path)]}
        rows = [row for size, some in files.items() for row in measure(checkpoint, size, some, options.rounds)]
    columns = ("CPU ms an image", "faster", "mean off", "most off, of 255", "least cosine", "probability off")
    table = Table("images", "path", *columns)
    for row in rows:
        numbers = (f"{row['cpu_ms']:.1f}", f"{row['faster']:.1f}x", f"{row['mean']:.3f}", f"{row['most']:.0f}")
        distances = (f"{row['cosine']:.6f}", f"{row['probability']:.4f}")
        table.add_row(str(row["size"]), str(row["path"]), *numbers, *distances)
    out = console()
    out.print(table)
    out.print(shown_machine())
    write(options.json, {"checkpoint": options.checkpoint, "rows": rows})


def measure(checkpoint: str, size: str, files: list[str], rounds: int) -> list[dict[str, float | str]]:
    """All paths in turn over some files."""
    torch.set_num_threads(1)
    make_importable()
    processor = transformers.AutoImageProcessor.from_pretrained(checkpoint, backend="pil")
    model, exact_model = (
        load_encoder(load_settings(model=checkpoint, cpu_threads=1, preprocessing=preprocessing), "m@1")
        for preprocessing in ("fast", "exact")
    )
    encoder, exactly = model.images, exact_model.images

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
    texts, card = TextVectors(model, len(LABELS)).matrix(Taxonomy.flat(LABELS)), model.card
    logits = {name: pair_logits(some, texts, card.logit_scale, card.logit_bias) for name, some in vectors.items()}
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
                "cosine": float(np.einsum("ij,ij->i", *map(normalise, (vectors[name], vectors[REFERENCE]))).min()),
                "probability": _most_apart(logits[name], logits[REFERENCE]),
            }
        )
    return rows


def _most_apart(some: Floats, others: Floats) -> float:
    """Of the probabilities of labels that exclude each other, and of labels that do not."""
    ours, theirs = (torch.from_numpy(logits) for logits in (some, others))
    exclusive, independent = ours.softmax(1) - theirs.softmax(1), ours.sigmoid() - theirs.sigmoid()
    return max(exclusive.abs().max().item(), independent.abs().max().item())


def _is_read(path: Path) -> bool:
    """Whether it is an image that is upright and opaque, or the reference would be of another picture."""
    try:
        data = path.read_bytes()
        shown = decode_pixels(data, max_pixels=10**8, exact=True)
        with Image.open(io.BytesIO(data)) as image:
            return not has_alpha(image) and np.array_equal(shown, np.array(image.convert("RGB")))
    except Exception:  # Pillow raises nearly anything on broken files
        return False


if __name__ == "__main__":
    in_own_session("benchmarks.decode", main)
