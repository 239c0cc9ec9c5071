"""The adapter's thread that removes predictions of earlier versions, so that no look has to wait for it.

Removing thousands takes Label Studio minutes, and whoever writes to it meanwhile waits. So it is done a few seconds at
a time, with a rest as long after each, and what people wait for goes first: looks that are due, and predictions that
are being made or pushed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ....schemas import ModelVersion, PrelabelError, Settings
from ...client.client import Client
from ..api.connection import LabelStudioAPI
from . import at_once
from .cleaning import Cleaning
from .prune import prune
from .questions import ProjectReader
from .register import Projects
from .shown import shown_version
from .state import ProjectState

log = logging.getLogger(__name__)

IDLE_S = 5.0
"""Seconds between looks for a project that has something to be removed."""

GIVE_WAY_S = 4.0
"""Seconds others are waited for at most before a slice: where somebody always waits, it is slow and not for ever."""

_POLL_S = 0.2


class Cleaner:
    """Removes what is outdated in the projects that are served, a slice each in turn.

    Args:
        settings: LABEL_STUDIO_URL and its API key; without them it does nothing, nor where old predictions are kept.
        client: whose jobs go first.
        projects: which projects.
        model: `schemas.model_id` of the adapter's model, for projects that have chosen none.
        pause: waits some seconds and says whether to stop; for tests.
    """

    def __init__(
        self,
        settings: Settings,
        client: Client,
        projects: Projects,
        model: str,
        pause: Callable[[float], bool] | None = None,
    ) -> None:
        self._settings = settings
        self._projects = projects
        self._cleaning = Cleaning(client)
        self._reader = ProjectReader(projects, model)
        self._stop = threading.Event()
        self._pause = pause or self._stop.wait
        self._thread = threading.Thread(target=self._run, name="prelabel-cleaner", daemon=True)
        self._api: LabelStudioAPI | None = None

    def start(self) -> None:
        """Begin."""
        key = self._settings.label_studio_api_key
        has_key = key is not None and bool(key.get_secret_value())
        if self._settings.label_studio_url and has_key:
            self._thread.start()

    def stop(self) -> None:
        """End after the request under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        if self._api is not None:
            self._api.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            some_left = False
            try:
                some_left = self.turn()
            except PrelabelError as error:
                log.info("outdated predictions are removed later: %s", error)
            except Exception:  # without this thread they stay
                log.exception("the removal of outdated predictions failed")
            if not some_left:
                self._stop.wait(IDLE_S)

    def turn(self) -> bool:
        """A slice for each project that has something to be removed; whether some may be left that can go now."""
        some_left = False
        for project in self._projects.numbers() if self._settings.old_predictions == "replace" else ():
            if self._stop.is_set():
                break
            try:
                some_left |= self._clean(project)
            except PrelabelError as error:
                log.info("project %s is cleaned later: %s", project, error)
            except Exception:  # one project's surprise is no reason to leave the others alone
                log.exception("project %s: the removal of outdated predictions failed", project)
        return some_left

    def _clean(self, project: int) -> bool:
        state = self._projects.state(project)
        if not state.prune or not state.version or state.problem or self._projects.working(project):
            return False
        in_vain = self._give_way()
        if self._stop.is_set():
            return False
        with self._cleaning.alone(project) as is_alone:
            if not is_alone or self._shows_earlier(project, state) or not self._asks_for(project, state.version):
                return False
            started = time.monotonic()
            self._remove_at_once(project, state)
            # Who comes meanwhile goes first; who has waited as long as we may waits for a slice.
            stop = (lambda: False) if in_vain else self._cleaning.others_wait
            left = prune(self._connection(), project, state.version, stop=stop)
            took_s = time.monotonic() - started
            if not self._asks_for(project, state.version):
                self._look_through_again(project)
                return False
            if not left:
                self._cleaning.done(project, state.version)
                return False
        self._pause(took_s)
        return True

    def _remove_at_once(self, project: int, state: ProjectState) -> None:
        """Remove the versions that can go as a whole, if nobody looks through the project just now."""
        api, version = self._connection(), state.version
        if not (whole := at_once.whole_versions(api, project, version)):
            return
        with self._projects.scanning(project, wait_s=1):
            self._projects.update(project, title="")  # whatever happens, the next look gives it the right one
            at_once.remove(api, self._settings, project, whole, version, state.backend_url)
        log.info("project %s: predictions of %s are replaced", project, ", ".join(whole))

    def _give_way(self) -> bool:
        """Let go first what people wait for; whether it still waits."""
        waited_s = 0.0
        while self._cleaning.others_wait():
            if waited_s >= GIVE_WAY_S or self._pause(_POLL_S):
                return True
            waited_s += _POLL_S
        return False

    def _shows_earlier(self, project: int, state: ProjectState) -> bool:
        """Whether it shows a version of ours that a look is to replace first: without its predictions it shows none."""
        shown = shown_version(self._connection(), project) if state.backend_url else ""
        return shown != state.version and ModelVersion.is_ours(shown)

    def _asks_for(self, project: int, version: str) -> bool:
        """Whether the project's label config asks for this version now, and of its model."""
        label_config = self._connection().project(project).get("label_config") or ""
        return self._reader.read(project, label_config).version == version

    def _look_through_again(self, project: int) -> None:
        """The config has changed meanwhile, perhaps to what it was: some of what was removed may be wanted again."""
        with self._projects.scanning(project):  # a look under way has seen what is gone now
            self._projects.update(project, looked=0.0)
        self._projects.hint(project)

    def _connection(self) -> LabelStudioAPI:
        if self._api is None:
            self._api = LabelStudioAPI(self._settings)
        return self._api
