"""What torch is asked about a device: which one, how many threads, how much memory, and what its errors mean."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import torch

from ...schemas.errors import ModelLoadError, OutOfMemory, ScorerError
from ..machine import host
from .encoder import Memory


def pick_device(name: str) -> torch.device:
    """The device a setting names; "auto" takes cuda, then mps, then cpu.

    Raises:
        ModelLoadError: the device is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        raise ModelLoadError(
            f"PRELABEL_DEVICE={name}, but torch {torch.__version__} sees no such device: "
            "install a torch build for it (see README, GPU hosts) or set PRELABEL_DEVICE=cpu"
        )
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The type a setting names; "auto" is bfloat16 on cuda and float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def forward_threads(setting: int) -> int:
    """CPU threads of a forward pass; 0 is as many as torch would take, if the process may use them."""
    return setting or min(torch.get_num_threads(), host.usable_cpus())


_local = threading.local()


def use_threads(count: int) -> None:
    """Let the calling thread's torch kernels use so many CPU threads; torch counts them for each thread."""
    if getattr(_local, "threads", None) != count:
        torch.set_num_threads(count)
        _local.threads = count


@contextlib.contextmanager
def device_errors(count: int) -> Iterator[None]:
    """What torch raises inside, as `OutOfMemory` (of `count` things) or `ScorerError`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemory(f"no memory for a batch of {count}") from error
    except RuntimeError as error:
        # The CPU allocator raises a plain RuntimeError.
        if "can't allocate memory" in str(error) or "not enough memory" in str(error):
            raise OutOfMemory(f"no memory for a batch of {count}") from error
        raise ScorerError(f"forward pass failed: {str(error).splitlines()[0]}") from error


def memory_of(device: torch.device, work: Callable[[], object]) -> Memory | None:
    """Do some work and tell what memory of the device it took; None where that cannot be told."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        needed = torch.cuda.max_memory_allocated(device) - before
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return Memory(needed, free + kept)
    if device.type == "cpu" and host.forget_peak():
        resident = host.resident_memory()
        work()
        peak, free_now = host.peak_memory(), host.free_memory()
        if resident is not None and peak is not None and free_now is not None:
            return Memory(max(0, peak - resident), free_now)
        return None
    work()
    return None


def memory_by_kind(device: torch.device) -> dict[str, int]:
    """Bytes: allocated, reserved, used, total; empty where the device has no memory of its own."""
    if device.type != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info(device)
    return {
        "allocated": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "used": total - free,
        "total": total,
    }
