"""Answering `/predict` within the seconds a person waits for a task to open, and queueing what is not ready.

Label Studio 1.23 calls it in the middle of a web request, with one task when a person opens it and with every
task of the project for "Retrieve Predictions". Its reply must have one entry per task: `[]` stores nothing and
Label Studio asks again, whereas null breaks the task's page and an empty result blocks later predictions.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ....schemas import Item, ItemError, Prediction, PrelabelError, Priority, PushTarget, Settings
from ..convert.items import has_version, item_from_task, project_number
from ..convert.questions import Questions, Unusable
from ..convert.regions import copies_of
from ..convert.results import copies_left_out, prediction_to_label_studio
from ..label_config.config import LabelConfig
from ..projects.held import HeldTasks
from ..projects.questions import ProjectReader
from ..projects.register import Projects, Submitted
from .counters import PredictCounters

if TYPE_CHECKING:
    from ...client.client import Client
    from ...client.job import Job

log = logging.getLogger(__name__)

Entry = list[dict[str, Any]]
"""One task's entry in a reply: a list with its prediction, or an empty one."""

BUSY_CHECK_S = 3.0
"""Seconds until it is looked whether somebody else's delivery is there: it may have been, and be deleted again."""

INLINE_S = 60.0
"""Seconds within which Label Studio has stored what a reply to /predict held; until then nobody pushes the same."""

_MARGIN_S = 30.0
"""Seconds beyond the wait after which the claim of an adapter that has died is void."""


