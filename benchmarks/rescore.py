"""Scoring stored vectors against new labels; `python -m benchmarks.rescore --help`.

The vector store's own path (index, checksum of every row, fp16 to float32, normalised logits, best label) against a
plain float32 numpy matrix product over the same rows in one memory-mapped file, in turn, medians over rounds; the ratio
is the median of the rounds' own. The peer checks nothing, normalises nothing and picks no label: it is the floor. CPU
seconds stand beside the time, because other people's load changes them less. The vectors are random. What a whole
job scored again costs, queue and ledger included, is in `benchmarks.queue_cost`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from rich.table import Table

from prelabel.worker.embeddings_base import floats, read_ahead
from prelabel.worker.embeddings_disk import DiskStore
from prelabel.worker.scoring import pair_logits

from .common import add_json, console, in_own_session, median, shown_machine, write

DIM = 768
ROWS = 8192


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
        logits = pair_logits(floats(block.vectors), texts, 112.0, -16.0)
        done += len(logits.argmax(axis=1))
    return done


def matmul(flat: Path, texts: NDArray[np.float32]) -> int:
    """The floor."""
    rows = np.memmap(flat, dtype="<f2", mode="r").reshape(-1, DIM)
    done = 0
    for start in range(0, len(rows), ROWS):
        done += len(rows[start : start + ROWS].astype(np.float32) @ texts.T)
    return done


def measure(count: int, labels: int, rounds: int) -> dict[str, Any]:
    """Both in turn over `count` stored vectors."""
    texts = np.random.default_rng(1).normal(size=(labels, DIM)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    seconds: dict[str, list[float]] = {"prelabel": [], "numpy": []}
    cpu: dict[str, list[float]] = {"prelabel": [], "numpy": []}
    with tempfile.TemporaryDirectory() as directory:
        flat = Path(directory) / "flat.f16"
        store = DiskStore(Path(directory) / "vectors", 8 * 2**30)
        keys = fill(store, flat, count)
        for turn in range(-1, rounds):
            for name in seconds:
                started, used = time.perf_counter(), time.process_time()
                done = rescore(store, keys, texts) if name == "prelabel" else matmul(flat, texts)
                took, used = time.perf_counter() - started, time.process_time() - used
                if done != count:
                    raise SystemExit(f"{name}: {count - done} vectors are missing")
                if turn >= 0:  # the first turn warms the page cache
                    seconds[name].append(took)
                    cpu[name].append(used)
        store.close()
    return {
        "vectors": count,
        "labels": labels,
        "seconds": seconds,
        "cpu_s": cpu,
        "ratio": median([a / b for a, b in zip(seconds["prelabel"], seconds["numpy"], strict=True)]),
        "cpu_ratio": median([a / b for a, b in zip(cpu["prelabel"], cpu["numpy"], strict=True)]),
    }


def main() -> None:
    """Measure and print the tables; --json also writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    add_json(parser, "rescore")
    options = parser.parse_args()
    found = [measure(count, options.labels, options.rounds) for count in options.vectors]
    table = Table("stored vectors", "labels", "", "s", "CPU s", "vectors/s", title="scored again from stored vectors")
    for row in found:
        for name, seconds in row["seconds"].items():
            took = median(seconds)
            cells = (f"{took:.2f}", f"{median(row['cpu_s'][name]):.2f}", f"{row['vectors'] / took:,.0f}")
            table.add_row(f"{row['vectors']:,}", str(row["labels"]), name, *cells)
    out = console()
    out.print(table)
    for row in found:
        out.print(
            f"{row['vectors']:,}: prelabel takes {row['ratio']:.2f} times the bare product's time, "
            f"{row['cpu_ratio']:.2f} times its CPU seconds"
        )
    out.print(shown_machine())
    write(options.json, {"rows": found})


if __name__ == "__main__":
    in_own_session("benchmarks.rescore", main)
