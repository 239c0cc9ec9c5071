"""The ML backend Label Studio calls: an HTTP application with the endpoints of label-studio-ml-backend.

/health and /setup answer at once with no worker and no broker running. `prelabel serve` runs it with uvicorn.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fastapi import BackgroundTasks, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from ...schemas import PrelabelError, Settings
from ...schemas.package import package_version
from ..page.routes import page_router
from .bodies import PredictBody, SetupBody, WebhookBody
from .metrics import Metrics
from .predict import Entry, Predictor
from .questions import reader
from .security import BasicAuth, Guard

if TYPE_CHECKING:
    from ..client import Client

log = logging.getLogger(__name__)


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
    predictor = Predictor(settings, client, read, model, metrics)
    app = FastAPI(
        title="prelabel",
        version=package_version(),
        summary="Label Studio ML backend: zero-shot image pre-labels from a queue",
    )
    app.state.registry = metrics.registry
    app.add_middleware(Guard, auth=auth, max_body_bytes=settings.max_body_bytes, metrics=metrics)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        problem = error.errors()[0]
        if problem["type"] == "json_invalid":
            return JSONResponse({"detail": "the body is not JSON"}, status_code=400)
        where = ".".join(str(part) for part in problem["loc"])
        return JSONResponse({"detail": f"{where}: {problem['msg']}"}, status_code=422)

    app.include_router(page_router(settings, client))

    @app.get("/health", summary="Whether the adapter runs; asks neither broker nor worker")
    async def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "prelabel"}

    @app.post("/setup", summary="The model version of a label config")
    async def setup(body: SetupBody) -> dict[str, str]:
        questions = read(body.label_config)
        if questions.config is None:
            # An error would show in Label Studio without its text. The version does show; the text is in its log.
            log.warning("project %s cannot be pre-labelled: %s", body.project, questions.problem)
            return {"model_version": questions.version, "problem": questions.problem}
        for name, reason in questions.config.skipped:
            log.info("project %s: control %s is left to people: %s", body.project, name, reason)
        return {"model_version": questions.version}

    @app.post("/predict", summary="One entry per task; [] for what will be pushed later")
    def predict(body: PredictBody) -> dict[str, list[Entry]]:
        return {"results": predictor.predict(body.tasks, body.project, body.label_config)}

    @app.post("/webhook", summary="Events of Label Studio; new tasks are queued after the answer")
    async def webhook(body: WebhookBody, request: Request, later: BackgroundTasks) -> dict[str, Any]:
        if not request.state.authorized:
            log.warning("webhook %s ignored: it came without BASIC_AUTH_USER and BASIC_AUTH_PASS", body.action[:40])
            return {"status": "ignored", "reason": "not authorized"}
        if body.action != "TASKS_CREATED" or not body.project.label_config:
            return {"status": "ignored"}
        later.add_task(_created, predictor, body)
        return {"status": "accepted", "tasks": len(body.tasks)}

    @app.get("/metrics", summary="Prometheus metrics")
    def prometheus() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return app


def _created(predictor: Predictor, body: WebhookBody) -> None:
    name = f"label studio project {body.project.id}: {len(body.tasks)} new tasks"
    try:
        predictor.enqueue(body.tasks, body.project.id, body.project.label_config or "", name)
    except PrelabelError as error:
        log.warning("%s are not queued: %s", name, error)
    except Exception:  # nobody waits for the outcome, so it must be seen here
        log.exception("%s are not queued", name)
