"""The newest predictions with their thumbnails, in a short list in Redis: written by workers, shown on the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from ...schemas.errors import ConfigError
from ...schemas.progress import Recent
from .keys import RECENT

KEPT = 48
"""Entries kept: some 4 kB each."""

_EXPIRE_S = 7 * 86_400


def add(client: redis.Redis, predictions: Sequence[Recent]) -> None:
    """Put predictions at the front of the list, the newest last in `predictions`."""
    if not predictions:
        return
    with client.pipeline(transaction=True) as pipe:
        pipe.lpush(RECENT, *(one.to_json() for one in predictions))
        pipe.ltrim(RECENT, 0, KEPT - 1)
        pipe.expire(RECENT, _EXPIRE_S)
        pipe.execute()


def newest(client: redis.Redis, count: int) -> list[Recent]:
    """The newest predictions first; what another release wrote is left out."""
    predictions: list[Recent] = []
    entries: Any = client.lrange(RECENT, 0, count - 1)
    for raw in entries:
        try:
            predictions.append(Recent.from_json(raw))
        except ConfigError:
            continue
    return predictions
