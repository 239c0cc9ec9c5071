"""What a client and its jobs share: one Redis, the ledger on it, and the queue beside it."""

from __future__ import annotations

from typing import Self

from ...schemas.settings import Settings
from ..broker.celery import Sender
from ..broker.connection import connect_redis
from ..broker.patience import Patience
from ..ledger.jobs import JobStore
from ..ledger.push_hints import PushHints


class Connection:
    """One producer's way to Redis. Thread-safe; close it after use, or use it with `with`.

    Args:
        settings: where Redis is, and how long one that is away is waited for.

    Attributes:
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
