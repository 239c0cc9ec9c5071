"""One truth per project: where each of its tasks stands, as one set of figures taken at one moment.

What Label Studio holds is Label Studio's own count. What is on its way is read from the jobs that work for the project,
and why the others have no prediction from `Unanswered`. Whoever looks through a project takes them and leaves them in
Redis, so that the page, the metrics and the command line tell the same, and tell it while Label Studio is away.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ....schemas import ConfigError, ModelVersion
from ....schemas.wire import Model
from ...ledger.jobs import NoSuchJob
from ..api import counts
from ..api.connection import LabelStudioAPI
from ..api.tasks import among, with_prediction
from .unanswered import Why

if TYPE_CHECKING:
    from ...client.client import Client
    from .register import Projects

WORDS: Final[Mapping[str, str]] = {
    "prelabelled": "pre-labelled",
    "waiting_worker": "waiting for a worker",
    "waiting_label_studio": "waiting for Label Studio",
    "failed": "failed",
    "dropped": "dropped by Label Studio",
    "unanswerable": "cannot be answered",
    "nothing_chosen": "nothing chosen",
    "not_queued": "not queued",
}
"""The figures that add up to a project's tasks, fields of `ProjectFigures`, with their names for people."""

TROUBLES: Final = ("failed", "dropped", "unanswerable")
"""Those among them that somebody may have to see to."""

CHECKED = 1500
"""Tasks of `Unanswered` that are compared with what Label Studio holds when the figures do not add up."""

_PAGE = 150


class WhyNot(Model):
    """Tasks without a prediction for one reason.

    Attributes:
        why: the figure it is part of, a `Why`.
        text: in words.
        tasks: how many.
    """

    why: Why
    text: str
    tasks: int


class ProjectFigures(Model):
    """Where the tasks of a project stand.

    Each task is counted once: the figures in `WORDS` add up to `tasks`. `annotated` is about people, beside them.

    Attributes:
        project: its number.
        title: its title.
        version: the model version its label config asks for; empty when it cannot be pre-labelled.
        tasks: all tasks.
        prelabelled: Label Studio holds a prediction of that version.
        waiting_worker: queued, and not scored yet.
        waiting_label_studio: scored, and not pushed yet.
        failed: scoring failed.
        dropped: Label Studio did not take the prediction.
        unanswerable: cannot be scored as they are.
        nothing_chosen: scored, and no label reached its threshold.
        not_queued: nobody has asked for them: older than the connection, or of a job that was cancelled.
        annotated: a person has submitted an annotation.
        outdated: predictions of earlier versions of ours that are still there.
        total_predictions: of anybody, as Label Studio counts them.
        reasons: why tasks have no prediction, the most frequent first.
        counted_at: Unix seconds.
    """

    project: int
    title: str = ""
    version: str = ""
    tasks: int = 0
    prelabelled: int = 0
    waiting_worker: int = 0
    waiting_label_studio: int = 0
    failed: int = 0
    dropped: int = 0
    unanswerable: int = 0
    nothing_chosen: int = 0
    not_queued: int = 0
    annotated: int = 0
    outdated: int = 0
    total_predictions: int = 0
    reasons: tuple[WhyNot, ...] = ()
    counted_at: float = 0.0

    def told(self) -> list[tuple[str, str, int]]:
        """The figures in `WORDS`: field, name for people, count."""
        return [(name, words, getattr(self, name)) for name, words in WORDS.items()]

    @property
    def waiting(self) -> int:
        """Tasks on their way."""
        return self.waiting_worker + self.waiting_label_studio


