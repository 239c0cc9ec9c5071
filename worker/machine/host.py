"""What of the host this process may use: CPUs and memory. A container's limits count, which torch does not look at."""

from __future__ import annotations

import contextlib
import math
import os
from contextlib import AbstractContextManager
from pathlib import Path

from threadpoolctl import ThreadpoolController

_CGROUP = Path("/sys/fs/cgroup")


def usable_cpus(cgroup: Path = _CGROUP) -> int:
    """CPUs by affinity and by the control group's quota, at least 1.

    A pool with more threads than that is throttled by the kernel in the middle of its work, all threads at once.

    Args:
        cgroup: where the process sees its control group; https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max)
            and, for version 1, https://docs.kernel.org/scheduler/sched-bwc.html.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, min(cpus, math.ceil(quota))) if quota else max(1, cpus)


def _quota(cgroup: Path) -> float | None:
    """CPUs' worth of time the control group gets; None where it is not bounded or cannot be told."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        limit, period = (cgroup / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        cpu = cgroup / "cpu"
        limit, period = ((cpu / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(limit) / int(period) if int(limit) > 0 else None
    return None


def single_threaded_blas() -> AbstractContextManager[object]:
    """From now on numpy computes a matrix product on the thread that asks for it; the context's end undoes that.

    A worker scores several chunks at once. OpenBLAS's own threads would share none of that work but spin between
    products, on the cores that decoding and the forward pass want. torch's threads are others.
    """
    numpys = ThreadpoolController().select(internal_api="openblas", threading_layer="pthreads")
    limited: AbstractContextManager[object] = numpys.limit(limits=1)
    return limited


def free_memory(cgroup: Path = _CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes this process may still take: the machine's and the control group's; None where neither can be told."""
    limits = [free for free in (_available(meminfo), _cgroup_room(cgroup)) if free is not None]
    return min(limits) if limits else None


def _available(meminfo: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _cgroup_room(cgroup: Path) -> int | None:
    for folder, limit, used in (
        (cgroup, "memory.max", "memory.current"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):
            most = (folder / limit).read_text().strip()
            if most != "max":
                return max(0, int(most) - int((folder / used).read_text()) + _page_cache(folder))
    return None


def _page_cache(folder: Path) -> int:
    """Bytes of files nobody used lately: they count as used and give way."""
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return int(value)
    return 0


def peak_memory() -> int | None:
    """The most bytes this process has had resident since `forget_peak`; None off Linux."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def resident_memory() -> int | None:
    """The bytes this process has resident now; None off Linux."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def forget_peak() -> bool:
    """Let `peak_memory` begin anew (proc(5), clear_refs); whether that could be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
