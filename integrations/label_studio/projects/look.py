"""One look through one project: what is queued, under which version, and what is outdated."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ....schemas import Item, ItemError, ModelVersion, PushTarget, Settings
from ...client.capable import refuse_unanswerable
from ..api import tasks
from ..api.connection import LabelStudioAPI
from ..convert.items import item_from_task
from ..convert.questions import Questions
from . import registration
from .figures import refresh, take
from .held import HeldTasks
from .listing import Listing
from .register import Projects, Submitted
from .shown import is_ours_to_change, show, version_to_show
from .state import ProjectState
from .stored import StoredVectors
from .unanswered import Reason, Why

if TYPE_CHECKING:
    from ...client.client import Client

log = logging.getLogger(__name__)

LOOK_THROUGH_S = 3600.0
"""Seconds between looks through all tasks that lack our version; in between only changed ones are looked at."""


class Desk(NamedTuple):
    """What looks work with.

    Attributes:
        api: Label Studio.
        client: where tasks are queued.
        projects: what is known of them.
    """

    api: LabelStudioAPI
    client: Client
    projects: Projects


@dataclass
class LookReport:
    """What a look through a project found.

    Attributes:
        version: the model version its config asks for; empty when it cannot be pre-labelled.
        problem: why it cannot.
        queued: tasks queued.
        job_id: with this job; empty when there was nothing to queue.
        refused: tasks that cannot be scored.
        refusal: the first of them, and why.
        partial: tasks queued of which a part cannot be answered.
        gap: the first of them, and why.
        under_way: tasks without a prediction that a job under way has in hand.
    """

    version: str = ""
    problem: str = ""
    queued: int = 0
    job_id: str = ""
    refused: int = 0
    refusal: str = ""
    partial: int = 0
    gap: str = ""
    under_way: int = 0

    def __iadd__(self, other: LookReport) -> Self:
        """What both found; the first job, and the first of those that cannot be scored."""
        self.queued += other.queued
        self.refused += other.refused
        self.partial += other.partial
        self.under_way += other.under_way
        self.version = other.version
        self.job_id = self.job_id or other.job_id
        self.refusal = self.refusal or other.refusal
        self.gap = self.gap or other.gap
        return self


class Look:
    """One look through one project.

    What it has found of each task stands in Redis, and counts once all are submitted: a project may have any number.

    Args:
        desk: what it works with.
        project: the project's number.
        label_config: its label config, XML.
        questions: what that asks.
        state: what is known of the project.
        renew: keeps the project ours; called with every page of tasks.
        everything: queue every task without our version, whether or not it was queued before; but for what a job under
            way has in hand.
    """

    def __init__(
        self,
        desk: Desk,
        project: int,
        label_config: str,
        questions: Questions,
        state: ProjectState,
        renew: Callable[[], object],
        *,
        everything: bool,
    ) -> None:
        self._api, self._client, self._projects = desk.api, desk.client, desk.projects
        self._settings: Settings = desk.client.settings
        self._project = project
        self._label_config = label_config
        self._questions = questions
        self._config = questions.config
        self._version = questions.version
        self._state = state
        self._renew = renew
        self._everything = everything
        self._is_new_version = bool(state.version) and state.version != questions.version
        # What was submitted once is submitted again for a version that has just come back, and when somebody asks.
        self._repeat = self._is_new_version or everything
        self._held: Container[object] = ()
        self._report = LookReport(version=questions.version)
        fields = tasks.fields_for(self._config)
        self._listing = Listing(desk.api, project, questions.version, state, fields, renew)

    def run(self, there: dict[str, Any]) -> LookReport:
        """Queue what is to be queued; keep title and shown version in step; say whether there is something outdated.

        Args:
            there: the project as Label Studio describes it.

        Raises:
            PrelabelError: Label Studio or Redis is unavailable, or refuses us.
        """
        started = time.time()
        through = (
            self._everything
            or self._is_new_version
            or not self._state.since
            or started - self._state.looked > LOOK_THROUGH_S
        )
        if self._is_new_version:
            log.info("project %s: %s asks for %s now", self._project, self._state.version, self._version)
        listed = self._listing.through(everything=self._everything, is_new_version=self._is_new_version)
        self.queue(chain(listed if through else (), self._listing.changed() if self._state.since else ()))
        fields: dict[str, Any] = {"version": self._version, "problem": ""}
        if self._listing.at:
            fields["since"] = self._listing.at
        if through:
            fields["looked"] = started
        if self._is_new_version:
            fields["prune"] = True
        self._projects.update(self._project, **fields)
        if not self._report.queued and not self._projects.working(self._project):
            self._settle(str(there.get("model_version") or ""))
        if self._state.backend_url and self._state.title != self._version:
            self._rename()
        if through:
            self._projects.shorten_catalogue(self._project)
        count = take if through else refresh
        count(self._api, self._client, self._projects, self._project, self._version, there)
        return self._report

    def queue(self, listed: Iterator[dict[str, Any]] | Sequence[dict[str, Any]] | chain[dict[str, Any]]) -> LookReport:
        """Submit what is to be scored among listed tasks, as one job, while they are being listed."""
        self._projects.forget_notes(self._project)
        with self._in_hand() as self._held:
            items = self._to_score(listed)
            first = next(items, None)
            if first is not None:
                self._submit(chain((first,), items))
        self._projects.record_notes(self._project, self._renew)
        return self._report

    def _in_hand(self) -> AbstractContextManager[Container[object]]:
        """What jobs under way have in hand, before Label Studio lists what it lacks."""
        if not self._repeat:
            return nullcontext(())
        return HeldTasks(self._client, self._projects.working(self._project), self._version)

    def _submit(self, items: Iterator[Item]) -> None:
        job = self._client.submit(
            items,
            self._questions.controls,
            priority=self._state.priority,
            name=f"label studio project {self._project}",
            model=self._questions.model,
            push=PushTarget(project=self._project, label_config=self._label_config),
        )
        self._report.job_id = job.id
        self._projects.add_job(self._project, job.id)

    def refuse_unanswerable(self) -> None:
        """Refuse to go on where the project's model cannot answer what is asked; before a prediction is removed.

        Raises:
            ConfigError: it cannot; says why, and what to do.
            BrokerUnavailable: Redis does not answer.
        """
        refuse_unanswerable(self._client.connection, self._questions.model, self._questions.controls)

    def numbered(self, numbers: Sequence[int], *, labelled_too: bool = False) -> Iterator[dict[str, Any]]:
        """Some tasks by their numbers; see `Listing.numbered`."""
        return self._listing.numbered(numbers, labelled_too=labelled_too)

    def _to_score(self, listed: Iterator[dict[str, Any]] | Any) -> Iterator[Item]:
        listed = iter(listed)
        with closing(StoredVectors(self._client, self._project, self._questions.model)) as vectors:
            while some := list(islice(listed, tasks.PAGE_SIZE)):
                batch = {int(task["id"]): task for task in some}  # one may be listed by several filters
                for item in self._wanted(batch):
                    self._report.queued += 1
                    if item.problem:
                        self._report.partial += 1
                        self._report.gap = self._report.gap or f"task {item.id}: {item.problem}"
                    yield vectors.add_to(item) if self._is_new_version else item

    def _wanted(self, batch: Mapping[int, dict[str, Any]]) -> Iterator[Item]:
        seen = self._projects.noted(self._project, list(batch))
        fresh = [task for task, is_seen in zip(batch.values(), seen, strict=True) if not is_seen]
        before = self._projects.submitted(self._project, [task["id"] for task in fresh])
        notes: dict[int, Submitted | None] = {}
        became: dict[int, Reason | None] = {}
        for task, known in zip(fresh, before, strict=True):
            try:
                item = item_from_task(
                    task, self._config, self._settings.label_studio_url, s3_direct=self._settings.s3_direct
                )
            except ItemError as error:
                self._report.refused += 1
                self._report.refusal = self._report.refusal or f"task {task['id']}: {error}"
                notes[task["id"]] = None
                became[task["id"]] = Reason(Why.UNANSWERABLE, str(error))
                continue
            now = Submitted.of(self._version, item)
            versions = tasks.versions_of(task)
            other_images = known is not None and known.images != now.images
            if self._version in versions:
                if other_images:
                    self._remove_outdated(task["id"])
                elif known is not None:
                    continue
            elif task["id"] in self._held and (known is None or known.images == now.images):
                self._report.under_way += 1
                notes[task["id"]] = now
                continue
            elif known == now and not self._repeat:
                continue  # it is on its way, or cannot be scored, or its prediction was not wanted
            elif not (self._everything or known is not None or self._is_ours(task["id"], versions)):
                continue
            notes[task["id"]] = now
            became[task["id"]] = None
            if self._version not in versions or other_images:
                yield item
        self._projects.note(self._project, notes)
        self._projects.unanswered.record(self._project, became)

    def _is_ours(self, number: int, versions: set[str]) -> bool:
        """Whether a task is to be pre-labelled without being asked for."""
        return number > self._state.floor or any(ModelVersion.is_ours(version) for version in versions)

    def _remove_outdated(self, task: int) -> None:
        """Remove our prediction of images the task does not show any more."""
        self.refuse_unanswerable()
        with self._api.errors(f"predictions of task {task}"):
            for prediction in self._api.json("GET", "api/predictions/", params={"task": task}):
                if prediction["model_version"] == self._version:
                    self._api.json("DELETE", f"api/predictions/{prediction['id']}/")

    def _rename(self) -> None:
        """Give our ML backend the version as its title once that may be shown, unless somebody has deleted it."""
        url = self._state.backend_url
        if version_to_show(self._api, self._project, self._version) != self._version:
            return
        if any(registration.is_at(one, url) for one in registration.backends(self._api, self._project)):
            registration.register(self._api, self._settings, self._project, url, self._version)
            self._projects.update(self._project, title=self._version)

    def _settle(self, shown: str) -> None:
        """All is scored and pushed: show the version, if there is any of it. What is outdated then is the cleaner's."""
        if shown != self._version and is_ours_to_change(shown) and self._state.backend_url:
            show(self._api, self._project, version_to_show(self._api, self._project, self._version))
