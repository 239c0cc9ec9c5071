"""A page for each Label Studio project, `/projects/7`, and its buttons; connecting one is on it, too.

What the buttons do is what the commands do. The adapter's own address, which Label Studio is told when a project is
connected here, is never taken from a request: with it Label Studio is given what authorizes it.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, BackgroundTasks, Form, HTTPException, Path, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from ....schemas import ConfigError, PrelabelError, Settings
from ...label_studio.api.connection import LabelStudioAPI
from ...label_studio.projects import figures
from ...label_studio.projects.connect import connect, disconnect
from ...label_studio.projects.pausing import pause, resume
from ...label_studio.projects.registration import Step, own_url
from ...label_studio.projects.scan import Scanner
from ...label_studio.projects.tabs import FIGURES, open_tab
from ...problems import problems
from .forms import as_http, hand_out, refuse_forgery, token_for
from .job_view import read_jobs
from .project_view import PROJECT_JOBS, read_project
from .templates import HEADERS, environment
from .thumbnails import Number

if TYPE_CHECKING:
    from ...client.client import Client
    from ...label_studio.projects.register import Projects

log = logging.getLogger(__name__)

_DOCUMENT: Final[dict[str, Any]] = {"content": {"text/html": {}}}
_SAID: Final = {
    "paused": "Paused. What is scored already is pushed; what waited is held back until you resume.",
    "resumed": "Resumed. What was held back is queued again.",
    "retried": "The failed images are on their way again.",
    "nothing": "There was nothing to try again.",
    "all": "The project is being looked through: tasks without a prediction are queued, new and unlabelled ones first.",
}


def project_router(settings: Settings, client: Client, connected: Projects, *, model: str, pictures: bool) -> APIRouter:
    """The routes.

    Args:
        settings: LABEL_STUDIO_URL and its API key; the adapter's own address.
        client: the ledger.
        connected: the Label Studio projects that are served.
        model: `schemas.model_id` of the adapter's model, for projects that have chosen none.
        pictures: whether small pictures of tasks can be asked for.
    """
    router = APIRouter()
    desk = _Desk(settings, client, connected, model, pictures=pictures)
    document: Any = {
        "response_class": Response,
        "responses": problems(403) | {200: {"description": "The page", **_DOCUMENT}},
    }
    button: Any = {
        "status_code": 303,
        "response_class": RedirectResponse,
        "responses": problems(403, 404, 409, 503) | {303: {"description": "Back to the page"}},
    }

    @router.get("/projects/{number}", summary="Where the tasks of a project stand, and what is wrong", **document)
    def page(request: Request, number: Number, said: str = "") -> Response:
        return desk.page(request, number, said=_SAID.get(said, ""))

    @router.post("/connect", summary="Have a project pre-labelled; as prelabel connect", **document)
    def connect_(
        request: Request,
        number: Annotated[int, Form(ge=1)],
        later: BackgroundTasks,
        csrf: Annotated[str, Form()] = "",
        everything: Annotated[bool, Form()] = False,
    ) -> Response:
        refuse_forgery(request, csrf)
        steps = connect(
            settings,
            project=number,
            backend_url=desk.own_url(number),
            model=model,
            client=client,
        )
        if everything and steps[-1].status != "failed":  # a large project takes minutes
            steps.append(Step("tasks", "changed", _SAID["all"]))
            later.add_task(desk.look_through, number)
        return desk.page(request, number, steps=steps, heading=f"Connect project {number}")

    @router.post("/disconnect", summary="Pre-label it no more; as prelabel disconnect", **document)
    def disconnect_(
        request: Request, number: Annotated[int, Form(ge=1)], csrf: Annotated[str, Form()] = ""
    ) -> Response:
        refuse_forgery(request, csrf)
        steps = disconnect(settings, project=number, backend_url=desk.own_url(number), client=client)
        return desk.page(request, number, steps=steps, heading=f"Disconnect project {number}")

    @router.post("/projects/{number}/pause", summary="Queue nothing of it for a while", **button)
    def pause_(request: Request, number: Number, csrf: Annotated[str, Form()] = "") -> Response:
        refuse_forgery(request, csrf)
        with as_http():
            pause(client, number)
        return _back(number, "paused")

    @router.post("/projects/{number}/resume", summary="Go on with it", **button)
    def resume_(request: Request, number: Number, csrf: Annotated[str, Form()] = "") -> Response:
        refuse_forgery(request, csrf)
        with as_http():
            resume(client, number)
        return _back(number, "resumed")

    @router.post("/projects/{number}/retry", summary="Send the failed items of its jobs again", **button)
    def retry(request: Request, number: Number, csrf: Annotated[str, Form()] = "") -> Response:
        refuse_forgery(request, csrf)
        with as_http():
            return _back(number, "retried" if desk.retry(number) else "nothing")

    @router.post("/projects/{number}/all", summary="Pre-label every task of it that lacks a prediction", **button)
    def everything_(
        request: Request, number: Number, later: BackgroundTasks, csrf: Annotated[str, Form()] = ""
    ) -> Response:
        refuse_forgery(request, csrf)
        with as_http():
            desk.only_working(number)
        later.add_task(desk.look_through, number)
        return _back(number, "all")

    @router.post("/projects/{number}/tab/{figure}", summary="The tasks behind a figure, in Label Studio", **button)
    def tab(
        request: Request,
        number: Number,
        figure: Annotated[str, Path(json_schema_extra={"enum": list(FIGURES)})],
        csrf: Annotated[str, Form()] = "",
    ) -> Response:
        refuse_forgery(request, csrf)
        with as_http():
            return RedirectResponse(desk.tab(number, figure), status_code=303)

    return router


class _Desk:
    """What the routes work with."""

    def __init__(
        self, settings: Settings, client: Client, connected: Projects, model: str, *, pictures: bool = False
    ) -> None:
        self._settings = settings
        self._client = client
        self._connected = connected
        self._model = model
        self._pictures = pictures
        self._template = environment().get_template("project.html")

    def page(
        self, request: Request, number: int, *, said: str = "", steps: Sequence[Step] = (), heading: str = ""
    ) -> Response:
        """The project's page, or what came of connecting and disconnecting it."""
        token = token_for(request)
        html = self._template.render(
            view=read_project(self._client, self._connected, number),
            root="./" if steps else "../",
            token=token,
            said=said,
            steps=steps,
            heading=heading,
            label_studio=self._settings.label_studio_url,
            troubles=figures.TROUBLES,
            pictures=self._pictures,
        )
        return hand_out(token, request, HTMLResponse(html, headers=form_headers(self._settings)))

    def own_url(self, number: int) -> str:
        """The adapter as Label Studio reaches it: as this project was told, or most others, or as the settings tell."""
        told: Counter[str] = Counter()
        try:
            for one in {number, *self._connected.numbers()}:
                with contextlib.suppress(ConfigError):  # one that cannot be read takes no other with it
                    url = self._connected.state(one).backend_url
                    if url and one == number:
                        return url
                    told.update([url] if url else [])
        except PrelabelError as error:
            log.info("the adapter's address is taken from its settings: %s", error)
        if told:
            return told.most_common(1)[0][0]
        return own_url(self._settings)

    def only_connected(self, number: int) -> None:
        """Raise 404 unless the project is connected."""
        if not self._connected.serves(number):
            raise HTTPException(404, f"project {number} is not connected")

    def only_working(self, number: int) -> None:
        """Raise 404 unless the project is connected, and 409 where nothing of it is queued."""
        self.only_connected(number)
        if self._connected.rests(number):
            raise ConfigError(f"nothing of project {number} is queued at present: it is paused, or was stopped")

    def retry(self, number: int) -> int:
        """Send the failed items of the project's jobs again; returns how many."""
        sent = 0
        for job in read_jobs(self._client, PROJECT_JOBS, number):
            if job.can_retry:
                with contextlib.suppress(ConfigError):  # it is being submitted still, or has just expired
                    sent += self._client.job(job.progress.job_id).retry_failed()
        return sent

    def look_through(self, number: int) -> None:
        """Queue every task that lacks a prediction; after the answer, so that what goes wrong is in the log."""
        try:
            with closing(LabelStudioAPI(self._settings)) as api:
                self._connected.update(number, floor=0)
                report = Scanner(api, self._client, self._connected, self._model).look(number, everything=True)
            log.info("project %s: %d tasks queued", number, report.queued)
        except PrelabelError as error:
            log.warning("project %s is not looked through: %s", number, error)

    def tab(self, number: int, figure: str) -> str:
        """The address of the tab with the tasks of a figure."""
        self.only_connected(number)
        counted = figures.last(self._connected, [number]).get(number)
        if counted is None:
            raise ConfigError(f"project {number} is not counted yet")
        with closing(LabelStudioAPI(self._settings)) as api:
            return open_tab(api, self._connected, counted, figure)


def form_headers(settings: Settings) -> dict[str, str]:
    """As every document has them; a form's answer may lead to Label Studio besides."""
    headers = dict(HEADERS)
    if settings.label_studio_url:
        parts = urlsplit(settings.label_studio_url)
        policy = headers["Content-Security-Policy"]
        headers["Content-Security-Policy"] = policy.replace(
            "form-action 'self'", f"form-action 'self' {parts.scheme}://{parts.netloc}"
        )
    return headers


def _back(number: int, said: str) -> Response:
    return RedirectResponse(f"../{number}?said={said}", status_code=303)
