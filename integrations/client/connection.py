"""What a client and its jobs share: the ledger, the queue beside it, and how long one that is away is waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, Self, TypeVar

import redis

from ...schemas.settings import Settings
from ..broker.celery import Sender
from ..broker.connection import connect_redis
from ..broker.patience import Patience
from ..ledger.jobs import JobStore
from ..ledger.protocol import Jobs, PushMarks
from ..ledger.push_hints import PushHints

_T = TypeVar("_T")


class Hints(Protocol):
    """Puts messages on the queues. Thread-safe."""

    def score_chunk(self, job_id: str, chunk: int, queue: str) -> None:
        """Hint that a chunk of a job waits."""
        ...

    def score_chunks(self, job_id: str, chunks: Iterable[int], queue: str) -> None:
        """Hint that chunks of a job wait."""
        ...

    def push(self, job_id: str) -> None:
        """Hint that a job has predictions to push."""
        ...

    def search(self, request: str, queue: str) -> None:
        """Ask a worker to search."""
        ...


class Connection(Protocol):
    """One producer's way to jobs. Thread-safe.

    `RedisConnection` is the one of production; `prelabel.integrations.testing` has one in memory.
    """

    @property
    def settings(self) -> Settings:
        """The settings in use."""
        ...

    @property
    def redis(self) -> redis.Redis:
        """Redis, for what is kept beside jobs. Replies are bytes.

        Raises:
            ConfigError: the jobs are not in a Redis.
        """
        ...

    @property
    def store(self) -> Jobs:
        """The producer's half of the ledger."""
        ...

    @property
    def push_hints(self) -> PushMarks:
        """Says whether a job's message to the pushers is due."""
        ...

    @property
    def sender(self) -> Hints:
        """Puts messages on the queues."""
        ...

    def patiently(self, call: Callable[[], _T], *, wait_s: float | None = None) -> _T:
        """What `call` returns; it is run again while Redis is away, for `wait_s` at most."""
        ...

    def close(self) -> None:
        """Close every connection; whatever is used afterwards makes new ones."""
        ...


class RedisConnection:
    """One producer's way to Redis. Thread-safe; close it after use, or use it with `with`.

    Args:
        settings: where Redis is, and how long one that is away is waited for.

    Attributes:
        settings: the same.
        redis: the connections, for what is kept beside jobs. Replies are bytes.
        store: the producer's half of the ledger.
        push_hints: says whether a job's message to the pushers is due.
        sender: puts messages on the queues.
        patiently: runs a call again while Redis is away.

    Raises:
        ConfigError: the Redis URL cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.redis = connect_redis(settings, stubborn=False)
        self.store = JobStore(self.redis, settings.job_ttl_s)
        self.push_hints = PushHints(self.redis)
        self.sender = Sender(settings)
        self.patiently = Patience(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection; whatever is used afterwards makes new ones."""
        self.sender.close()
        self.redis.close()
