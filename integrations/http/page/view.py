"""What the page shows, read from the ledger in one go; no HTML here."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from ....schemas.errors import ConfigError, PrelabelError
from ....schemas.jobs import JobSpec
from ....schemas.progress import JobState, Progress, PushRefusal, Recent, WorkerInfo
from ...client.client import Client
from ...client.job import Job
from ...client.refusals import merged
from ...label_studio.projects.register import Projects

log = logging.getLogger(__name__)

JOBS = 30
"""Jobs looked at, newest first."""

FAILURES = 5
"""Failed items shown per job."""

REFUSED = 500
"""Refused items looked at per job, about: the page is read every few seconds."""

REASONS = 5
"""Reasons of refused items shown."""

THUMBNAILS = 24


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


@dataclass(frozen=True)
class ProjectView:
    """A Label Studio project, summed up over its jobs on the page.

    Attributes:
        connected: whether new tasks of it are looked for.
        problem: why nothing in it is pre-labelled at present; empty when all is well.
        push_problem: why nothing can be pushed to it at present; empty when all is well.
        refusals: why Label Studio did not take predictions, the most frequent reason first.
    """

    number: int
    url: str | None
    waiting: int
    answered: int
    failed: int
    refused: int
    active: bool
    connected: bool
    problem: str
    push_problem: str
    refusals: Sequence[PushRefusal]


@dataclass(frozen=True)
class PageView:
    """Everything on the page.

    Attributes:
        problem: why nothing can be shown, for people; empty when all is well.
        now: Unix seconds it was read at.
    """

    now: float
    problem: str = ""
    workers: Sequence[WorkerInfo] = ()
    queues: Sequence[tuple[str, int]] = ()
    projects: Sequence[ProjectView] = ()
    active: Sequence[JobView] = ()
    ended: Sequence[JobView] = ()
    recent: Sequence[Recent] = ()


def read_page(client: Client, connected: Projects) -> PageView:
    """The page's content now. Never raises `PrelabelError`: a Redis that is away is what the page says then."""
    now = time.time()
    try:
        listed = client.jobs(JOBS)
        store, patiently = client.connection.store, client.connection.patiently
        specs = patiently(lambda: store.specs([progress.job_id for progress in listed]))
        # One that has expired since it was listed is not shown.
        jobs = [_job(client, progress, specs[progress.job_id]) for progress in listed if progress.job_id in specs]
        return PageView(
            now=now,
            workers=client.workers(),
            queues=tuple(client.queues().items()),
            projects=_projects(jobs, connected, client.settings.label_studio_url),
            active=[job for job in jobs if not job.progress.state.ended],
            ended=[job for job in jobs if job.progress.state.ended],
            recent=client.recent(THUMBNAILS),
        )
    except PrelabelError as error:
        return PageView(now=now, problem=str(error))


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


def _projects(jobs: Sequence[JobView], connected: Projects, label_studio_url: str | None) -> list[ProjectView]:
    served = set(connected.numbers())
    views = []
    for number in sorted(served | {job.project for job in jobs if job.project is not None}):
        mine = [job for job in jobs if job.project == number]
        views.append(
            ProjectView(
                number=number,
                url=f"{label_studio_url}/projects/{number}/data" if label_studio_url else None,
                waiting=sum(job.progress.pending for job in mine if job.can_cancel),
                answered=sum(job.progress.done for job in mine),
                failed=sum(job.progress.failed for job in mine),
                refused=sum(job.progress.refused for job in mine),
                active=any(job.can_cancel for job in mine),
                connected=number in served,
                problem=_problem(connected, number) if number in served else "",
                push_problem=next((job.progress.push_problem for job in mine if job.progress.push_problem), ""),
                refusals=merged(refusal for job in mine for refusal in job.refusals)[:REASONS],
            )
        )
    return views


def _problem(connected: Projects, number: int) -> str:
    try:
        return connected.state(number).problem
    except ConfigError as error:  # one project must not take the page with it
        return str(error)
