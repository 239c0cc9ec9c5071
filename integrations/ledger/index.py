"""The ids of all jobs, by when they were made: read in pages, and freed of those that have expired.

An id outlives its job's keys, which Redis lets expire. Whoever lists jobs meets the newest; the rest is for sweeps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from .keys import JOBS, JobKeys

PAGE: Final = 128
"""Ids read at once."""

FORGET_AT_ONCE: Final = 500
"""Ids looked at in one step of forgetting, about."""


class Place(NamedTuple):
    """Where a page ended.

    Attributes:
        made_at: Unix seconds of its last job.
        passed: jobs of that very moment that have been read.
    """

    made_at: float
    passed: int

    def moved(self, made_at: Sequence[float]) -> Place:
        """Where a page ends that begins here and has jobs made at these times, the newest first."""
        if not made_at:
            return self
        passed = sum(moment == made_at[-1] for moment in made_at)
        return Place(made_at[-1], passed + (self.passed if made_at[-1] == self.made_at else 0))


NEWEST: Final = Place(math.inf, 0)
"""Where the first page begins."""


def page(client: Any, after: Place, count: int) -> tuple[list[str], Place]:
    """The ids that follow a place, the newest first, and where they end; no ids at the end.

    Not by rank: jobs that are submitted or forgotten meanwhile would move every rank.

    Args:
        client: Redis.
        after: where the page before ended; `NEWEST` for the first.
        count: ids at most.
    """
    entries = client.zrevrangebyscore(JOBS, after.made_at, "-inf", start=after.passed, num=count, withscores=True)
    return [raw.decode() for raw, _ in entries], after.moved([made_at for _, made_at in entries])


def forget(client: Any, job_ids: Sequence[str]) -> None:
    """Take expired jobs' ids off the index."""
    if job_ids:
        client.zrem(JOBS, *job_ids)


def forget_expired(client: Any, cursor: int) -> int:
    """One bounded step of looking for expired jobs.

    Args:
        client: Redis.
        cursor: what the step before returned; 0 begins.

    Returns:
        Where the next step goes on; 0 after the last one of a round.
    """
    following, entries = client.zscan(JOBS, cursor, count=FORGET_AT_ONCE)
    job_ids = [raw.decode() for raw, _ in entries]
    with client.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.exists(JobKeys(job_id).meta)
        there = pipe.execute()
    forget(client, [job_id for job_id, is_there in zip(job_ids, there, strict=True) if not is_there])
    return int(following)
