"""The adapter's thread that looks through the connected projects: every minute, and when something is said to be new.

Every adapter process has one; a project is looked through by one at a time. When to look next stands in Redis.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence

from ....schemas import ConfigError, PrelabelError, Settings, TransientError
from ...client.client import Client
from ..api import tasks
from ..api.connection import LabelStudioAPI, NotThere
from .adoption import Adoption
from .look import LookReport
from .register import Projects
from .scan import Scanner

log = logging.getLogger(__name__)

TICK_S = 1.0
"""Seconds between looks at what is due: another process may have put it there."""

WORKING_S = 5.0
"""Seconds until a project with a job under way is looked at again: when it ends there is something to settle."""

ADOPT_AFTER_S = 2.0
"""Seconds after /setup at which the ML backend is there: Label Studio asks while it is still making it."""

AFTER_AN_ERROR_S = 60.0
"""Seconds until a project is looked at again after an error that nobody foresaw."""

_VERIFY_EVERY_S = 10.0


class Reconciler:
    """Looks through projects when they are due.

    Args:
        settings: LABEL_STUDIO_URL and its API key; without them it does nothing.
        client: where tasks are queued.
        projects: which projects.
        model: `schemas.model_id` of the adapter's model, for projects that have chosen none.
    """

    def __init__(self, settings: Settings, client: Client, projects: Projects, model: str) -> None:
        self._settings = settings
        self._client = client
        self._projects = projects
        self._model = model
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prelabel-reconciler", daemon=True)
        self._scheduled = self._checked = 0.0
        self._api: LabelStudioAPI | None = None

    @property
    def can_look(self) -> bool:
        """Whether there is a Label Studio to ask."""
        key = self._settings.label_studio_api_key
        return bool(self._settings.label_studio_url and key and key.get_secret_value())

    def start(self) -> None:
        """Begin; the first look is at once."""
        if self.can_look:
            self._thread.start()

    def stop(self) -> None:
        """End after the request under way."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        if self._api is not None:
            self._api.close()

    def hint(self, project: int, after_s: float = 0.0) -> None:
        """Have a project looked at soon. Never raises: a hint is no promise."""
        if not self.can_look:
            return
        try:
            self._projects.hint(project, after_s)
        except PrelabelError as error:
            log.warning("project %s is looked at later: %s", project, error)
        self._wake.set()

    def announced(self, project: int) -> None:
        """Label Studio has asked /setup for a project: it may have been added in its own dialog."""
        try:
            if self.can_look and (not self._projects.serves(project) or self._projects.rests(project)):
                self.hint(project, ADOPT_AFTER_S)
        except PrelabelError as error:
            log.warning("project %s is looked at later: %s", project, error)

    def serves(self, project: int) -> bool:
        """Whether the project is served, as far as can be told now."""
        try:
            return self._projects.serves(project)
        except PrelabelError:
            return False

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.tick()
            except PrelabelError as error:
                log.warning("projects are looked at later: %s", error)
                self._stop.wait(5)
            except Exception:  # without this thread missed tasks stay missed
                log.exception("a look at the projects failed")
                self._stop.wait(5)
            self._wake.wait(TICK_S)
            self._wake.clear()

    def tick(self) -> None:
        """Look at what is due now."""
        now = time.monotonic()
        if not self._scheduled or (self._settings.reconcile_s and now - self._scheduled > self._settings.reconcile_s):
            # At the start everything; later only what is not on the list, because Redis came back without it.
            first = not self._scheduled
            self._scheduled = now
            for project in self._projects.numbers():
                self._projects.hint(project, 0.0 if first else 2 * self._settings.reconcile_s)
        due_at = time.time()
        while not self._stop.is_set() and (turn := self._projects.take_turn(due_at)):
            wait_s = self._look(turn.project)
            self._projects.end_turn(turn, time.time() + wait_s if wait_s else None)
        if now - self._checked > _VERIFY_EVERY_S:
            self._checked = now
            self._verify()

    def _look(self, project: int) -> float:
        """Look at a project; seconds until its next turn, 0 when it needs a hint first."""
        api = self._connection()
        wait_s = self._settings.reconcile_s
        try:
            adoption = Adoption(api, self._settings, self._client, self._projects, self._model)
            if not self._projects.serves(project) and not adoption.adopt(project):
                return 0
            if not adoption.follows(project):
                return wait_s
            report = Scanner(api, self._client, self._projects, self._model).look(project, wait_s=0)
            _report(project, report)
            if self._projects.working(project):
                wait_s = min(wait_s or WORKING_S, WORKING_S)
        except NotThere as error:
            if self._is_gone(api, project):
                log.warning("project %s is served no more: %s", project, error)
                self._projects.remove(project)
                return 0
        except TransientError as error:
            log.info("project %s is looked at later: %s", project, error)
            wait_s = max(min(wait_s or WORKING_S, WORKING_S), error.retry_after_s or 0)
        except ConfigError as error:
            log.warning("project %s: %s", project, error)
            self._projects.update(project, problem=str(error)[:500])
        except Exception:  # one project's surprise is no reason to leave the others alone
            log.exception("project %s: the look at it failed", project)
            wait_s = max(wait_s, AFTER_AN_ERROR_S)
        return wait_s

    def _is_gone(self, api: LabelStudioAPI, project: int) -> bool:
        try:
            api.project(project)
        except NotThere:
            return True
        except PrelabelError:
            pass
        return False

    def _verify(self) -> None:
        """See that what others promised to deliver has arrived, and queue what has not."""
        for project, deliveries in self._projects.claims.to_verify().items():
            api = self._connection()
            try:
                missing: list[int] = []
                for version in {version for _, version in deliveries}:
                    numbers = [task for task, one in deliveries if one == version]
                    there = tasks.predictions(api, project, numbers, version)
                    missing += [task for task in numbers if not there.get(task)]
                    self._remove_surplus(api, there)
                if missing:
                    log.warning("project %s: %d promised predictions have not arrived", project, len(missing))
                    _report(project, Scanner(api, self._client, self._projects, self._model).again(project, missing))
            except TransientError as error:
                log.info("project %s is checked later: %s", project, error)
                self._projects.claims.verify_later(project, deliveries, _VERIFY_EVERY_S)
                continue
            except ConfigError as error:
                log.info("project %s is not checked: %s", project, error)
            except Exception:  # as with a look
                log.exception("project %s: the check of what it was promised failed", project)
                self._projects.claims.verify_later(project, deliveries, AFTER_AN_ERROR_S)
                continue
            self._projects.claims.verified(project, deliveries)

    @staticmethod
    def _remove_surplus(api: LabelStudioAPI, there: Mapping[int, Sequence[int]]) -> None:
        """Leave a task the first of several predictions of one version: some were stored after we had given them up."""
        for task, numbers in there.items():
            for number in numbers[1:]:
                log.warning("task %s has a prediction of one version twice: one is removed", task)
                with api.errors(f"prediction {number}"):
                    api.json("DELETE", f"api/predictions/{number}/")

    def _connection(self) -> LabelStudioAPI:
        if self._api is None:
            self._api = LabelStudioAPI(self._settings)
        return self._api


def _report(project: int, report: LookReport) -> None:
    if report.problem:
        log.warning("project %s cannot be pre-labelled: %s", project, report.problem)
    if report.queued:
        log.info("project %s: %d tasks queued as job %s", project, report.queued, report.job_id)
    if report.refused:
        log.info("project %s: %d tasks cannot be scored (%s)", project, report.refused, report.refusal)
    if report.partial:
        log.info("project %s: %d tasks can be scored in part only (%s)", project, report.partial, report.gap)
