"""Routes of the page: `/`, its style and script, and the buttons.

Buttons are POST forms, see `forms`. Whether the page may be seen at all is decided before any route: `BASIC_AUTH_USER`
guards it where it is set.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from ...label_studio.projects.figures import TROUBLES
from ...problems import problems
from .forms import as_http, hand_out, refuse_forgery, token_for
from .templates import HEADERS, environment, text_of
from .view import read_page

if TYPE_CHECKING:
    from ...client.client import Client
    from ...label_studio.projects.register import Projects

_PARTS = {"page.css": "text/css", "page.js": "text/javascript", "page.svg": "image/svg+xml"}


def page_router(client: Client, connected: Projects, *, pictures: bool) -> APIRouter:
    """The routes.

    Args:
        client: the ledger.
        connected: the Label Studio projects that are served.
        pictures: whether small pictures of tasks can be asked for.
    """
    router = APIRouter()
    button: Any = {
        "status_code": 303,
        "response_class": RedirectResponse,
        "responses": problems(403, 409, 503) | {303: {"description": "Back to the page"}},
    }
    template = environment().get_template("page.html")

    @router.get(
        "/",
        summary="What is connected, queued, running and failed; JSON as /health for programs",
        responses={200: {"content": {"text/html": {}}}},
    )
    def page(request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"status": "UP", "model_class": "prelabel"})
        token = token_for(request)
        view = read_page(client, connected)
        said = request.query_params.get("said", "")
        html = template.render(
            view=view,
            token=token,
            said=_SAID.get(said, ""),
            label_studio=client.settings.label_studio_url,
            troubles=TROUBLES,
            pictures=pictures,
        )
        return hand_out(token, request, HTMLResponse(html, headers=HEADERS))

    for name, kind in _PARTS.items():
        router.add_api_route(f"/{name}", partial(_part, name, kind), include_in_schema=False)

    @router.post("/jobs/{job_id}/cancel", summary="Stop a job; what is done stays", **button)
    def cancel(request: Request, job_id: str, csrf: Annotated[str, Form()] = "") -> Response:
        refuse_forgery(request, csrf)
        with as_http():
            stopped = client.job(job_id).cancel()
        return _back("cancelled" if stopped else "ended")

    @router.post("/jobs/{job_id}/retry", summary="Send a job's failed items again", **button)
    def retry(request: Request, job_id: str, csrf: Annotated[str, Form()] = "") -> Response:
        refuse_forgery(request, csrf)
        with as_http():
            count = client.job(job_id).retry_failed()
        return _back("retried" if count else "nothing")

    return router


_SAID = {
    "cancelled": "The job is cancelled. What was done stays.",
    "ended": "The job had ended already.",
    "retried": "The failed images are on their way again.",
    "nothing": "There was nothing to try again.",
}


def _back(said: str) -> Response:
    return RedirectResponse(f"./../../?said={said}", status_code=303)


def _part(name: str, kind: str) -> Response:
    return Response(text_of(name), media_type=kind, headers={"Cache-Control": "max-age=300"})
