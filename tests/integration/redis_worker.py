"""A worker process on a test's own server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prelabel.integrations import Job
from prelabel.schemas import Settings
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.machine.children import spawn, stop


@contextmanager
def worker(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A supervised worker process; whether it is ready is the test's business."""
    with log.open("ab") as output:
        child = spawn(
            [sys.executable, "-m", "prelabel.worker.cli", "worker"], env=settings.environment(), output=output
        )
        try:
            yield child
        finally:
            stop(child, 15)


def is_ready(log: Path) -> bool:
    return b"is ready" in log.read_bytes()


def worker_settings(url: str, pictures_dir: Path) -> Settings:
    return load_settings(
        redis_url=url, model=str(CHECKPOINT), image_roots=(pictures_dir,), lease_s=3, grace_s=3, bulk_chunks=2
    )


def assert_complete(job: Job, count: int) -> None:
    ordinals = [prediction.ordinal for prediction in job.results(90)]
    assert sorted(ordinals) == list(range(count))
    assert job.progress().failed == 0
