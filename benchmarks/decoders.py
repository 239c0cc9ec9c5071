"""Decoding on threads and in processes of their own; `python -m benchmarks.decoders --help`.

What a worker's host side does before the forward pass, and nothing else: JPEGs are read, decoded and resized to 512
pixels, and gathered in batches. Once on threads of this process, as a worker does it, where the decoders run without
Python's lock and all between them takes it in turn. Once in as many processes, which write into memory that all of them
share, and tell this one which part of it is ready. In turn, as many threads or processes as there are CPUs; a ratio is
the median of the rounds' own. CPU time and memory are of all processes together.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image
from rich.table import Table

from prelabel.worker.decoding.pixels import decode_pixels
from prelabel.worker.machine.host import usable_cpus
from prelabel.worker.model.resize import Squash

from .common import add_json, console, draw_jpegs, in_own_session, median, shown_machine, write

SIZE = (512, 512)
BATCH = 64
SQUASH = Squash(SIZE, Image.Resampling.BICUBIC, exact=False)
SHAPE = (*SIZE, 3)
BYTES = int(np.prod(SHAPE))

_shared: dict[str, SharedMemory] = {}


def prepare(path: str) -> NDArray[np.uint8]:
    """An image at the model's size."""
    return SQUASH(decode_pixels(Path(path).read_bytes(), max_pixels=10**9))


def attach(name: str) -> None:
    """In a process: open the memory all share."""
    _shared["pixels"] = SharedMemory(name)


def prepare_into(path: str, slot: int) -> int:
    """In a process: put an image into a part of that memory."""
    pixels = prepare(path)
    np.ndarray(SHAPE, np.uint8, _shared["pixels"].buf, slot * BYTES)[:] = pixels
    return slot


def batches(
    paths: list[str], begin: Callable[[str, int], Future[Any]], take: Callable[[Any], NDArray[np.uint8]]
) -> int:
    """Prepare all images, two batches ahead, and gather each batch; returns the images gathered."""
    waiting: list[Future[Any]] = []
    done = 0
    for number, path in enumerate(paths):
        waiting.append(begin(path, number % (2 * BATCH)))
        if len(waiting) == 2 * BATCH or number == len(paths) - 1:
            ready, waiting = waiting[:BATCH], waiting[BATCH:]
            done += len(np.stack([take(future.result()) for future in ready]))
    if waiting:
        done += len(np.stack([take(future.result()) for future in waiting]))
    return done


@contextmanager
def threads(count: int) -> Iterator[Callable[[list[str]], int]]:
    """Prepares images on threads."""
    with ThreadPoolExecutor(count) as pool:
        yield lambda paths: batches(paths, lambda path, _: pool.submit(prepare, path), lambda pixels: pixels)


@contextmanager
def processes(count: int) -> Iterator[Callable[[list[str]], int]]:
    """Prepares images in processes."""
    memory = SharedMemory(create=True, size=2 * BATCH * BYTES)
    try:
        pool: Executor
        with ProcessPoolExecutor(count, get_context("spawn"), attach, (memory.name,)) as pool:
            yield lambda paths: batches(
                paths,
                lambda path, slot: pool.submit(prepare_into, path, slot),
                lambda slot: np.ndarray(SHAPE, np.uint8, memory.buf, slot * BYTES),
            )
    finally:
        memory.close()
        memory.unlink()


def _all() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def _cpu_s() -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in _all()))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", default=["640x480", "1920x1080"])
    parser.add_argument("--images", type=int, default=1280, help="at 640x480; of larger ones fewer")
    parser.add_argument("--rounds", type=int, default=5)
    add_json(parser, "decoders")
    options = parser.parse_args()
    count = usable_cpus()
    table = Table("JPEGs", "", "images/s", "CPU ms/image", "memory, MB", title=f"{count} threads and {count} processes")
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory, threads(count) as on_threads, processes(count) as in_processes:
        ways = {"threads": on_threads, "processes": in_processes}
        for size in options.size:
            width, height = (int(side) for side in size.split("x"))
            images = max(4 * BATCH, options.images * 640 * 480 // (width * height))
            drawn = draw_jpegs(Path(directory), 16, (width, height))
            paths = [drawn[number % len(drawn)] for number in range(images)]
            row: dict[str, Any] = {"size": size, "images": images, **{name: [] for name in ways}}
            for turn in range(-1, options.rounds):
                for name, way in ways.items():
                    used, started = _cpu_s(), time.perf_counter()
                    if way(paths) != images:
                        raise SystemExit("images are missing")
                    took, used = time.perf_counter() - started, _cpu_s() - used
                    if turn >= 0:
                        row[name].append((images / took, 1000 * used / images))
            row["memory_mb"] = {
                "threads": psutil.Process().memory_info().rss / 2**20,
                "processes": sum(process.memory_info().rss for process in _all()) / 2**20,
            }
            row["ratio"] = median([a[0] / b[0] for a, b in zip(row["processes"], row["threads"], strict=True)])
            found.append(row)
            for name in ways:
                rates, cpu = zip(*row[name], strict=True)
                table.add_row(
                    size, name, f"{median(rates):,.0f}", f"{median(cpu):.2f}", f"{row['memory_mb'][name]:,.0f}"
                )
    out = console()
    out.print(table)
    for row in found:
        out.print(f"{row['size']}: processes prepare {row['ratio']:.2f} times the images a second")
    out.print(shown_machine())
    write(options.json, {"rows": found})


if __name__ == "__main__":
    in_own_session("benchmarks.decoders", main)
