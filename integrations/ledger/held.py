"""Which items a job still has in hand: they have no outcome yet, or one that is still to be pushed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from ...schemas.chunks import Chunk
from ...schemas.errors import ConfigError
from .keys import JobKeys

_CHUNKS_PER_TRIP = 32
"""Chunks read at once: some 64 KB each at most."""


def unfinished_items(client: redis.Redis, job_id: str) -> Iterator[list[str]]:
    """Ids of the items of a job that have no outcome, some at a time; one may come twice.

    Args:
        client: Redis.
        job_id: the job.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    yield from _ids(client, job_id, unfinished=True, unpushed=False)


def held_items(client: redis.Redis, job_id: str, *, ended: bool, pushes: bool) -> Iterator[list[str]]:
    """Ids of the items whose answers are still to be made or pushed, some at a time; one may come twice.

    An item that failed, or whose answer the platform refused, is not among them, nor is one in a chunk that cannot be
    read.

    Args:
        client: Redis.
        job_id: the job.
        ended: nothing of it is scored any more.
        pushes: what is scored and not pushed yet still will be.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    yield from _ids(client, job_id, unfinished=not ended, unpushed=pushes)


def _ids(client: Any, job_id: str, *, unfinished: bool, unpushed: bool) -> Iterator[list[str]]:
    keys = JobKeys(job_id)
    with client.pipeline(transaction=True) as pipe:
        pipe.get(keys.finished)
        pipe.get(keys.pushed)
        pipe.hkeys(keys.failed)
        pipe.hkeys(keys.push_failed)
        finished, pushed, failed, refused = pipe.execute()
    not_pushed = {int(raw) for raw in (*failed, *refused)}

    def is_held(ordinal: int) -> bool:
        if not _bit(finished, ordinal):
            return unfinished
        return unpushed and not _bit(pushed, ordinal) and ordinal not in not_pushed

    cursor = 0
    while True:
        cursor, chunks = client.hscan(keys.chunks, cursor, count=_CHUNKS_PER_TRIP)
        for raw in chunks.values():
            try:
                pairs = Chunk.from_json(raw).pairs()
            except (ConfigError, ValueError):
                continue
            yield [item.id for ordinal, item in pairs if is_held(ordinal)]
        if not cursor:
            return


def _bit(bitmap: bytes | None, place: int) -> bool:
    """A bit of what Redis keeps as a bitmap: it counts from the first byte's highest."""
    byte = place // 8
    return bitmap is not None and byte < len(bitmap) and bool(bitmap[byte] >> (7 - place % 8) & 1)
