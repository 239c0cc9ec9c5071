"""The batch size, found by trying: larger batches while they are faster and fit."""

from __future__ import annotations

import logging
import time
from typing import Final

import numpy as np

from ..schemas.errors import OutOfMemory
from .scorer import Encoder

log = logging.getLogger(__name__)

LARGEST: Final = 256
_WORTH: Final = 1.05
"""A larger batch must be faster by this to be taken: the largest ones only cost memory and waiting."""

_BUDGET_S: Final = 10.0
"""Seconds the search may take; a device that needs longer for a handful of images gains nothing from batches."""


def find_batch_size(encoder: Encoder, *, largest: int = LARGEST, budget_s: float = _BUDGET_S) -> int:
    """Images per forward pass, by doubling while the rate grows by 5 % and memory suffices.

    Each size runs twice and the second time counts: the first one pays for allocations and kernel selection.

    Args:
        encoder: the loaded model; its first forward passes run here, so that no image waits for them.
        largest: not beyond this.
        budget_s: seconds after which the best so far is taken.
    """
    blank = encoder.prepare(np.full((8, 8, 3), 127, dtype=np.uint8))
    best, best_rate, size = 1, 0.0, 1
    started = time.perf_counter()
    while size <= largest:
        batch = np.stack([blank] * size)
        try:
            encoder.encode_images(batch)
            begun = time.perf_counter()
            encoder.encode_images(batch)
        except OutOfMemory:
            log.info("a batch of %d does not fit", size)
            break
        took = time.perf_counter() - begun
        rate = size / took
        log.debug("batches of %d: %.1f images/s", size, rate)
        if rate < best_rate * _WORTH:
            break
        best, best_rate = size, rate
        # The next size takes about twice as long, twice.
        if time.perf_counter() - started + 4 * took > budget_s:
            break
        size *= 2
    log.info("batches of %d: %.1f images/s in the forward pass alone", best, best_rate)
    return best
