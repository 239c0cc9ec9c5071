"""Items of a job in Redis: they lie in the chunks they were submitted in."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Final

from ...schemas.chunks import Chunk
from ...schemas.errors import ConfigError
from ...schemas.items import Item
from ...schemas.queues import CHUNK_ITEMS, SOURCE_CHUNK_ITEMS
from .keys import JobKeys


def item_in(chunk: bytes | None, ordinal: int) -> Item:
    """An item of a chunk's JSON; what stands for it where it cannot be read: its outcome says why."""
    try:
        return Item.unreadable(ordinal) if chunk is None else _parse_chunk(chunk).item(ordinal)
    except (ConfigError, ValueError):
        return Item.unreadable(ordinal)


def items_of(client: Any, job_id: str, ordinals: Sequence[int]) -> list[Item]:
    """Single items of a job, with a few visits to Redis for each: meant for examples.

    Args:
        client: Redis.
        job_id: the job.
        ordinals: which ones.

    Returns:
        An item for each ordinal; what stands for it where it cannot be read.
    """
    chunks = JobKeys(job_id).chunks
    count = client.hlen(chunks)
    return [_item_of(client, chunks, count, ordinal) for ordinal in ordinals]


def item_ids(client: Any, job_id: str) -> Iterator[tuple[Sequence[int], Sequence[str]]]:
    """Ordinals of a job's items and their ids, some at a time, perhaps again; without those that cannot be read.

    Args:
        client: Redis.
        job_id: the job.
    """
    cursor = 0
    while True:
        cursor, chunks = client.hscan(JobKeys(job_id).chunks, cursor, count=_CHUNKS_PER_TRIP)
        for text in chunks.values():
            yield Chunk.ids_in(text)
        if not cursor:
            return


_CHUNKS_PER_TRIP: Final = 64
"""Chunks read at once: some 64 KB each at most."""


def _item_of(client: Any, chunks: str, count: int, ordinal: int) -> Item:
    """The item, from the last of the job's own chunks that does not begin behind it.

    A chunk has 1 to `SOURCE_CHUNK_ITEMS` items, mostly as many as it may: that bounds its place, and makes the first
    guess a good one.
    """
    first, last = ordinal // SOURCE_CHUNK_ITEMS, min(ordinal, count - 1)
    guess: bytes | None = client.hget(chunks, ordinal // CHUNK_ITEMS)
    item = item_in(guess, ordinal)
    if item != Item.unreadable(ordinal):
        return item
    after = bisect_right(range(first, last + 1), ordinal, key=partial(_begin, client, chunks))
    return item_in(client.hget(chunks, first + after - 1), ordinal)


def _begin(client: Any, chunks: str, index: int) -> int:
    """Ordinal of a chunk's first item; beyond every item where there is no such chunk, or it cannot be read."""
    raw: bytes | None = client.hget(chunks, index)
    first = None if raw is None else Chunk.first_in(raw)
    return sys.maxsize if first is None else first


@lru_cache(maxsize=256)
def _parse_chunk(raw: bytes) -> Chunk:
    return Chunk.from_json(raw)
