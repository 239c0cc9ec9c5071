"""Making a project searchable: what is pre-labelled and cannot be found, for want of a vector, is scored once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import reduce
from itertools import chain
from operator import xor
from typing import Any, NamedTuple

from ....schemas import ConfigError, Item, ItemError, PushTarget, Settings
from ...client.client import Client
from ...client.search import without_vector
from ...ledger.catalogue import Catalogue, image_mark, images_by_task
from ..api import tasks
from ..api.connection import LabelStudioAPI
from ..convert.items import item_from_task
from ..convert.questions import Questions, Unusable
from .pausing import connected
from .questions import ProjectReader


class IndexReport(NamedTuple):
    """What came of it.

    Attributes:
        looked_at: pre-labelled tasks that were looked at.
        queued: tasks among them that are scored once more.
        job_id: in this job; empty where there were none.
    """

    looked_at: int
    queued: int
    job_id: str


def index_project(
    settings: Settings,
    *,
    client: Client,
    model: str,
    project: int,
    on_progress: Callable[[int, int], object] | None = None,
) -> IndexReport:
    """Queue those pre-labelled tasks of a project that no search can find.

    Their predictions stay: one that is there already is not pushed twice.

    Args:
        settings: LABEL_STUDIO_URL and API key.
        client: the adapter's and the workers' Redis.
        model: `schemas.model_id` of the adapter's model, for projects that have chosen none.
        project: the project's number.
        on_progress: called with how many tasks were looked at, and how many there are.

    Raises:
        ConfigError: the project is not connected, or cannot be pre-labelled.
        TransientError: Label Studio is down or slow, or no worker that can search is running.
        BrokerUnavailable: Redis does not answer.
    """
    projects = connected(client, project)
    with closing(LabelStudioAPI(settings)) as api:
        label_config = api.project(project).get("label_config") or ""
        questions = ProjectReader(projects, model).read(project, label_config)
        if isinstance(questions, Unusable):
            raise ConfigError(f"project {project}: {questions.problem}")
        lost = without_vector(client.connection, project)
        look = _Look(api, settings, project, questions, client, lost, on_progress)
        items = look.items()
        first = next(items, None)
        if first is None:
            return IndexReport(look.looked_at, 0, "")
        job = client.submit(
            chain((first,), items),
            questions.controls,
            name=f"index of label studio project {project}",
            model=questions.model,
            push=PushTarget(project=project, label_config=label_config),
        )
        projects.add_job(project, job.id)
        return IndexReport(look.looked_at, look.queued, job.id)


class _Look:
    """Looks through a project's pre-labelled tasks."""

    def __init__(
        self,
        api: LabelStudioAPI,
        settings: Settings,
        project: int,
        questions: Questions,
        client: Client,
        lost: set[int],
        on_progress: Callable[[int, int], object] | None,
    ) -> None:
        self._api = api
        self._settings = settings
        self._project = project
        self._questions = questions
        self._lost = lost
        self._on_progress = on_progress
        catalogue = Catalogue(client.connection.redis)
        self._known = images_by_task(client.connection.patiently(lambda: catalogue.tail(project, "")).rows)
        self.looked_at = 0
        self.queued = 0

    def items(self) -> Iterator[Item]:
        """Those that cannot be found as they are now."""
        config = self._questions.config
        listed = tasks.pages(
            self._api, self._project, [tasks.with_version(self._questions.version)], fields=tasks.fields_for(config)
        )
        for page in listed:
            for task in page.tasks:
                self.looked_at += 1
                item = self._item(task)
                if item is not None and not self._is_found(item):
                    self.queued += 1
                    yield item
            if self._on_progress:
                self._on_progress(self.looked_at, max(page.total, self.looked_at))

    def _item(self, task: dict[str, Any]) -> Item | None:
        url, s3_direct = self._settings.label_studio_url, self._settings.s3_direct
        try:
            return item_from_task(task, self._questions.config, url, s3_direct=s3_direct)
        except ItemError:
            return None

    def _is_found(self, item: Item) -> bool:
        images = reduce(xor, (image_mark(image) for image in item.images if not image.problem), 0)
        return int(item.id) not in self._lost and self._known.get(int(item.id)) == images
