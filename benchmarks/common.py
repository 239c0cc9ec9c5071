"""What the benchmarks share: a real worker with its CPU time and memory, pictures, tables that are also JSON."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from rich.console import Console

from prelabel.schemas.settings import Settings
from prelabel.worker.machine.children import spawn, stop
from prelabel.worker.machine.host import usable_cpus
from prelabel.worker.running.stack import Stack, local_stack

RESULTS = Path("build") / "bench"
_INSIDE = "PRELABEL_BENCH_SESSION"


def in_own_session(module: str, main: Callable[[], None]) -> None:
    """Run a benchmark in a session of its own, as the worker it starts has one.

    Linux gives sessions equal shares of a busy CPU (sched(7), autogroup): one that shares its session with a shell's
    other jobs would be measured at a fraction of the worker's share. OpenMP waits as it does in the worker, too.
    """
    if os.environ.get(_INSIDE):
        main()
        return
    child = spawn([sys.executable, "-m", module, *sys.argv[1:]], env={_INSIDE: "1", "OMP_WAIT_POLICY": "PASSIVE"})
    try:
        sys.exit(child.wait())
    except KeyboardInterrupt:
        stop(child, 30)
        sys.exit(130)


def console() -> Console:
    """Where tables go; wide enough for them in a file."""
    return Console(width=None if sys.stdout.isatty() else 120)


def add_json(parser: argparse.ArgumentParser, name: str) -> None:
    """The `--json` option every benchmark has."""
    parser.add_argument(
        "--json", type=Path, default=RESULTS / f"{name}.json", help="file for the figures (default: %(default)s)"
    )


def write(path: Path, figures: dict[str, Any]) -> None:
    """The figures, with what they were measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """What figures depend on and a reader wants to know."""
    found: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu_name(),
        "cpus": usable_cpus(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy", "celery", "redis")},
    }
    return found


def shown_machine() -> str:
    """The same in a line under a table."""
    found = machine()
    return (
        f"{found['cpu']}, {found['cpus']} CPUs, load {found['load'][0]} at the end; torch {found['versions']['torch']}"
    )


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that `share` (0..1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, int(np.ceil(share * len(ordered))) - 1))]


def median(values: Sequence[float]) -> float:
    """NaN of nothing."""
    return statistics.median(values) if values else float("nan")


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


@dataclass
class RunningWorker:
    """A broker and one supervised Celery worker.

    Attributes:
        stack: its client, logs and settings.
        process: the Celery worker itself.
    """

    stack: Stack
    process: psutil.Process

    def cpu_s(self) -> float:
        """CPU seconds the worker has taken so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss(self) -> int:
        """Bytes it has resident."""
        return int(self.process.memory_info().rss)


@contextlib.contextmanager
def running_worker(settings: Settings, directory: Path) -> Iterator[RunningWorker]:
    """The embedded broker and a worker, ready; gone at the end."""
    with local_stack(settings, directory, adapter=False, embedded=True, broker_port=0) as stack:
        stack.wait_until_ready()
        supervisor = psutil.Process(stack.children["worker"].pid)
        workers = [child for child in supervisor.children(recursive=True) if "celery" in child.cmdline()]
        if len(workers) != 1:
            raise SystemExit(f"{len(workers)} Celery workers under the supervisor, expected one")
        yield RunningWorker(stack, workers[0])
