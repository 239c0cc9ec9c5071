"""The workers there are: who was heard of lately, and who of them sweeps at present."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

import redis

from ...schemas.errors import ConfigError
from ...schemas.progress import WorkerInfo
from ..broker.locks import TimedLock, free_lock
from .clock import redis_time
from .keys import SWEEPER, WORKERS, held_key

log = logging.getLogger(__name__)

SILENT_S: Final = 20.0
"""Seconds without a heartbeat after which a worker is not listed any more."""

_FORGET_S: Final = 86_400.0


class Fleet:
    """The workers. Every method raises `redis.RedisError` where Redis does not answer.

    Args:
        client: Redis.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._redis: Any = client

    def beat(self, worker: WorkerInfo) -> None:
        """Say that this worker is alive; forgets those not heard of for a day."""
        now = redis_time(self._redis)
        self._redis.zadd(WORKERS, {_member(worker): now})
        self._redis.zremrangebyscore(WORKERS, "-inf", now - _FORGET_S)

    def sign_off(self, worker: WorkerInfo) -> None:
        """Take a worker off the list: it ends."""
        self._redis.zrem(WORKERS, _member(worker))

    def workers(self) -> list[WorkerInfo]:
        """Workers heard of within the last 20 s; one that another release describes in its own way is left out."""
        since = redis_time(self._redis) - SILENT_S
        workers = []
        for raw, beat in self._redis.zrangebyscore(WORKERS, since, "+inf", withscores=True):
            try:
                workers.append(WorkerInfo.from_json(raw).model_copy(update={"beat": beat}))
            except ConfigError as error:
                log.debug("a worker is not listed: %s", error)
        return workers

    def free_sweeper(self, is_gone: Callable[[str], bool]) -> None:
        """Let another sweep where the one who does is gone."""
        free_lock(self._redis, SWEEPER, is_gone)

    def holders(self) -> list[str]:
        """Names of the workers that have leases, live or dead."""
        prefix = held_key("")
        keys = self._redis.scan_iter(match=f"{prefix}*", count=1000)
        return [key.decode(errors="replace").removeprefix(prefix) for key in keys]

    def sweeping(self, hold_s: float, who: str) -> TimedLock:
        """The lock of the worker that looks for lost chunks.

        Args:
            hold_s: seconds it lasts.
            who: the worker's name.
        """
        return TimedLock(self._redis, SWEEPER, hold_s, who=who)


def consumed(workers: Iterable[WorkerInfo]) -> dict[str, bool]:
    """The workers' models, each with whether one of them consumes its queue."""
    models: dict[str, bool] = {}
    for worker in workers:
        models[worker.model] = worker.consumes_its_queue or models.get(worker.model, False)
    return models


def _member(worker: WorkerInfo) -> str:
    return worker.model_dump_json(exclude={"beat"})