class Predictor:
    """Queues tasks, waits for what comes in time and leaves the rest to the push.

    Args:
        projects: who delivers what, and what is queued already.
        reader: reads projects' label configs.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        settings: Settings,
        client: Client,
        projects: Projects,
        reader: ProjectReader,
        counters: PredictCounters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._client = client
        self._projects = projects
        self._reader = reader
        self._counters = counters
        self._clock = clock
        has_key = settings.label_studio_api_key is not None and bool(settings.label_studio_api_key.get_secret_value())
        self._label_studio_url = settings.label_studio_url if has_key else None

    def predict(self, tasks: Sequence[Any], project: object, label_config: str) -> list[Entry]:
        """One entry per task, in order. Never raises; waits at most `predict_wait_s`."""
        entries: list[Entry] = [[] for _ in tasks]
        try:
            self._fill(entries, tasks, project_number(project), label_config)
        except PrelabelError as error:
            log.warning("/predict: %d tasks are not answered: %s", len(tasks), error)
            self._counters.tasks("unavailable", len(tasks))
        except Exception:  # a reply with an entry per task is what keeps Label Studio's page alive
            log.exception("/predict: %d tasks are not answered", len(tasks))
            self._counters.tasks("unavailable", len(tasks))
        return entries

    def _fill(self, entries: list[Entry], tasks: Sequence[Any], project: int | None, label_config: str) -> None:
        questions = self._reader.read(project, label_config)
        if isinstance(questions, Unusable):
            log.warning("/predict: project %s cannot be pre-labelled: %s", project, questions.problem)
            self._counters.tasks("refused", len(tasks))
            return
        if project is not None and self._projects.rests(project):
            self._counters.tasks("paused", len(tasks))
            return
        places = self._items(tasks, questions)
        if not places:
            return
        if len(places) <= self._settings.predict_wait_tasks and self._settings.predict_wait_s > 0:
            self._answer(entries, tasks, places, questions, project, label_config)
        else:
            self._queue([item for _, item in places], questions, project, label_config)

    def _answer(
        self,
        entries: list[Entry],
        tasks: Sequence[Any],
        places: list[tuple[int, Item]],
        questions: Questions,
        project: int | None,
        label_config: str,
    ) -> None:
        """Answer a few tasks now, as far as there is time; leave those to others that others deliver already."""
        claims, number, who = self._projects.claims, project or 0, secrets.token_hex(8)
        deliveries = [(int(item.id), questions.version) for _, item in places]
        taken = claims.take(number, deliveries, who, self._settings.predict_wait_s + _MARGIN_S)
        self._counters.tasks("busy", taken.count(False))
        if self._push(project, label_config, hold=True) is not None:
            # What others have just delivered may be deleted again already: it is looked at, and queued if it is.
            theirs = [one for one, is_ours in zip(deliveries, taken, strict=True) if not is_ours]
            claims.verify_later(number, theirs, BUSY_CHECK_S)
        places = [one for one, is_ours in zip(places, taken, strict=True) if is_ours]
        if not places:
            return
        delivered: list[int] = []
        items = [item for _, item in places]
        push = self._push(project, label_config, hold=True)
        try:
            job = self._submit(items, questions, Priority.INTERACTIVE, push, project)
            asked = [tasks[position] for position, _ in places]
            delivered = self._wait(job, entries, [position for position, _ in places], asked, questions.config)
        finally:
            inline = [(int(items[ordinal].id), questions.version) for ordinal in delivered]
            others = [(int(item.id), questions.version) for item in items]
            claims.let_go(number, [one for one in others if one not in inline], who)
            claims.let_go(number, inline, who, INLINE_S if push is not None else 0.0)  # else nobody pushes
        self._counters.tasks("inline", len(delivered))
        self._counters.tasks("deferred", len(items) - len(delivered))
        if push is not None:
            claims.verify_later(number, inline, INLINE_S)
            job.release_push(delivered)

    def _queue(self, items: list[Item], questions: Questions, project: int | None, label_config: str) -> None:
        """Queue many tasks, but for those a job under way has in hand.

        What a job has pushed meanwhile, after Label Studio made its list, is scored again, and the push then leaves it.
        """
        if project is not None and (job_ids := self._projects.working(project)):
            before = self._projects.submitted(project, [int(item.id) for item in items])
            with HeldTasks(self._client, job_ids, questions.version) as held:
                free = [
                    item
                    for item, old in zip(items, before, strict=True)
                    if item.id not in held
                    or (old is not None and old.images != Submitted.of(questions.version, item).images)
                ]
            self._counters.tasks("busy", len(items) - len(free))
            items = free
        if items:
            push = self._push(project, label_config, hold=False)
            priority = Priority.BULK if project is None else self._projects.state(project).priority
            self._submit(items, questions, priority, push, project)
            self._counters.tasks("deferred", len(items))

    def _items(self, tasks: Sequence[Any], questions: Questions) -> list[tuple[int, Item]]:
        """The tasks to score as items, each with its place among the tasks."""
        places = []
        for position, task in enumerate(tasks):
            if not isinstance(task, dict):
                self._counters.tasks("refused")
            elif has_version(task, questions.version):
                self._counters.tasks("known")
            else:
                try:
                    item = item_from_task(
                        task, questions.config, self._label_studio_url, s3_direct=self._settings.s3_direct
                    )
                    if item.problem:
                        log.info("task %s is pre-labelled in part: %s", item.id, item.problem)
                    places.append((position, item))
                except ItemError as error:
                    log.info("task %s is not pre-labelled: %s", task.get("id"), error)
                    self._counters.tasks("refused")
        return places

    def _submit(
        self, items: list[Item], questions: Questions, priority: Priority, push: PushTarget | None, project: int | None
    ) -> Job:
        job = self._client.submit(
            items,
            questions.controls,
            priority=priority,
            name=f"label studio project {project}",
            model=questions.model,
            push=push,
        )
        if push is not None:
            self._projects.add_job(push.project, job.id)
            known = {int(item.id): Submitted.of(questions.version, item) for item in items}
            self._projects.record(push.project, known)
            self._projects.unanswered.record(push.project, dict.fromkeys(known))
        return job

    def _wait(
        self,
        job: Job,
        entries: list[Entry],
        positions: Sequence[int],
        tasks: Sequence[Mapping[str, Any]],
        config: LabelConfig,
    ) -> list[int]:
        """Fill in what comes within `predict_wait_s`; returns the ordinals that were filled in."""
        delivered = []
        started = self._clock()
        try:
            for prediction in job.results(timeout=self._settings.predict_wait_s):
                if (entry := _entry(prediction, config, tasks[prediction.ordinal])) is not None:
                    entries[positions[prediction.ordinal]] = [entry]
                    delivered.append(prediction.ordinal)
        except TimeoutError:
            pass
        except PrelabelError as error:
            log.warning("/predict: stopped waiting for job %s: %s", job.id, error)
        self._counters.waited(self._clock() - started)
        return delivered

    def _push(self, project: int | None, label_config: str, *, hold: bool) -> PushTarget | None:
        if self._label_studio_url is None or project is None:
            return None
        return PushTarget(project=project, label_config=label_config, hold=hold)


def _entry(prediction: Prediction, config: LabelConfig, task: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the reply holds; None: there is nothing to show, or the task brings other regions than were labelled."""
    left_out = copies_left_out(prediction, config)
    try:
        entry = prediction_to_label_studio(prediction, config, copies_of(task, left_out) if left_out else None)
    except ItemError as error:
        log.info("task %s is not answered in the reply: %s", prediction.item.id, error)
        return None
    if entry is not None:
        del entry["task"]
    return entry
