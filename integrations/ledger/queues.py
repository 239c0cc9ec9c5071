"""How long the queues are, and how long their oldest work has waited."""

from __future__ import annotations

from typing import Any

from ...schemas.progress import QueueState
from ...schemas.queues import QUEUE_PUSH, QUEUES
from .keys import ACTIVE, PUSH_PENDING, JobKeys

_MOST_JOBS = 1000
"""Jobs looked at in one reading, so that it stays quick whatever is going on."""


def queue_lengths(redis: Any) -> dict[str, int]:
    """Messages waiting on each queue, by name.

    Args:
        redis: a redis-py client.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    with redis.pipeline(transaction=False) as pipe:
        for queue in QUEUES:
            pipe.llen(queue)
        return dict(zip(QUEUES, pipe.execute(), strict=True))


def queue_states(redis: Any) -> dict[str, QueueState]:
    """Every queue, by name.

    Messages carry no time, and may be lost, so ages come from the ledger.

    Args:
        redis: a redis-py client with bytes replies.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    with redis.pipeline(transaction=False) as pipe:
        for queue in QUEUES:
            pipe.llen(queue)
        pipe.time()
        pipe.srandmember(ACTIVE, _MOST_JOBS)
        pipe.srandmember(PUSH_PENDING, _MOST_JOBS)
        *depths, clock, active, pushing = pipe.execute()
    now_ms = clock[0] * 1000 + clock[1] / 1000
    oldest_ms = dict.fromkeys(QUEUES, now_ms)
    for queue, sent_ms in _waiting(redis, [JobKeys(job_id.decode()) for job_id in active]):
        oldest_ms[queue] = min(oldest_ms.get(queue, now_ms), sent_ms)
    oldest_ms[QUEUE_PUSH] = min([now_ms, *_unpushed(redis, [JobKeys(job_id.decode()) for job_id in pushing])])
    return {
        queue: QueueState(depth, max(0.0, (now_ms - oldest_ms[queue]) / 1000))
        for queue, depth in zip(QUEUES, depths, strict=True)
    }


def _waiting(redis: Any, jobs: list[JobKeys]) -> list[tuple[str, float]]:
    """Queue and send time (Unix ms) of each job's chunk that waits the longest."""
    with redis.pipeline(transaction=False) as pipe:
        for keys in jobs:
            pipe.hget(keys.meta, "queue")
            # Waiting chunks have minus their time as score; what is postponed has a time in the future.
            pipe.zrevrangebyscore(keys.open, "(0", "-inf", start=0, num=1, withscores=True)
        replies = pipe.execute()
    return [
        (queue.decode(), -longest[0][1])
        for queue, longest in zip(replies[::2], replies[1::2], strict=True)
        if queue and longest
    ]


def _unpushed(redis: Any, jobs: list[JobKeys]) -> list[float]:
    """When (Unix ms) each job's first outcome behind what was pushed came."""
    with redis.pipeline(transaction=False) as pipe:
        for keys in jobs:
            pipe.hget(keys.meta, "push_cursor")
        cursors = pipe.execute()
    with redis.pipeline(transaction=False) as pipe:
        for keys, cursor in zip(jobs, cursors, strict=True):
            # Not XRANGE with an exclusive start, which needs Redis 6.2.
            pipe.xread({keys.results: cursor or "0"}, count=1)
        replies = pipe.execute()
    times = []
    for reply in filter(None, replies):
        entries = next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]
        times.append(float(entries[0][0].decode().partition("-")[0]))
    return times
