"""What a platform refused of a job's predictions, read a page at a time."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from .keys import JobKeys

PAGE: Final = 500
"""Items read at once, about."""


class Refused(NamedTuple):
    """An item whose answer the platform does not take, by its ordinal, and why."""

    ordinal: int
    reason: str


def refusals_page(client: Any, job_id: str, cursor: int) -> tuple[int, list[Refused]]:
    """Some of what was refused of a job.

    Args:
        client: Redis.
        job_id: the job.
        cursor: what the call before returned; 0 begins.

    Returns:
        Where the next call goes on, 0 after the last page; and about `PAGE` items, in no order. An item may come again
        while others are being refused.
    """
    following, reasons = client.hscan(JobKeys(job_id).push_failed, cursor, count=PAGE)
    return following, [Refused(int(ordinal), reason.decode(errors="replace")) for ordinal, reason in reasons.items()]
