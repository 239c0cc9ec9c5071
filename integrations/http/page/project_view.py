"""What the page says of Label Studio projects: where their tasks stand, and what is wrong; no HTML here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ....schemas.errors import ConfigError, PrelabelError
from ....schemas.progress import PushRefusal, Recent
from ...client.client import Client
from ...client.refusals import merged
from ...label_studio.projects import figures
from ...label_studio.projects.figures import ProjectFigures
from ...label_studio.projects.register import Projects
from ...label_studio.projects.state import ProjectState
from ...ledger.recent import KEPT
from .job_view import REASONS, JobView, read_jobs

OLD_S = 90.0
"""Seconds after which figures are told with their age: a look that finds nothing new comes every minute."""

PROJECT_JOBS = 200
"""Jobs looked at for those of one project, the newest first."""

SHOWN = 24
"""Predictions shown."""


@dataclass(frozen=True)
class ProjectView:
    """A Label Studio project.

    Attributes:
        figures: where its tasks stood when they were last counted; None when they never were.
        state: what is kept of it; None when it is not connected, or cannot be read.
        jobs: those of its jobs that the page knows, the newest first.
        connected: whether new tasks of it are looked for.
        problem: why nothing in it is pre-labelled at present; empty when all is well.
    """

    number: int
    figures: ProjectFigures | None
    state: ProjectState | None
    jobs: Sequence[JobView]
    connected: bool
    problem: str = ""

    @property
    def title(self) -> str:
        """Its title where that is known."""
        return self.figures.title if self.figures and self.figures.title else f"Project {self.number}"

    @property
    def active(self) -> bool:
        """Whether a job of it is under way."""
        return any(job.can_cancel for job in self.jobs)

    @property
    def held(self) -> str:
        """Why nothing of it is queued though it is connected: "paused", "stopped", or nothing."""
        if self.state is None:
            return ""
        return "paused" if self.state.paused else "stopped" if self.state.stopped else ""

    @property
    def share(self) -> float:
        """How much of it is pre-labelled, 0..100."""
        return 100.0 * self.figures.prelabelled / self.figures.tasks if self.figures and self.figures.tasks else 0.0

    @property
    def push_problem(self) -> str:
        """Why nothing can be pushed to it at present; empty when all is well."""
        return next((job.progress.push_problem for job in self.jobs if job.progress.push_problem), "")

    @property
    def waiting_for(self) -> str:
        """What its jobs lack to go on, and the fix, where no worker serves their model; empty when all is well."""
        return next((job.progress.waiting_for for job in self.jobs if job.progress.waiting_for), "")

    @property
    def refusals(self) -> Sequence[PushRefusal]:
        """Why Label Studio did not take predictions of these jobs, the most frequent reason first."""
        return merged(refusal for job in self.jobs for refusal in job.refusals)[:REASONS]

    @property
    def can_retry(self) -> bool:
        """Whether a job of it has failed items."""
        return any(job.can_retry for job in self.jobs)

    def is_old(self, now: float) -> bool:
        """Whether the figures are to be told with their age."""
        return self.figures is not None and now - self.figures.counted_at > OLD_S


@dataclass(frozen=True)
class ProjectPage:
    """Everything on a project's own page.

    Attributes:
        now: Unix seconds it was read at.
        problem: why nothing can be shown; empty when all is well.
        recent: predictions of it that were made lately.
    """

    now: float
    project: ProjectView | None = None
    problem: str = ""
    recent: Sequence[Recent] = field(default_factory=tuple)


def project_views(jobs: Sequence[JobView], connected: Projects) -> list[ProjectView]:
    """Every connected project, and every other one that a job on the page works for.

    Raises:
        PrelabelError: Redis does not answer.
    """
    served = connected.numbers()
    counted = figures.last(connected, served)
    of_jobs = {job.project for job in jobs if job.project is not None}
    return [_view(number, jobs, connected, served, counted) for number in sorted({*served, *of_jobs})]


def read_project(client: Client, connected: Projects, number: int) -> ProjectPage:
    """A project's own page now. Never raises `PrelabelError`: a Redis that is away is what it says then."""
    now = time.time()
    try:
        jobs = [job for job in read_jobs(client, PROJECT_JOBS, number) if job.project == number]
        served = [number] if connected.serves(number) else []
        view = _view(number, jobs, connected, served, figures.last(connected, served))
        recent = [one for one in client.recent(KEPT) if one.project == number][:SHOWN]
        return ProjectPage(now=now, project=view, recent=recent)
    except PrelabelError as error:
        return ProjectPage(now=now, problem=str(error))


def _view(
    number: int,
    jobs: Sequence[JobView],
    connected: Projects,
    served: Sequence[int],
    counted: dict[int, ProjectFigures],
) -> ProjectView:
    state, problem = None, ""
    if number in served:
        try:
            state = connected.state(number)
            problem = state.problem
        except ConfigError as error:  # one project must not take the page with it
            problem = str(error)
    return ProjectView(
        number=number,
        figures=counted.get(number),
        state=state,
        jobs=[job for job in jobs if job.project == number],
        connected=number in served,
        problem=problem,
    )
