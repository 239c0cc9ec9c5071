"""Following what people do in Label Studio's own dialog: they add our ML backend to a project, or delete it."""

from __future__ import annotations

import logging
import time
from typing import Any

from ....schemas import ModelVersion, PrelabelError, Settings
from ...client.client import Client
from ..api import tasks
from ..api.connection import LabelStudioAPI
from . import registration
from .pausing import hold_back
from .register import Projects
from .shown import show, version_to_show
from .state import ProjectState

log = logging.getLogger(__name__)

SEEN_S = 30.0
"""Seconds a backend that was seen is taken to be there: to list it, Label Studio asks it how it is."""


class Adoption:
    """Serves projects that got an ML backend of ours in Label Studio, and stops for those that lost theirs.

    Args:
        api: Label Studio.
        settings: how often projects are looked at; BASIC_AUTH_* are given to Label Studio where set.
        client: whose jobs.
        projects: which projects.
        model: `schemas.model_id` of the adapter's model, for projects that have chosen none.
    """

    def __init__(self, api: LabelStudioAPI, settings: Settings, client: Client, projects: Projects, model: str) -> None:
        self._api = api
        self._settings = settings
        self._client = client
        self._projects = projects
        self._model = model

    def adopt(self, project: int) -> bool:
        """Serve a project whose ML backend was added in Label Studio's dialog; whether there is one.

        Anybody may have posted to /setup; what counts is that Label Studio has a backend that answers as we do.

        Raises:
            PrelabelError: Label Studio or Redis is unavailable, or refuses us.
        """
        ours = [one for one in registration.backends(self._api, project) if self._is_mine(project, one)]
        if not ours:
            log.info("project %s has no ML backend of ours", project)
            return False
        url = self._take_over(project, ours[0])
        self._projects.add(project, backend_url=url, floor=tasks.newest(self._api, project), prune=True)
        log.info("project %s was connected in Label Studio, as %s", project, url)
        return True

    def follows(self, project: int) -> bool:
        """Whether a project that is served still wants to be: its ML backend is there, or it never had one.

        Raises:
            PrelabelError: Label Studio or Redis is unavailable, or refuses us.
        """
        state = self._projects.state(project)
        if not state.backend_url:
            return True
        fresh_s = min(SEEN_S, self._settings.reconcile_s or SEEN_S)
        if not state.stopped and 0 <= time.time() - state.backend_seen < fresh_s:
            return True
        # One of ours at another address counts too: `prelabel connect` may be moving it just now.
        backends = registration.backends(self._api, project)
        there = [one for one in backends if registration.is_at(one, state.backend_url) or self._is_mine(project, one)]
        if there and state.stopped:
            self._go_on(project, there[0])
        elif there:
            self._projects.update(project, backend_seen=time.time())
        elif state.stopped:
            self._let_go(project, state)  # it may have been interrupted
        else:
            self._stop(project, state)
        return bool(there)

    def _take_over(self, project: int, backend: dict[str, Any]) -> str:
        """Make a backend and its webhook what they should be; the adapter's address."""
        url, version = str(backend["url"]).rstrip("/"), str(backend["model_version"])
        registration.announce(self._api, project, url, self._projects.secret())
        title = version_to_show(self._api, project, version)
        registration.register(self._api, self._settings, project, url, title)
        show(self._api, project, title)
        return url

    def _go_on(self, project: int, backend: dict[str, Any]) -> None:
        url = self._take_over(project, backend)
        self._projects.update(
            project, backend_url=url, title="", stopped=False, problem="", looked=0.0, backend_seen=time.time()
        )
        log.info("project %s has its ML backend again, as %s", project, url)

    def _stop(self, project: int, state: ProjectState) -> None:
        self._projects.update(
            project,
            stopped=True,
            problem="its model was deleted in Label Studio (Settings > Model), so nothing is pre-labelled: "
            f"`prelabel connect --project {project}` brings it back",
        )
        log.warning("project %s: its ML backend was deleted in Label Studio, so nothing is pre-labelled", project)
        self._let_go(project, state)

    def _let_go(self, project: int, state: ProjectState) -> None:
        """Hold back its jobs, and remove the webhook, which Label Studio leaves where it is. Twice is no error."""
        if self._projects.working(project):
            with self._projects.scanning(project):
                hold_back(self._client, self._projects, project)
        try:
            registration.unregister(self._api, project, state.backend_url)
        except registration.StepFailed as failure:
            if isinstance(failure.__cause__, PrelabelError):
                raise failure.__cause__ from None
            raise

    def _is_mine(self, project: int, backend: dict[str, Any]) -> bool:
        """Whether a backend answers with this adapter's model or the project's: another prelabel's is left to it."""
        version = ModelVersion.parse(backend.get("model_version") or "")
        return version is not None and version.model in (
            self._model,
            self._projects.model_of(project, self._model),
        )
