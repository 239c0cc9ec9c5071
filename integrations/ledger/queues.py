"""How long the queues are, how long their oldest work has waited, and which queues of models there are."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from ...schemas.progress import QueueState
from ...schemas.queues import QUEUE_PUSH, QUEUES
from .clock import redis_time
from .keys import ACTIVE, MODEL_QUEUES, PUSH_PENDING, WATERMARKS, JobKeys
from .scripts import FORGET_QUEUE

_MOST_JOBS = 1000
"""Jobs looked at in one reading, so that it stays quick whatever is going on."""

_FORGET_S: Final = 86_400.0
"""Seconds without a new job after which a model's queue is forgotten."""


def queue_names(redis: Any) -> list[str]:
    """Every queue: those that are always there, then those of models.

    Args:
        redis: a redis-py client with bytes replies.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    return [*QUEUES, *sorted(name.decode() for name in redis.zrange(MODEL_QUEUES, 0, -1))]


def queue_lengths(redis: Any) -> dict[str, int]:
    """Messages waiting on each queue, by name.

    Args:
        redis: a redis-py client with bytes replies.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    names = queue_names(redis)
    with redis.pipeline(transaction=False) as pipe:
        for queue in names:
            pipe.llen(queue)
        return dict(zip(names, pipe.execute(), strict=True))


def queue_states(redis: Any) -> dict[str, QueueState]:
    """Every queue, by name.

    Messages carry no time, and may be lost, so ages come from the ledger.

    Args:
        redis: a redis-py client with bytes replies.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    names = queue_names(redis)
    with redis.pipeline(transaction=False) as pipe:
        for queue in names:
            pipe.llen(queue)
        pipe.time()
        pipe.srandmember(ACTIVE, _MOST_JOBS)
        pipe.srandmember(PUSH_PENDING, _MOST_JOBS)
        *depths, clock, active, pushing = pipe.execute()
    now_ms = clock[0] * 1000 + clock[1] / 1000
    oldest_ms = dict.fromkeys(names, now_ms)
    for queue, sent_ms in _waiting(redis, [JobKeys(job_id.decode()) for job_id in active]):
        oldest_ms[queue] = min(oldest_ms.get(queue, now_ms), sent_ms)
    oldest_ms[QUEUE_PUSH] = min([now_ms, *_unpushed(redis, [JobKeys(job_id.decode()) for job_id in pushing])])
    return {
        queue: QueueState(depth, max(0.0, (now_ms - oldest_ms[queue]) / 1000))
        for queue, depth in zip(names, depths, strict=True)
    }


def forget_queues(redis: Any, in_use: Collection[str]) -> list[str]:
    """Forget the queues of models that no job came to for a day, with the messages of jobs that have ended meanwhile.

    Nobody may ever serve such a model, and take them off.

    Args:
        redis: a redis-py client with bytes replies.
        in_use: the queues of all jobs that have not ended.

    Returns:
        Those forgotten.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    before = redis_time(redis) - _FORGET_S
    idle = [name.decode() for name in redis.zrangebyscore(MODEL_QUEUES, "-inf", before)]
    forget = redis.register_script(FORGET_QUEUE)
    return [
        name
        for name in idle
        if name not in in_use and forget(keys=[MODEL_QUEUES, WATERMARKS, name], args=[name, before])
    ]


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
