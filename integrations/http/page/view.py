"""What the page shows, read from the ledger in one go; no HTML here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ....schemas.errors import PrelabelError
from ....schemas.progress import Recent, WorkerInfo
from ...client.client import Client
from ...label_studio.projects.register import Projects
from .job_view import JobView, read_jobs
from .project_view import ProjectView, project_views

JOBS = 30
"""Jobs looked at, newest first."""

THUMBNAILS = 24


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
        jobs = read_jobs(client, JOBS)
        return PageView(
            now=now,
            workers=client.workers(),
            queues=tuple(client.queues().items()),
            projects=project_views(jobs, connected),
            active=[job for job in jobs if not job.progress.state.ended],
            ended=[job for job in jobs if job.progress.state.ended],
            recent=client.recent(THUMBNAILS),
        )
    except PrelabelError as error:
        return PageView(now=now, problem=str(error))
