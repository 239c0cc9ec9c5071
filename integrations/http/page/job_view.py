"""What the page says of jobs: how far they are, what failed in them, what their platform refused; no HTML here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from ....schemas.errors import ConfigError
from ....schemas.jobs import JobSpec
from ....schemas.progress import JobState, Progress, PushRefusal
from ...client.client import Client
from ...client.job import Job

log = logging.getLogger(__name__)

FAILURES = 5
"""Failed items shown per job."""

REFUSED = 500
"""Refused items looked at per job, about: the page is read every few seconds."""

REASONS = 5
"""Reasons of refused items shown."""


@dataclass(frozen=True)
class Failure:
    """One item that has no answer, and why."""

    item: str
    kind: str
    reason: str


@dataclass(frozen=True)
class JobView:
    """One job with what failed in it, and what its platform refused."""

    progress: Progress
    project: int | None
    failures: Sequence[Failure]
    refusals: Sequence[PushRefusal]

    @property
    def percent(self) -> float:
        """How much of it is answered, 0..100: what failed leaves the bar short."""
        total = self.progress.total
        return 100.0 * self.progress.done / total if total else 0.0

    @property
    def can_cancel(self) -> bool:
        """Whether there is something to stop."""
        return not self.progress.state.ended

    @property
    def can_retry(self) -> bool:
        """Whether there is something to send again."""
        return self.progress.failed > 0 and self.progress.state is not JobState.CANCELLED


def read_jobs(client: Client, count: int, project: int | None = None) -> list[JobView]:
    """The newest jobs.

    Args:
        client: the ledger.
        count: how many are looked at.
        project: only those that work for this Label Studio project; None reads all.

    Raises:
        PrelabelError: Redis does not answer.
    """
    listed = client.jobs(count)
    store, patiently = client.connection.store, client.connection.patiently
    specs = patiently(lambda: store.specs([progress.job_id for progress in listed]))
    # One that has expired since it was listed is not shown.
    known = [(progress, specs[progress.job_id]) for progress in listed if progress.job_id in specs]
    return [_job(client, one, spec) for one, spec in known if project in (None, spec.label_studio_project)]


def _job(client: Client, progress: Progress, spec: JobSpec) -> JobView:
    job = Job(client.connection, progress.job_id)
    failures: Sequence[Failure] = ()
    if progress.failed:
        try:
            failures = [
                Failure(prediction.item.images[0].display, prediction.error.kind, prediction.error.message)
                for prediction in islice(job.failures(), FAILURES)
                if prediction.error
            ]
        except ConfigError as error:  # another release wrote them, or they expire just now
            log.debug("job %s is shown without its failures: %s", progress.job_id, error)
    refusals = job.refusals(REFUSED)[:REASONS] if progress.refused else ()
    return JobView(progress=progress, project=spec.label_studio_project, failures=failures, refusals=refusals)
