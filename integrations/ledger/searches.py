"""Answers to searches on their way back: a short list in Redis for each request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from pydantic import Field

from ...schemas.search import DuplicatesQuery, MissingQuery, RankQuery, SearchQuery, SearchReply
from ...schemas.wire import WireModel
from .clock import redis_time

REPLY_S: Final = 120
"""Seconds an answer is kept for who asked."""

_WAIT_S: Final = 1
"""Seconds Redis holds a question for an answer at most: less than connections are let silent for."""


class SearchRequest(WireModel):
    """One question on its way to a worker.

    Attributes:
        id: names the list its answers go to.
        query: the question: a search,
        rank: texts to be ranked,
        duplicates: what is nearly the same, or
        missing: what has no vector.
        until: Unix second of Redis's clock after which nobody waits for the answer.
    """

    id: str = Field(pattern="^[0-9a-f]{32}$")
    query: SearchQuery | None = None
    rank: RankQuery | None = None
    duplicates: DuplicatesQuery | None = None
    missing: MissingQuery | None = None
    until: float


class Searches:
    """Answers of workers to who asked. Thread-safe; its methods raise what redis-py raises.

    Args:
        client: Redis.
    """

    def __init__(self, client: Any) -> None:
        self._redis = client

    def now(self) -> float:
        """Unix second of Redis's clock: those of two hosts may differ by more than anybody waits."""
        return redis_time(self._redis)

    def answer(self, request_id: str, reply: SearchReply) -> None:
        """Send an answer, or how far its preparation has come."""
        key = _key(request_id)
        with self._redis.pipeline() as pipe:
            pipe.rpush(key, reply.to_json())
            pipe.expire(key, REPLY_S)
            pipe.execute()

    def answers(self, request_id: str, silent_s: float) -> Iterator[SearchReply]:
        """What comes, until the answer itself has come, or nothing for `silent_s`.

        Raises:
            ConfigError: another release has answered.
        """
        key, heard = _key(request_id), time.monotonic()
        while time.monotonic() - heard < silent_s:
            found = self._redis.blpop([key], timeout=_WAIT_S)
            if found is None:
                continue
            heard = time.monotonic()
            reply = SearchReply.from_json(found[1])
            yield reply
            if reply.progress is None:
                return


def _key(request_id: str) -> str:
    return f"prelabel:search:{request_id}"
