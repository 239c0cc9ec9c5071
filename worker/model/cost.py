"""What one image costs, counted without computing anything."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from .checkpoint import quiet_transformers

log = logging.getLogger(__name__)


def gflop(build: Callable[[], Any], example: Callable[[], dict[str, Any]]) -> float | None:
    """10^9 operations of one image's pass, counted on a model without weights; None where that cannot be run.

    Args:
        build: makes the model, here on the device "meta"; it has `get_image_features`.
        example: inputs of one image's pass, on that device.
    """
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(quiet_transformers())
            stack.enter_context(torch.device("meta"))
            empty = build().eval()
            counter = stack.enter_context(FlopCounterMode(display=False))
            empty.get_image_features(**example())
    except Exception as error:  # an operator that has no form without numbers; the figure is for people alone
        log.debug("the operations of one image are not counted: %s", error)
        return None
    return float(f"{counter.get_total_flops() / 1e9:.3g}") or None