def take(
    api: LabelStudioAPI,
    client: Client,
    projects: Projects,
    project: int,
    version: str,
    there: dict[str, Any],
) -> ProjectFigures:
    """Count now, and keep the figures for whoever asks.

    Args:
        api: Label Studio.
        client: the ledger.
        projects: what is known of the project.
        project: its number.
        version: the model version its label config asks for.
        there: the project as Label Studio has just described it.

    Raises:
        NotThere: the project is gone.
        PrelabelError: Label Studio or Redis is unavailable, or refuses us.
    """
    # The jobs first: what is pushed in between is then counted as waiting and as held, and the sum is cut below.
    waiting_worker, waiting_label_studio = _waiting(client, projects, project)
    tasks, annotated = counts.of_project(there)
    predictions = counts.predictions(api, project)
    held = min(tasks, predictions.get(version, 0))
    room = tasks - held
    waiting_worker = min(waiting_worker, room)
    waiting_label_studio = min(waiting_label_studio, room - waiting_worker)
    room -= waiting_worker + waiting_label_studio
    if sum(one.tasks for one in projects.unanswered.groups(project)) > room:
        _forget_answered(api, projects, project, version)
    reasons, by_why = [], dict.fromkeys(Why, 0)
    for group in projects.unanswered.groups(project):
        some = min(group.tasks, room)
        room -= some
        by_why[group.why] += some
        if some:
            reasons.append(WhyNot(why=group.why, text=group.text, tasks=some))
    figures = ProjectFigures(
        project=project,
        title=str(there.get("title") or "").strip(),
        version=version,
        tasks=tasks,
        prelabelled=held,
        waiting_worker=waiting_worker,
        waiting_label_studio=waiting_label_studio,
        failed=by_why[Why.FAILED],
        dropped=by_why[Why.DROPPED],
        unanswerable=by_why[Why.UNANSWERABLE],
        nothing_chosen=by_why[Why.NOTHING_CHOSEN],
        not_queued=room,
        annotated=annotated,
        outdated=sum(n for old, n in predictions.items() if old != version and ModelVersion.is_ours(old)),
        total_predictions=_total_predictions(there),
        reasons=tuple(reasons),
        counted_at=time.time(),
    )
    projects.keep_figures(project, figures.model_dump_json(exclude_defaults=True))
    return figures


def refresh(
    api: LabelStudioAPI, client: Client, projects: Projects, project: int, version: str, there: dict[str, Any]
) -> ProjectFigures:
    """The figures of a project that is looked at every minute: Label Studio counts only where something has changed.

    Takes what `take` takes, and raises what it raises.
    """
    before = last(projects, [project]).get(project)
    if before is not None and before.version == version and before.total_predictions == _total_predictions(there):
        same = (before.tasks, before.annotated) == counts.of_project(there)
        lacking = sum(one.tasks for one in projects.unanswered.groups(project))
        settled = not before.waiting and lacking == sum(one.tasks for one in before.reasons)
        if same and settled and not projects.working(project):
            figures = before.model_copy(update={"counted_at": time.time()})
            projects.keep_figures(project, figures.model_dump_json(exclude_defaults=True))
            return figures
    return take(api, client, projects, project, version, there)


def _total_predictions(there: dict[str, Any]) -> int:
    return int(there.get("total_predictions_number") or 0)


def last(projects: Projects, numbers: Sequence[int]) -> dict[int, ProjectFigures]:
    """The figures that were taken last, of the projects that have some.

    Args:
        projects: where they are kept.
        numbers: the projects' numbers.
    """
    figures = {}
    for number, raw in projects.kept_figures(numbers).items():
        try:
            figures[number] = ProjectFigures.from_json(raw)
        except ConfigError:  # another release's: the next look writes ours
            continue
    return figures


def _waiting(client: Client, projects: Projects, project: int) -> tuple[int, int]:
    """Tasks that wait for a worker, and for Label Studio."""
    worker = label_studio = 0
    for job_id in projects.working(project):
        try:
            progress = client.job(job_id).progress()
        except (NoSuchJob, ConfigError):  # it has just expired, or another release wrote it
            continue
        if not progress.state.ended:
            worker += progress.pending
        label_studio += max(0, progress.done - progress.pushed - progress.refused)
    return worker, label_studio


def _forget_answered(api: LabelStudioAPI, projects: Projects, project: int, version: str) -> None:
    """Drop entries of tasks that are gone, or were answered by somebody else, as far as a few requests reach."""
    checked = 0
    for page in projects.unanswered.pages(project, _PAGE):
        there = among(api, project, page)
        settled = (set(page) - there) | with_prediction(api, project, sorted(there), version)
        projects.unanswered.record(project, dict.fromkeys(settled))
        checked += len(page)
        if checked >= CHECKED:
            return
