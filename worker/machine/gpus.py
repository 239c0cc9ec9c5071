"""One GPU for each worker on a host, when many are started alike (`docker compose up --scale worker=4`).

A worker takes the first GPU whose lock file nobody holds, and holds it as long as it lives: the kernel frees the lock
of a process that dies, however it dies. Containers share the files through a volume.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import Timeout

from ...schemas.errors import ConfigError
from .files import lock_file


@contextmanager
def claimed_gpu(folder: Path, devices: Path = Path("/dev")) -> Iterator[int]:
    """Own one of this host's GPUs inside the block.

    Args:
        folder: where the lock files lie: on this host, and the same for all its workers. Created.
        devices: where the driver's device files are.

    Yields:
        The number of the GPU, as `CUDA_VISIBLE_DEVICES` counts.

    Raises:
        ConfigError: there is no NVIDIA GPU, or each has a worker, or the folder cannot be written.
    """
    count = sum(1 for path in devices.iterdir() if re.fullmatch(r"nvidia\d+", path.name))
    if not count:
        raise ConfigError(
            "PRELABEL_CLAIM_GPU is set and no NVIDIA GPU can be seen here: does the container get GPUs "
            "(NVIDIA Container Toolkit, docker-compose.gpu.yml)?"
        )
    with ExitStack() as held:
        yield _claim(folder, count, held)


def _claim(folder: Path, count: int, held: ExitStack) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            try:
                held.enter_context(lock_file(folder / f"gpu-{number}.lock"))
            except Timeout:
                continue
            return number
    except OSError as error:
        raise ConfigError(f"PRELABEL_CLAIM_GPU: cannot lock a file in {folder} ({error.strerror})") from None
    raise ConfigError(f"each of the {count} GPUs here has a worker already: run {count} workers at most on this host")
