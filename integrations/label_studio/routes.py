"""The ML backend Label Studio calls: the endpoints of label-studio-ml-backend, and ours beside them.

/health and /setup answer at once with no worker and no broker running.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fastapi import APIRouter, BackgroundTasks, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry

from ...schemas import Settings
from ..problems import problems
from .bodies import BodyRoute, PredictBody, SetupBody, WebhookBody, beside_the_loop
from .check import SecretCheck, look_around
from .convert.items import project_number
from .convert.questions import Unusable
from .deliver.counters import PredictCounters
from .deliver.predict import Entry, Predictor
from .projects.cleaner import Cleaner
from .projects.gauges import FigureGauges
from .projects.questions import ProjectReader
from .projects.reconciler import Reconciler
from .projects.register import Projects
from .projects.registration import ACTIONS, SECRET_HEADER

if TYPE_CHECKING:
    from ..client.client import Client

log = logging.getLogger(__name__)

UNSIGNED_AFTER_S = 5.0
"""Seconds until an event without our secret has its project looked at, however many there are of them."""


class LabelStudioBackend:
    """Label Studio's front door.

    Args:
        settings: see `Settings`.
        client: where work is queued.
        model: `schemas.model_id` of the adapter's model, for projects that have chosen none.
        registry: where the predictor's counters and the projects' figures are shown.

    Attributes:
        projects: the projects that are served.
        router: the endpoints.
    """

    def __init__(self, settings: Settings, client: Client, *, model: str, registry: CollectorRegistry) -> None:
        self.projects = Projects(client)
        registry.register(FigureGauges(self.projects))
        self._settings = settings
        self._reader = ProjectReader(self.projects, model)
        self._predictor = Predictor(settings, client, self.projects, self._reader, PredictCounters(registry))
        self._reconciler = Reconciler(settings, client, self.projects, model)
        self._cleaner = Cleaner(settings, client, self.projects, model)
        self._secret = SecretCheck(self.projects)
        self.router = self._routes()

    def start(self) -> None:
        """Begin to look at projects, and to clean them, in the background."""
        self._reconciler.start()
        self._cleaner.start()

    def stop(self) -> None:
        """End looking; waits for what is under way."""
        self._cleaner.stop()
        self._reconciler.stop()

    def _routes(self) -> APIRouter:
        router = APIRouter(route_class=BodyRoute)

        @router.head("/health", include_in_schema=False)
        @router.get("/health", summary="Whether the adapter runs; asks neither broker nor worker")
        async def health() -> dict[str, str]:
            return {"status": "UP", "model_class": "prelabel"}

        @router.post("/setup", summary="The model version of a label config")
        async def setup(body: SetupBody, later: BackgroundTasks) -> dict[str, str]:
            return await beside_the_loop(lambda: self._setup(body, later))

        @router.post("/predict", summary="One entry per task; [] for what will be pushed later")
        def predict(body: PredictBody) -> dict[str, list[Entry]]:
            return {"results": self._predictor.predict(body.tasks, body.project, body.label_config)}

        @router.post("/webhook", summary="Events of Label Studio: what changed is looked at after the answer")
        async def webhook(body: WebhookBody, request: Request, later: BackgroundTasks) -> dict[str, str]:
            # Whoever sends it, nothing it says is believed: it only makes us look at a project that is connected.
            project = body.project.id
            if body.action not in ACTIONS or project is None:
                return {"status": "ignored"}
            later.add_task(self._noticed, project, request.headers.get(SECRET_HEADER, ""))
            return {"status": "accepted"}

        @router.post(
            "/check",
            summary="Whether the adapter reaches Label Studio and the queue; for prelabel connect",
            responses=problems(403),
        )
        def check(request: Request) -> JSONResponse:
            if not self._secret.accepts(request.headers.get(SECRET_HEADER, "")):
                return JSONResponse({"detail": "wrong secret: both must use the same Redis"}, status_code=403)
            return JSONResponse(look_around(self._settings))

        return router

    def _setup(self, body: SetupBody, later: BackgroundTasks) -> dict[str, str]:
        project = project_number(body.project)
        questions = self._reader.read_at_once(project, body.label_config)
        if isinstance(questions, Unusable):
            # An error would show in Label Studio without its text. The version does show; the text is in its log.
            log.warning("project %s cannot be pre-labelled: %s", body.project, questions.problem)
        else:
            for name, reason in questions.config.skipped:
                log.info("project %s: control %s is left to people: %s", body.project, name, reason)
        if project is not None:
            later.add_task(self._reconciler.announced, project)
        if isinstance(questions, Unusable):
            return {"model_version": questions.version, "problem": questions.problem}
        return {"model_version": questions.version}

    def _noticed(self, project: int, given: str) -> None:
        if self._reconciler.serves(project):
            self._reconciler.hint(project, 0.0 if self._secret.accepts(given) else UNSIGNED_AFTER_S)
