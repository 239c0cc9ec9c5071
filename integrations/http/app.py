"""The one HTTP application: every front door's routes, behind the same guards.

`prelabel serve` runs it with uvicorn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from ...schemas import Settings
from ...schemas.package import package_version
from ..label_studio.routes import LabelStudioBackend
from ..problems import problems
from .metrics import Metrics
from .page.project_routes import project_router
from .page.routes import page_router
from .page.search import search_router
from .page.thumbnails import Thumbnail, Thumbnails
from .page.trial import trial_router
from .security import BasicAuth, Guard

if TYPE_CHECKING:
    from ..client.client import Client


def create_app(settings: Settings, client: Client, *, model: str, thumbnail: Thumbnail | None = None) -> FastAPI:
    """The application.

    Args:
        settings: see `Settings`; read once, here.
        client: where work is queued.
        model: `schemas.model_id` of the adapter's model, for projects that have chosen none.
        thumbnail: makes small pictures of tasks' images for the page; None where nothing that decodes is installed.

    Raises:
        ConfigError: only one half of the basic authentication is set.
    """
    auth = BasicAuth(settings)
    metrics = Metrics(client)
    label_studio = LabelStudioBackend(settings, client, model=model, registry=metrics.registry)
    thumbnails = Thumbnails(settings, label_studio.projects, thumbnail)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        label_studio.start()
        yield
        await run_in_threadpool(label_studio.stop)
        thumbnails.close()

    app = FastAPI(
        title="prelabel",
        version=package_version(),
        summary="Label Studio ML backend: zero-shot image pre-labels from a queue",
        lifespan=lifespan,
        responses=problems(400, 401, 413, 422),  # of the guard, and of every route
    )
    app.state.registry = metrics.registry
    app.add_middleware(Guard, auth=auth, max_body_bytes=settings.max_body_bytes, metrics=metrics)
    app.add_exception_handler(RequestValidationError, _invalid)
    pictures = thumbnail is not None
    app.include_router(page_router(client, label_studio.projects, pictures=pictures))
    app.include_router(project_router(settings, client, label_studio.projects, model=model, pictures=pictures))
    app.include_router(thumbnails.router)
    app.include_router(trial_router(settings, client, label_studio.projects, model=model))
    app.include_router(search_router(settings, client, label_studio.projects, pictures=pictures))
    app.include_router(label_studio.router)

    @app.get("/metrics", summary="Prometheus metrics", response_class=_Exposition)
    def prometheus() -> Response:
        return _Exposition(metrics.text())

    return app


class _Exposition(PlainTextResponse):
    """Metrics in Prometheus's text format."""

    media_type = CONTENT_TYPE_LATEST


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """A body that is not what the route takes, in one line."""
    if not isinstance(error, RequestValidationError):
        raise error
    problem = error.errors()[0]
    if problem["type"] == "json_invalid":
        return JSONResponse({"detail": "the body is not JSON"}, status_code=400)
    where = ".".join(str(part) for part in problem["loc"])
    return JSONResponse({"detail": f"{where}: {problem['msg']}"}, status_code=422)
