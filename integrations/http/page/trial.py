"""`/projects/<number>/try`: a new label config on a sample of a project's tasks beside the present one, and its saving.

See `label_studio.trials` for what is tried and how. Of connected projects alone; a form as every other of the page.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from ....schemas import PrelabelError, Settings
from ...label_studio.api.connection import LabelStudioAPI
from ...label_studio.trials.result import Trial, place_words, words
from ...label_studio.trials.run import Present, present_label_config, try_label_config
from ...label_studio.trials.save import digest_of, save_label_config
from ...problems import problems
from .asking import TIMEOUT_S, Turns, refuse_other_methods, require_connected, status_of
from .forms import hand_out, refuse_forgery, token_for
from .templates import HEADERS, environment, text_of
from .thumbnails import Number

if TYPE_CHECKING:
    from ...client.client import Client
    from ...label_studio.projects.register import Projects

MOST: Final = 200
"""Tasks of a sample on the page at most: each is a picture."""

SIZE: Final = 24
"""Tasks of a sample where nobody says how many."""

AT_ONCE: Final = 2
"""Trials at a time: each keeps a thread of the adapter waiting."""

_DOCUMENT: Final[dict[str, Any]] = {"content": {"text/html": {}}}


def trial_router(settings: Settings, client: Client, connected: Projects, *, model: str) -> APIRouter:
    """The routes.

    Args:
        settings: LABEL_STUDIO_URL and its API key.
        client: the queue of the workers.
        connected: the projects that are served.
        model: `schemas.model_id` of the adapter's model, for projects that have chosen none.
    """
    router = APIRouter()
    desk = _Desk(settings, client, connected, model)
    document: Any = {
        "response_class": Response,
        "responses": problems(403, 404)
        | {200: {"description": "The form, and what came of it", **_DOCUMENT}}
        | {409: {"description": "It cannot be tried: the page says why", **_DOCUMENT}}
        | {503: {"description": "It cannot be tried now: the page says why", **_DOCUMENT}},
    }

    @router.get("/projects/{number}/try", summary="A form to try a label config on a project's own tasks", **document)
    def form(request: Request, number: Number, said: str = "") -> Response:
        return desk.form(request, number, _SAID.get(said, ""))

    @router.post("/projects/{number}/try", summary="Score a sample under it, and show what would change", **document)
    def run(
        request: Request,
        number: Number,
        csrf: Annotated[str, Form()] = "",
        label_config: Annotated[str, Form()] = "",
        size: Annotated[int, Form(ge=1, le=MOST)] = SIZE,
    ) -> Response:
        refuse_forgery(request, csrf)
        return desk.run(request, number, _as_typed(label_config), size)

    @router.post(
        "/projects/{number}/try/save",
        summary="Save the label config in Label Studio",
        status_code=303,
        response_class=RedirectResponse,
        responses={
            303: {"description": "Back to the form"},
            **{s: document["responses"][s] for s in (403, 404, 409, 503)},
        },
    )
    def save(
        request: Request,
        number: Number,
        csrf: Annotated[str, Form()] = "",
        label_config: Annotated[str, Form()] = "",
        instead_of: Annotated[str, Form()] = "",
    ) -> Response:
        refuse_forgery(request, csrf)
        return desk.save(request, number, _as_typed(label_config), instead_of)

    refuse_other_methods(router, "/projects/{number}/try")

    @router.get("/trial.css", include_in_schema=False)
    def style() -> Response:
        return Response(text_of("trial.css"), media_type="text/css", headers={"Cache-Control": "max-age=300"})

    return router


_SAID = {"saved": "Saved in Label Studio. The project's tasks are scored again; their images are not read for that."}


class _Desk:
    """Answers the requests: each is a document with the form, what it was sent, and what came of it."""

    def __init__(self, settings: Settings, client: Client, connected: Projects, model: str) -> None:
        self._settings = settings
        self._client = client
        self._connected = connected
        self._model = model
        self._turns = Turns(AT_ONCE, "other label configs are being tried at present: try again in a moment")
        self._template = environment().get_template("trial.html")

    def form(self, request: Request, number: int, said: str) -> Response:
        """The empty form, with the present label config to begin with."""
        problem: PrelabelError | None = None
        present = Present("", "")
        try:
            require_connected(self._connected, number)
            with closing(LabelStudioAPI(self._settings)) as api:
                present = present_label_config(api, number)
        except PrelabelError as error:
            problem = error
        return self._document(
            request, number, title=present.title, label_config=present.label_config, said=said, problem=problem
        )

    def run(self, request: Request, number: int, label_config: str, size: int) -> Response:
        """The form with what would change."""
        trial: Trial | None = None
        problem: PrelabelError | None = None
        try:
            require_connected(self._connected, number)
            with self._turns.take():
                trial = try_label_config(
                    self._settings,
                    self._client,
                    project=number,
                    label_config=label_config,
                    model=self._model,
                    size=size,
                    timeout_s=TIMEOUT_S,
                )
        except PrelabelError as error:
            problem = error
        title = trial.title if trial else ""
        return self._document(
            request, number, title=title, label_config=label_config, size=size, trial=trial, problem=problem
        )

    def save(self, request: Request, number: int, label_config: str, instead_of: str) -> Response:
        """Back to the form, or the form with why it is not saved."""
        try:
            require_connected(self._connected, number)
            save_label_config(self._settings, number, label_config, instead_of=instead_of)
        except PrelabelError as error:
            return self._document(request, number, label_config=label_config, problem=error, root="../../../")
        return RedirectResponse("../try?said=saved", status_code=303)

    def _document(
        self,
        request: Request,
        number: int,
        *,
        title: str = "",
        label_config: str = "",
        size: int = SIZE,
        said: str = "",
        trial: Trial | None = None,
        problem: PrelabelError | None = None,
        root: str = "../../",
    ) -> Response:
        token = token_for(request)
        html = self._template.render(
            root=root,
            number=number,
            title=title,
            label_config=label_config,
            size=size,
            most=MOST,
            said=said,
            trial=trial,
            problem=str(problem) if problem else "",
            instead_of=digest_of(trial.old_config) if trial else "",
            label_studio=self._settings.label_studio_url,
            token=token,
            words=words,
            place_words=place_words,
        )
        return hand_out(token, request, HTMLResponse(html, status_code=status_of(problem), headers=HEADERS))


def _as_typed(label_config: str) -> str:
    """Without the carriage returns that browsers put before every line's end in a form."""
    return label_config.replace("\r\n", "\n")
