"""Pushes: what connected Label Studio projects do not take, and what keeps predictions from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ....integrations.client.client import Client
from ....integrations.client.job import Job
from ....integrations.client.refusals import merged
from ....integrations.label_studio.projects.register import Projects
from ....schemas.progress import Progress, PushRefusal
from ....schemas.settings import Settings
from . import Check, Checks

_JOBS: Final = 200
"""Jobs looked at, the newest first."""

_REFUSED: Final = 1000
"""Refused items looked at per job, about."""

_REASONS: Final = 3
"""Reasons told per project, the most frequent first."""


def check_pushes(settings: Settings, project: int | None) -> Checks:
    """A line for each project to which something is not delivered, or one that there is none.

    Args:
        settings: where Redis is.
        project: look at this one; else at those that are connected.
    """
    with Client(settings.model_copy(update={"broker_wait_s": 0})) as client:  # it is here to say what is wrong
        numbers = Projects(client).numbers() if project is None else [project]
        hampered = [job for job in client.jobs(_JOBS) if job.refused or job.push_problem]
        store, patiently = client.connection.store, client.connection.patiently
        specs = patiently(lambda: store.specs([job.job_id for job in hampered]))
        lines: list[Check] = []
        for number in numbers:
            jobs = [job for job in hampered if job.job_id in specs and specs[job.job_id].label_studio_project == number]
            lines += _project(client, number, jobs)
    yield from lines
    if numbers and not lines:
        names = ", ".join(str(number) for number in numbers)
        yield Check("pushes", "ok", f"project{'s' if len(numbers) > 1 else ''} {names}: nothing is refused")


def _project(client: Client, number: int, jobs: Sequence[Progress]) -> Checks:
    problem = next((job.push_problem for job in jobs if job.push_problem), "")
    if problem:
        yield Check(
            "pushes", "fail", f"project {number}: not pushed at present: {problem}",
            "see the label studio lines, here and beside a worker; what waits is pushed when it is over",
        )  # fmt: skip
    refused = [job for job in jobs if job.refused]
    if not refused:
        return
    count = sum(job.refused for job in refused)
    refusals = merged(refusal for job in refused for refusal in Job(client.connection, job.job_id).refusals(_REFUSED))
    reasons = "; ".join(_told(refusal) for refusal in refusals[:_REASONS])
    yield Check(
        "pushes", "warn", f"project {number} does not take {count} predictions: {reasons}",
        f"correct the project, then prelabel connect --project {number} --all (all reasons: "
        f"prelabel status {refused[0].job_id})",
    )  # fmt: skip


def _told(refusal: PushRefusal) -> str:
    """`2 of them: the task is gone (such as 17, 18)`."""
    return f"{refusal.count} of them: {refusal.reason} (such as {', '.join(refusal.examples)})"
