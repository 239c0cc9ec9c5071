"""Answering `/predict` within the seconds a person waits for a task to open, and queueing what is not ready.

Label Studio 1.23 calls it in the middle of a web request, with one task when a person opens it and with every
task of the project for "Retrieve Predictions". Its reply must have one entry per task: `[]` stores nothing and
Label Studio asks again, whereas null breaks the task's page and an empty result blocks later predictions.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...schemas import Item, ItemError, Prediction, PrelabelError, Priority, PushTarget, Settings
from ...schemas.label_config import LabelConfig
from .convert import has_version, item_from_task, prediction_to_label_studio, project_number
from .metrics import Metrics
from .questions import Questions

if TYPE_CHECKING:
    from ..client import Client, Job

log = logging.getLogger(__name__)

Entry = list[dict[str, Any]]
"""One task's entry in a reply: a list with its prediction, or an empty one."""

REMEMBER_S = {Priority.INTERACTIVE: 60.0, Priority.BULK: 300.0}
"""Seconds during which a task whose answer was promised as a push is not queued again with this priority."""

_Key = tuple[int | None, str, str, Priority]


class Predictor:
    """Queues tasks, waits for what comes in time and leaves the rest to the push.

    Args:
        read: from a label config to its `Questions`.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        settings: Settings,
        client: Client,
        read: Callable[[str], Questions],
        model: str,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._client = client
        self._read = read
        self._model = model
        self._metrics = metrics
        self._clock = clock
        self._busy = _Busy(clock)
        has_key = settings.label_studio_api_key is not None and bool(settings.label_studio_api_key.get_secret_value())
        self._label_studio_url = settings.label_studio_url if has_key else None

    def predict(self, tasks: Sequence[Any], project: object, label_config: str) -> list[Entry]:
        """One entry per task, in order. Never raises; waits at most `predict_wait_s`."""
        entries: list[Entry] = [[] for _ in tasks]
        try:
            self._fill(entries, tasks, project_number(project), label_config)
        except PrelabelError as error:
            log.warning("/predict: %d tasks are not answered: %s", len(tasks), error)
            self._metrics.tasks("unavailable", len(tasks))
        except Exception:  # a reply with an entry per task is what keeps Label Studio's page alive
            log.exception("/predict: %d tasks are not answered", len(tasks))
            self._metrics.tasks("unavailable", len(tasks))
        return entries

    def enqueue(self, tasks: Sequence[Any], project: object, label_config: str, name: str) -> int:
        """Queue new tasks in bulk, to be pushed when done; without a way to push there is no use in it.

        Returns:
            How many were queued.

        Raises:
            PrelabelError: the broker is down.
        """
        questions = self._read(label_config)
        push = self._push(project_number(project), label_config, hold=False)
        if questions.config is None or push is None:
            log.info(
                "%s: nothing queued: %s", name, questions.problem or "no LABEL_STUDIO_URL and API key to push with"
            )
            return 0
        items = [item for _, item in self._items(tasks, questions.config, questions.version)]
        if items:
            self._submit(items, questions, Priority.BULK, push, name)
        return len(items)

    def _fill(self, entries: list[Entry], tasks: Sequence[Any], project: int | None, label_config: str) -> None:
        questions = self._read(label_config)
        config = questions.config
        if config is None:
            log.warning("/predict: project %s cannot be pre-labelled: %s", project, questions.problem)
            self._metrics.tasks("refused", len(tasks))
            return
        found = self._items(tasks, config, questions.version)
        waits = len(found) <= self._settings.predict_wait_tasks and self._settings.predict_wait_s > 0
        priority = Priority.INTERACTIVE if waits else Priority.BULK
        keys = [(project, item.id, questions.version, priority) for _, item in found]
        free = self._busy.claim(keys)
        self._metrics.tasks("busy", len(keys) - len(free))
        if not free:
            return
        found, keys = [found[index] for index in free], [keys[index] for index in free]
        promised = False
        try:
            push = self._push(project, label_config, hold=waits)
            items = [item for _, item in found]
            job = self._submit(items, questions, priority, push, f"label studio project {project}")
            promised = push is not None
            delivered = self._wait(job, entries, [position for position, _ in found], config) if waits else []
            self._metrics.tasks("inline", len(delivered))
            self._metrics.tasks("deferred", len(items) - len(delivered))
            if push is not None and waits:
                job.release_push(delivered)
        finally:
            self._busy.release(keys, REMEMBER_S[priority] if promised else 0.0)

    def _items(self, tasks: Sequence[Any], config: LabelConfig, version: str) -> list[tuple[int, Item]]:
        """The tasks to score as items, each with its place among the tasks."""
        found = []
        for position, task in enumerate(tasks):
            if not isinstance(task, dict):
                self._metrics.tasks("refused")
            elif has_version(task, version):
                self._metrics.tasks("known")
            else:
                try:
                    item = item_from_task(task, config, self._label_studio_url, s3_direct=self._settings.s3_direct)
                    found.append((position, item))
                except ItemError as error:
                    log.info("task %s is not pre-labelled: %s", task.get("id"), error)
                    self._metrics.tasks("refused")
        return found

    def _submit(
        self, items: list[Item], questions: Questions, priority: Priority, push: PushTarget | None, name: str
    ) -> Job:
        return self._client.submit(
            items, questions.controls, priority=priority, name=name, model=self._model, push=push
        )

    def _wait(self, job: Job, entries: list[Entry], positions: Sequence[int], config: LabelConfig) -> list[int]:
        """Fill in what comes within `predict_wait_s`; returns the ordinals that were filled in."""
        delivered = []
        started = self._clock()
        try:
            for prediction in job.results(timeout=self._settings.predict_wait_s):
                if (entry := _entry(prediction, config)) is not None:
                    entries[positions[prediction.ordinal]] = [entry]
                    delivered.append(prediction.ordinal)
        except TimeoutError:
            pass
        except PrelabelError as error:
            log.warning("/predict: stopped waiting for job %s: %s", job.id, error)
        self._metrics.waited(self._clock() - started)
        return delivered

    def _push(self, project: int | None, label_config: str, *, hold: bool) -> PushTarget | None:
        if self._label_studio_url is None or project is None:
            return None
        return PushTarget(project=project, label_config=label_config, hold=hold)


class _Busy:
    """Tasks that are being answered or were promised lately: people reload pages, and each answer is stored again."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[_Key, float] = {}

    def claim(self, keys: Sequence[_Key]) -> list[int]:
        """Which of the keys (by index) the caller now owns; the others are busy."""
        now = self._clock()
        with self._lock:
            for key in [key for key, until in self._until.items() if until <= now]:
                del self._until[key]
            free = []
            for index, key in enumerate(keys):
                if key not in self._until:
                    self._until[key] = float("inf")
                    free.append(index)
        return free

    def release(self, keys: Sequence[_Key], after_s: float) -> None:
        """Give owned keys back when this many seconds have passed."""
        until = self._clock() + after_s
        with self._lock:
            for key in keys:
                self._until[key] = until


def _entry(prediction: Prediction, config: LabelConfig) -> dict[str, Any] | None:
    entry = prediction_to_label_studio(prediction, config)
    if entry is not None:
        del entry["task"]
    return entry
