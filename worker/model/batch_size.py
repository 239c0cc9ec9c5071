"""The batch size, found by trying: larger batches while they are faster and memory is plenty."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Final

import numpy as np

from ...schemas.errors import OutOfMemory
from ..arrays import Pixels
from .encoder import Encoder, Memory

log = logging.getLogger(__name__)

LARGEST: Final = 256
_WORTH: Final = 1.05
"""A larger batch must be faster by this to be taken: the largest ones only cost memory and waiting."""

_SHARE: Final = 0.8
"""Share of the free memory a batch may take: there are texts to encode, and what is allocated in pieces has gaps. A CPU
has no error for too much: the kernel ends the process."""

_QUICK: Final = 0.02
"""Share of the budget up to which a pass may be repeated."""

_BUDGET_S: Final = 10.0
"""Seconds the search may take; a device that needs longer for a handful of images gains nothing from batches."""


def find_batch_size(encoder: Encoder, *, largest: int = LARGEST, budget_s: float = _BUDGET_S) -> int:
    """Images per forward pass, by doubling while the rate grows by 5 % and memory suffices.

    A size's first pass does not count: it pays for allocations and kernel selection. Of quick passes the fastest of
    three counts, for other processes slow some down.

    Args:
        encoder: the loaded model; its first forward passes run here, so that no image waits for them.
        largest: not beyond this.
        budget_s: seconds after which the best so far is taken.
    """
    blank = encoder.images.prepare(np.full((8, 8, 3), 127, dtype=np.uint8))
    best, best_rate, size = 1, 0.0, 1
    memory: Memory | None = None
    why = f"{largest} is the most that is tried"
    started = time.perf_counter()
    while size <= largest:
        batch = np.stack([blank] * size)
        try:
            taken = encoder.images.memory_of(partial(encoder.images.encode, batch))
            took = _fastest_s(encoder, batch, budget_s)
        except OutOfMemory:
            why = f"{size} do not fit into memory"
            break
        rate = size / took
        log.debug("batches of %d: %.1f images/s, %s", size, rate, _shown(taken))
        if rate < best_rate * _WORTH:
            why = f"{size} gain less than 5 %"
            break
        best, best_rate, memory = size, rate, taken
        if taken and 2 * taken.needed > _SHARE * taken.free:
            why = f"{2 * size} may not fit into memory"
            break
        # The next size takes about twice as long, twice.
        if time.perf_counter() - started + 4 * took > budget_s:
            why = f"trying {2 * size} would take too long"
            break
        size *= 2
    log.info(
        "batches of %d: %.1f images/s in the forward pass alone%s; %s",
        best,
        best_rate,
        f", {_shown(memory)}" if memory else "",
        why,
    )
    return best


def _fastest_s(encoder: Encoder, batch: Pixels, budget_s: float) -> float:
    """Seconds of a pass over the batch."""
    fastest = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        encoder.images.encode(batch)
        fastest = min(fastest, time.perf_counter() - begun)
        if fastest > _QUICK * budget_s:
            break
    return fastest


def _shown(memory: Memory | None) -> str:
    if memory is None:
        return "memory unknown"
    return f"{memory.needed / 2**20:,.0f} MiB at work, {memory.free / 2**20:,.0f} MiB free"
