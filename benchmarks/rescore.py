"""Scoring stored vectors against new labels; `python -m benchmarks.rescore --help`.

The vector store's own path (index, key and checksum of every record, fp16 to float32, normalised logits, best label),
on as many threads as there are CPUs, against numpy's float32 matrix product over the same rows in a memory-mapped file,
with all its threads: once as fp16, like the store's, and once as float32, twice as large and with nothing to convert.
In turn, medians over rounds; a ratio is the median of the rounds' own. The peers check nothing, normalise nothing and
pick no label: they are the floor. CPU seconds stand beside the time, because other people's load changes them less. The
vectors are random; a million take 6 GB of disk. What a whole job scored again costs, queue and ledger included, is in
`benchmarks.queue_cost`.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from rich.table import Table

from prelabel.worker.machine.host import single_threaded_blas, usable_cpus
from prelabel.worker.model.similarity import pair_logits
from prelabel.worker.vectors.disk.store import DiskStore
from prelabel.worker.vectors.records import floats

from .common import add_json, console, in_own_session, median, shown_machine, write

DIM = 768
ROWS = 2048
WINDOW = 4 * ROWS
PEERS = {"numpy, fp16 file": "<f2", "numpy, float32 file": "<f4"}


def fill(store: DiskStore, flat: dict[str, Path], count: int) -> list[bytes]:
    """Put `count` random vectors into the store, and the same rows into flat files; returns their keys."""
    rng = np.random.default_rng(0)
    keys: list[bytes] = []
    with contextlib.ExitStack() as stack:
        files = {dtype: stack.enter_context(path.open("wb")) for dtype, path in flat.items()}
        for start in track(range(0, count, WINDOW), description="filling the store"):
            rows = rng.normal(size=(min(WINDOW, count - start), DIM)).astype(np.float32)
            some = [rng.bytes(16) for _ in rows]
            store.put(dict(zip(some, rows, strict=True)))
            store.flush(60)
            for dtype, file in files.items():
                file.write(rows.astype("<f2").astype(dtype).tobytes())
            keys += some
    return keys


def rescore(store: DiskStore, keys: list[bytes], texts: NDArray[np.float32]) -> int:
    """Every stored vector's best label, on as many threads as there are CPUs; returns how many there were."""

    def some(start: int) -> int:
        done = 0
        for block in store.blocks(keys[start : start + WINDOW], ROWS):
            logits = pair_logits(floats(block.vectors), texts, 112.0, -16.0)
            done += len(logits.argmax(axis=1))
        return done

    with single_threaded_blas(), ThreadPoolExecutor(usable_cpus()) as pool:
        return sum(pool.map(some, range(0, len(keys), WINDOW)))


def matmul(flat: Path, dtype: str, texts: NDArray[np.float32]) -> int:
    """The floor."""
    rows = np.memmap(flat, dtype=dtype, mode="r").reshape(-1, DIM)
    done = 0
    for start in range(0, len(rows), WINDOW):
        done += len(rows[start : start + WINDOW].astype(np.float32, copy=False) @ texts.T)
    return done


def measure(count: int, labels: int, rounds: int) -> dict[str, Any]:
    """All in turn over `count` stored vectors."""
    texts = np.random.default_rng(1).normal(size=(labels, DIM)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    seconds: dict[str, list[float]] = {name: [] for name in ("prelabel", *PEERS)}
    cpu: dict[str, list[float]] = {name: [] for name in seconds}
    with tempfile.TemporaryDirectory() as directory:
        flat = {dtype: Path(directory) / f"flat{dtype}" for dtype in PEERS.values()}
        store = DiskStore(Path(directory) / "vectors", 8 * 2**30)
        keys = fill(store, flat, count)
        for turn in range(-1, rounds):
            for name in seconds:
                started, used = time.perf_counter(), time.process_time()
                dtype = PEERS.get(name)
                done = matmul(flat[dtype], dtype, texts) if dtype else rescore(store, keys, texts)
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
        "ratio": {peer: _ratio(seconds, peer) for peer in PEERS},
        "cpu_ratio": {peer: _ratio(cpu, peer) for peer in PEERS},
    }


def _ratio(taken: dict[str, list[float]], peer: str) -> float:
    return median([a / b for a, b in zip(taken["prelabel"], taken[peer], strict=True)])


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
        for peer in PEERS:
            out.print(
                f"{row['vectors']:,}: prelabel takes {row['ratio'][peer]:.2f} times the time of {peer}, "
                f"{row['cpu_ratio'][peer]:.2f} times its CPU seconds"
            )
    out.print(shown_machine())
    write(options.json, {"rows": found})


if __name__ == "__main__":
    in_own_session("benchmarks.rescore", main)
