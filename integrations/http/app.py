"""The ML backend Label Studio calls: an HTTP application with the endpoints of label-studio-ml-backend.

/health and /setup answer at once with no worker and no broker running. `prelabel serve` runs it with uvicorn.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import BackgroundTasks, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from ...schemas import Settings
from ...schemas.package import package_version
from ..label_studio.bodies import PredictBody, SetupBody, WebhookBody
from ..label_studio.check import SettingsKeys, look_around
from ..label_studio.convert.items import project_number
from ..label_studio.convert.questions import reader
from ..label_studio.deliver.predict import Entry, Predictor
from ..label_studio.projects.reconciler import Reconciler
from ..label_studio.projects.register import Projects
from ..label_studio.projects.registration import ACTIONS, SECRET_HEADER
from .metrics import Metrics
from .page.routes import page_router
from .security import BasicAuth, Guard

if TYPE_CHECKING:
    from ..client.client import Client


log = logging.getLogger(__name__)

UNSIGNED_AFTER_S = 5.0
"""Seconds until an event without our secret has its project looked at, however many there are of them."""


def create_app(settings: Settings, client: Client, *, model: str) -> FastAPI:
    """The application.

    Args:
        settings: see `Settings`; read once, here.
        client: where work is queued.
        model: `schemas.model_id` of the checkpoint the workers serve; model versions are made from it.

    Raises:
        ConfigError: only one half of the basic authentication is set.
    """
    auth = BasicAuth(settings)
    metrics = Metrics(client)
    read = reader(model)
    projects = Projects(client)
    predictor = Predictor(settings, client, projects, read, model, metrics)
    reconciler = Reconciler(settings, client, projects, model)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        reconciler.start()
        yield
        await run_in_threadpool(reconciler.stop)

    app = FastAPI(
        title="prelabel",
        version=package_version(),
        summary="Label Studio ML backend: zero-shot image pre-labels from a queue",
        lifespan=lifespan,
    )
    keys = SettingsKeys(projects)
    app.state.registry = metrics.registry
    app.add_middleware(Guard, auth=auth, max_body_bytes=settings.max_body_bytes, metrics=metrics)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        problem = error.errors()[0]
        if problem["type"] == "json_invalid":
            return JSONResponse({"detail": "the body is not JSON"}, status_code=400)
        where = ".".join(str(part) for part in problem["loc"])
        return JSONResponse({"detail": f"{where}: {problem['msg']}"}, status_code=422)

    app.include_router(page_router(client, projects))

    @app.get("/health", summary="Whether the adapter runs; asks neither broker nor worker")
    async def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "prelabel"}

    @app.post("/setup", summary="The model version of a label config")
    async def setup(body: SetupBody, later: BackgroundTasks) -> dict[str, str]:
        questions = read(body.label_config)
        if questions.config is None:
            # An error would show in Label Studio without its text. The version does show; the text is in its log.
            log.warning("project %s cannot be pre-labelled: %s", body.project, questions.problem)
        else:
            for name, reason in questions.config.skipped:
                log.info("project %s: control %s is left to people: %s", body.project, name, reason)
        project = project_number(body.project)
        if project is not None:
            later.add_task(reconciler.announced, project)
        if questions.config is None:
            return {"model_version": questions.version, "problem": questions.problem}
        return {"model_version": questions.version}

    @app.post("/predict", summary="One entry per task; [] for what will be pushed later")
    def predict(body: PredictBody) -> dict[str, list[Entry]]:
        return {"results": predictor.predict(body.tasks, body.project, body.label_config)}

    @app.post("/webhook", summary="Events of Label Studio: what changed is looked at after the answer")
    async def webhook(body: WebhookBody, request: Request, later: BackgroundTasks) -> dict[str, str]:
        # Whoever sends it, nothing it says is believed: it only makes us look at a project that is connected.
        project = body.project.id
        if body.action not in ACTIONS or project is None:
            return {"status": "ignored"}
        later.add_task(noticed, project, request.headers.get(SECRET_HEADER, ""))
        return {"status": "accepted"}

    def noticed(project: int, given: str) -> None:
        if reconciler.serves(project):
            reconciler.hint(project, 0.0 if keys.accepts(given) else UNSIGNED_AFTER_S)

    @app.post("/check", summary="Whether the adapter reaches Label Studio and the queue; for prelabel connect")
    def check(request: Request) -> JSONResponse:
        if not keys.accepts(request.headers.get(SECRET_HEADER, "")):
            return JSONResponse({"detail": "wrong secret: both must use the same Redis"}, status_code=403)
        return JSONResponse(look_around(settings))

    @app.get("/metrics", summary="Prometheus metrics")
    def prometheus() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return app
