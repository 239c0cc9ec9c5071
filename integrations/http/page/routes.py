"""Routes of the page: `/`, its style and script, and the buttons.

Buttons are POST forms. A page of another site must not press them (cross-site request forgery): each form carries a
token that must equal the one in a `SameSite=Strict` cookie (double submit, as the OWASP cheat sheet has it), and a
browser that says where a request comes from (`Sec-Fetch-Site`, `Origin`) must say that it is this page. Whether the
page may be seen at all is decided before any route: `BASIC_AUTH_USER` guards it where it is set.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

import jinja2
from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from ....schemas.errors import ConfigError, PrelabelError
from ...problems import problems
from .view import read_page
from .words import ago, duration, percent

if TYPE_CHECKING:
    from ...client.client import Client
    from ...label_studio.projects.register import Projects

COOKIE: Final = "prelabel_csrf"

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_TOKEN_BYTES = 24
_PARTS = {"page.css": "text/css", "page.js": "text/javascript", "page.svg": "image/svg+xml"}


def page_router(client: Client, connected: Projects) -> APIRouter:
    """The routes.

    Args:
        client: the ledger.
        connected: the Label Studio projects that are served.
    """
    router = APIRouter()
    button: Any = {
        "status_code": 303,
        "response_class": RedirectResponse,
        "responses": problems(403, 409, 503) | {303: {"description": "Back to the page"}},
    }
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(duration=duration, ago=ago, percent=percent)
    template = environment.from_string(_file("page.html"))

    @router.get(
        "/",
        summary="What is connected, queued, running and failed; JSON as /health for programs",
        responses={200: {"content": {"text/html": {}}}},
    )
    def page(request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"status": "UP", "model_class": "prelabel"})
        token = request.cookies.get(COOKIE, "")
        if len(token) < _TOKEN_BYTES:
            token = secrets.token_urlsafe(_TOKEN_BYTES)
        view = read_page(client, connected)
        said = request.query_params.get("said", "")
        html = template.render(view=view, token=token, said=_SAID.get(said, ""))
        response = HTMLResponse(html, headers=_HEADERS)
        response.set_cookie(
            COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/"
        )
        return response

    for name, kind in _PARTS.items():
        router.add_api_route(f"/{name}", partial(_part, name, kind), include_in_schema=False)

    @router.post("/jobs/{job_id}/cancel", summary="Stop a job; what is done stays", **button)
    def cancel(request: Request, job_id: str, csrf: Annotated[str, Form()] = "") -> Response:
        _refuse_forgery(request, csrf)
        with _as_http():
            stopped = client.job(job_id).cancel()
        return _back("cancelled" if stopped else "ended")

    @router.post("/jobs/{job_id}/retry", summary="Send a job's failed items again", **button)
    def retry(request: Request, job_id: str, csrf: Annotated[str, Form()] = "") -> Response:
        _refuse_forgery(request, csrf)
        with _as_http():
            count = client.job(job_id).retry_failed()
        return _back("retried" if count else "nothing")

    return router


_SAID = {
    "cancelled": "The job is cancelled. What was done stays.",
    "ended": "The job had ended already.",
    "retried": "The failed images are on their way again.",
    "nothing": "There was nothing to try again.",
}


@contextmanager
def _as_http() -> Iterator[None]:
    """Our errors as HTTP answers."""
    try:
        yield
    except ConfigError as error:
        raise HTTPException(409, str(error)) from None
    except PrelabelError as error:
        raise HTTPException(503, str(error)) from None


def _back(said: str) -> Response:
    return RedirectResponse(f"./../../?said={said}", status_code=303)


def _refuse_forgery(request: Request, given: str) -> None:
    """Raise 403 unless the form came from our own page."""
    cookie = request.cookies.get(COOKIE, "")
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        here = site == "same-origin"
    else:  # an older browser; behind a proxy it needs the Host header to be passed on
        here = origin is None or urlsplit(origin).netloc == request.headers.get("host", "")
    if not (here and cookie and secrets.compare_digest(cookie.encode(), given.encode())):
        raise HTTPException(403, "the form is not from this page, or the page is too old: load it again")


def _part(name: str, kind: str) -> Response:
    return Response(_file(name), media_type=kind, headers={"Cache-Control": "max-age=300"})


def _file(name: str) -> str:
    return (files("prelabel.integrations.http.page") / name).read_text(encoding="utf-8")
