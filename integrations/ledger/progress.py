"""How far a job is: derived from what the ledger holds, never stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...schemas.jobs import JobSpec
from ...schemas.progress import JobState, Progress

PAST_DEADLINE: Final = "its deadline passed"
"""Why a job was cancelled at its deadline."""


def state_of(meta: Mapping[str, bytes], *, finished: int, now: float) -> tuple[JobState, str]:
    """Where a job stands, and why it was cancelled (empty when it was not); see `progress_of`.

    Does not ask what the job asks, so it can be told of another release's job too.
    """
    total = int(meta["submitted"])
    cancelled = meta.get("cancelled", b"").decode()
    if not cancelled and "deadline" in meta and now > float(meta["deadline"]) and finished < total:
        cancelled = PAST_DEADLINE  # the next sweep writes it; without a worker nobody sweeps
    if cancelled:
        return JobState.CANCELLED, cancelled
    if "sealed" in meta and finished >= total:
        return JobState.DONE, ""
    if "started" in meta:
        return JobState.RUNNING, ""
    return (JobState.QUEUED if "sealed" in meta else JobState.SUBMITTING), ""


def progress_of(
    job_id: str,
    spec: JobSpec,
    meta: Mapping[str, bytes],
    *,
    finished: int,
    failed: int,
    quarantined: int,
    pushed: int,
    now: float,
) -> Progress:
    """A job's progress.

    Args:
        job_id: the job.
        spec: what it asks.
        meta: the fields of `JobKeys.meta`.
        finished: items with an outcome.
        failed: those whose outcome is an error.
        quarantined: those among them that killed their worker again and again.
        pushed: items whose answer is on the platform.
        now: Redis's clock, Unix seconds.
    """
    total = int(meta["submitted"])
    state, cancelled = state_of(meta, finished=finished, now=now)
    rate = None
    fresh = finished - int(meta.get("base", 0))
    if "updated" in meta and "started" in meta and fresh > 1:
        elapsed = float(meta["updated"]) - float(meta["started"])
        rate = fresh / elapsed if elapsed > 0 else None
    return Progress(
        job_id=job_id,
        name=spec.name,
        priority=spec.priority,
        state=state,
        total=total,
        done=finished - failed,
        failed=failed,
        quarantined=quarantined,
        cancelled=cancelled,
        pushed=pushed,
        created_at=float(meta["created"]),
        rate=rate,
        eta_s=(total - finished) / rate if rate and not state.ended else None,
    )
