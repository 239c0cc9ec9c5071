"""What the ledger holds of a job's way to its platform: who pushes, how far, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import redis

from ...schemas.errors import ConfigError
from ..broker.locks import TimedLock, free_lock
from .clock import redis_time
from .keys import PUSH_PENDING, JobKeys
from .push_hints import PushHints

LOCK_S: Final = 120
"""Seconds a pusher has a job to itself unless it says that it still works."""

START: Final = "0"
"""Where a job of which nothing was pushed yet stands."""

_LONGEST_REASON: Final = 500
"""Characters of a reason that are kept."""


def pending_jobs(client: Any) -> list[str]:
    """Ids of the jobs that may still have something to push."""
    return [raw.decode() for raw in client.smembers(PUSH_PENDING)]


def is_pending(client: Any, job_id: str) -> bool:
    """Whether a job may still have something to push."""
    return bool(client.sismember(PUSH_PENDING, job_id))


def free_locks(client: redis.Redis, is_gone: Callable[[str], bool]) -> None:
    """Let others push what pushers had locked that are gone.

    Args:
        client: Redis.
        is_gone: whether who is named so has ended.
    """
    for job_id in pending_jobs(client):
        free_lock(client, JobKeys(job_id).push_lock, is_gone)


class Pushes:
    """Pushes of jobs. Thread-safe. Every method raises `redis.RedisError` where Redis does not answer.

    Args:
        client: Redis.
        ttl_s: seconds a finished job is kept.
    """

    def __init__(self, client: redis.Redis, ttl_s: int) -> None:
        self._redis: Any = client
        self._ttl_s = ttl_s
        self._hints = PushHints(client)

    def taken(self, job_id: str) -> None:
        """Note that the job's message was taken: what is ready from now on is news again."""
        self._hints.taken(job_id)

    def forget(self, job_id: str) -> None:
        """Say that the job has nothing to push any more, so that nothing stands in the way either."""
        self._redis.srem(PUSH_PENDING, job_id)
        self._redis.hdel(JobKeys(job_id).meta, "push_error")

    def lock(self, job_id: str) -> TimedLock:
        """The lock of whoever pushes the job."""
        return TimedLock(self._redis, JobKeys(job_id).push_lock, LOCK_S)

    def want(self, job_id: str) -> None:
        """Ask for a push, of whoever pushes the job now or next."""
        self._redis.set(JobKeys(job_id).push_wanted, 1, ex=self._ttl_s)

    def is_wanted(self, job_id: str) -> bool:
        """Whether somebody has asked since the last push began."""
        return bool(self._redis.exists(JobKeys(job_id).push_wanted))

    def begin(self, job_id: str) -> None:
        """Take what was asked for: a push begins."""
        self._redis.delete(JobKeys(job_id).push_wanted)

    def is_released(self, job_id: str, hold_s: float) -> bool:
        """Whether a held job's submitter has let go, or has been silent for so long that it must have died.

        Args:
            job_id: the job.
            hold_s: seconds from its submission after which that is so.

        Raises:
            ConfigError: another release wrote the job.
        """
        created, released = self._redis.hmget(JobKeys(job_id).meta, "created", "push_ready")
        try:
            return bool(released) or redis_time(self._redis) - float(created or b"") > hold_s
        except ValueError:
            raise ConfigError(f"when job {job_id} was submitted cannot be read: another release wrote it") from None

    def cursor(self, job_id: str) -> str:
        """Id of the last entry in the job's results that was looked at; `START` before the first."""
        raw = self._redis.hget(JobKeys(job_id).meta, "push_cursor")
        return raw.decode() if raw else START

    def move(self, job_id: str, cursor: str) -> None:
        """Say that all results up to this id have been looked at."""
        self._redis.hset(JobKeys(job_id).meta, "push_cursor", cursor)

    def are_pushed(self, job_id: str, ordinals: Sequence[int]) -> list[bool]:
        """For each ordinal whether its answer is on the platform."""
        keys = JobKeys(job_id)
        with self._redis.pipeline(transaction=False) as pipe:
            for ordinal in ordinals:
                pipe.getbit(keys.pushed, ordinal)
            return [bool(bit) for bit in pipe.execute()]

    def record_problem(self, job_id: str, problem: str) -> None:
        """Keep why the job cannot be pushed now; the next success drops it."""
        self._redis.hset(JobKeys(job_id).meta, "push_error", problem[:_LONGEST_REASON])

    def mark(self, job_id: str, pushed: Iterable[int], rejected: Iterable[tuple[int, str]]) -> None:
        """Write what became of items.

        Args:
            job_id: the job.
            pushed: ordinals whose answer is on the platform, or needs not to be; they are refused no more.
            rejected: ordinals the platform does not take, with the reason.
        """
        keys = JobKeys(job_id)
        delivered = list(pushed)
        with self._redis.pipeline(transaction=True) as pipe:
            for ordinal in delivered:
                pipe.setbit(keys.pushed, ordinal, 1)
            if delivered:
                pipe.hdel(keys.push_failed, *delivered)
            for ordinal, reason in rejected:
                pipe.hset(keys.push_failed, ordinal, reason[:_LONGEST_REASON])
            pipe.hdel(keys.meta, "push_error")
            pipe.ttl(keys.meta)
            ttl_s = pipe.execute()[-1]
        if ttl_s > 0:  # the job has ended: its keys expire together
            self._redis.expire(keys.pushed, ttl_s)
            self._redis.expire(keys.push_failed, ttl_s)
