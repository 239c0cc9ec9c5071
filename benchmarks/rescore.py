"""Scoring stored vectors against new labels; `python -m benchmarks.rescore --help`.

The vector store's own path (index, checksum of every row, fp16 to float32, normalised logits, best label) against a
plain float32 numpy matrix product over the same rows in one memory-mapped file, in turn, medians over rounds. The
peer checks nothing, normalises nothing and picks no label: it is the floor. The vectors are random.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from prelabel.worker.embeddings_base import read_ahead
from prelabel.worker.embeddings_disk import DiskStore
from prelabel.worker.scoring import pair_logits

DIM = 768
ROWS = 4096


def fill(store: DiskStore, flat: Path, count: int) -> list[bytes]:
    """Put `count` random vectors into the store and the same rows, fp16, into a flat file; returns their keys."""
    rng = np.random.default_rng(0)
    keys: list[bytes] = []
    with flat.open("wb") as file:
        for start in track(range(0, count, ROWS), description="filling the store"):
            rows = rng.normal(size=(min(ROWS, count - start), DIM)).astype(np.float32)
            some = [rng.bytes(16) for _ in rows]
            store.put(dict(zip(some, rows, strict=True)))
            store.flush(60)
            file.write(rows.astype("<f2").tobytes())
            keys += some
    return keys


def rescore(store: DiskStore, keys: list[bytes], texts: NDArray[np.float32]) -> int:
    """Every stored vector's best label; returns how many there were."""
    done = 0
    for block in read_ahead(store.blocks(keys, ROWS)):
        logits = pair_logits(block.vectors.astype(np.float32), texts, 112.0, -16.0)
        done += len(logits.argmax(axis=1))
    return done


def matmul(flat: Path, texts: NDArray[np.float32]) -> int:
    """The floor."""
    rows = np.memmap(flat, dtype="<f2", mode="r").reshape(-1, DIM)
    done = 0
    for start in range(0, len(rows), ROWS):
        done += len(rows[start : start + ROWS].astype(np.float32) @ texts.T)
    return done


def main() -> None:
    """Measure and print the table; --json also writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    texts = np.random.default_rng(1).normal(size=(options.labels, DIM)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    seconds: dict[str, list[float]] = {"prelabel": [], "numpy": []}
    with tempfile.TemporaryDirectory() as directory:
        flat = Path(directory) / "flat.f16"
        store = DiskStore(Path(directory) / "vectors", 8 * 2**30)
        keys = fill(store, flat, options.vectors)
        for turn in range(-1, options.rounds):
            for name, found in seconds.items():
                started = time.perf_counter()
                done = rescore(store, keys, texts) if name == "prelabel" else matmul(flat, texts)
                took = time.perf_counter() - started
                if done != options.vectors:
                    raise SystemExit(f"{name}: {options.vectors - done} vectors are missing")
                if turn >= 0:  # the first turn warms the page cache
                    found.append(took)
        store.close()
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    ratio = medians["prelabel"] / medians["numpy"]
    table = Table("", "s", "vectors/s", title=f"{options.vectors:,} stored vectors x {options.labels} labels")
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f}", f"{options.vectors / median:,.0f}")
    Console().print(table)
    Console().print(f"prelabel takes {ratio:.2f} times the bare product's time")
    if options.json:
        options.json.write_text(json.dumps({"seconds": seconds, "ratio": ratio}, indent=2))


if __name__ == "__main__":
    main()
