"""How far a job is: derived from what the ledger holds, never stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from ...schemas.jobs import JobSpec
from ...schemas.progress import JobState, Progress
from .keys import JobKeys

PAST_DEADLINE: Final = "its deadline passed"
"""Why a job was cancelled at its deadline."""


class Counts(NamedTuple):
    """What the ledger holds of a job at one moment.

    Attributes:
        meta: the fields of `JobKeys.meta`; none when there is no such job.
        finished: items with an outcome.
        failed: those whose outcome is an error.
        quarantined: those among them that killed their worker again and again.
        pushed: items whose answer is on the platform.
        refused: items whose answer the platform does not take.
        waiting: chunks that are not closed.
        now: Redis's clock, Unix seconds.
    """

    meta: Mapping[str, bytes]
    finished: int
    failed: int
    quarantined: int
    pushed: int
    refused: int
    waiting: int
    now: float

    @property
    def total(self) -> int:
        """Items submitted so far."""
        return int(self.meta["submitted"])

    @property
    def lost(self) -> int:
        """Items that count as failed though they have no outcome.

        A chunk nobody could read is closed all the same: which of its items had no outcome cannot be told any more.
        """
        ended = "sealed" in self.meta and not self.waiting and "cancelled" not in self.meta
        return max(0, self.total - self.finished) if ended else 0


def read_counts(client: Any, job_ids: Sequence[str]) -> list[Counts]:
    """The counts of jobs, all of one moment, in one round trip.

    Args:
        client: Redis.
        job_ids: any number of jobs, though Redis does nothing else meanwhile.
    """
    with client.pipeline(transaction=True) as pipe:
        pipe.time()
        for keys in map(JobKeys, job_ids):
            pipe.hgetall(keys.meta)
            pipe.bitcount(keys.finished)
            pipe.hlen(keys.failed)
            pipe.scard(keys.quarantined)
            pipe.bitcount(keys.pushed)
            pipe.hlen(keys.push_failed)
            pipe.zcard(keys.open)
        (seconds, microseconds), *replies = pipe.execute()
    now = seconds + microseconds / 1e6
    counts = []
    for at in range(0, len(replies), 7):
        raw, finished, failed, quarantined, pushed, refused, waiting = replies[at : at + 7]
        meta = {key.decode(): value for key, value in raw.items()}
        counts.append(Counts(meta, finished, failed, quarantined, pushed, refused, waiting, now))
    return counts


def state_of(counts: Counts) -> tuple[JobState, str]:
    """Where a job stands, and why it was cancelled (empty when it was not).

    Does not ask what the job asks, so it can be told of another release's job too.
    """
    meta, total, finished = counts.meta, counts.total, counts.finished + counts.lost
    cancelled = meta.get("cancelled", b"").decode()
    if not cancelled and "deadline" in meta and counts.now > float(meta["deadline"]) and finished < total:
        cancelled = PAST_DEADLINE  # the next sweep writes it; without a worker nobody sweeps
    if cancelled:
        return JobState.CANCELLED, cancelled
    if "sealed" in meta and finished >= total:
        return JobState.DONE, ""
    if "started" in meta:
        return JobState.RUNNING, ""
    return (JobState.QUEUED if "sealed" in meta else JobState.SUBMITTING), ""


def progress_of(job_id: str, spec: JobSpec, counts: Counts) -> Progress:
    """A job's progress.

    Args:
        job_id: the job.
        spec: what it asks.
        counts: what the ledger holds of it.
    """
    meta, total, finished = counts.meta, counts.total, counts.finished + counts.lost
    state, cancelled = state_of(counts)
    rate = None
    fresh = counts.finished - int(meta.get("base", 0))
    if "updated" in meta and "started" in meta and fresh > 1:
        elapsed = float(meta["updated"]) - float(meta["started"])
        rate = fresh / elapsed if elapsed > 0 else None
    return Progress(
        job_id=job_id,
        name=spec.name,
        priority=spec.priority,
        state=state,
        total=total,
        done=counts.finished - counts.failed,
        failed=counts.failed + counts.lost,
        quarantined=counts.quarantined,
        cancelled=cancelled,
        pushed=counts.pushed,
        refused=counts.refused,
        push_problem=meta.get("push_error", b"").decode(errors="replace"),
        model=spec.model,
        created_at=float(meta["created"]),
        rate=rate,
        eta_s=(total - finished) / rate if rate and not state.ended else None,
    )
