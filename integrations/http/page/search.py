"""`/projects/<number>/search`: finding a project's images by words, by a picture or by likeness, and what to do then.

What is searched for stands in the address, so that a search can be sent to somebody and gone back to; only a picture
that is handed over comes as a form. Workers do the searching. Hits are shown best first; those that stay ticked can be
opened as a tab in Label Studio, or be proposed a label together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse

from ....schemas import ConfigError, ImageRef, PrelabelError, Settings
from ....schemas.items import INLINE_BYTES
from ...client.search import SearchResult
from ...label_studio.api.connection import LabelStudioAPI
from ...label_studio.deliver.look_alikes import label_look_alikes, undo_look_alikes
from ...label_studio.label_config import LabelConfig
from ...label_studio.projects.search_tab import open_tab
from ...problems import problems
from .asking import TIMEOUT_S, Turns, refuse_other_methods, require_connected, status_of
from .forms import hand_out, refuse_forgery, token_for
from .project_routes import form_headers
from .templates import environment, text_of
from .thumbnails import Number

if TYPE_CHECKING:
    from ...client.client import Client
    from ...label_studio.projects.register import Projects

COUNT: Final = 48
"""Hits of a page where nobody says how many."""

MOST: Final = 200
"""Hits of a page at most: each is a picture."""

AT_ONCE: Final = 4
"""Searches at a time: each keeps a thread of the adapter waiting."""

_LABELED: Final = {"": None, "yes": True, "no": False}
_DOCUMENT: Final[dict[str, Any]] = {"content": {"text/html": {}}}

Tasks = Annotated[list[int], Query(max_length=256)]


class _Asked:
    """What the form was filled in with, as it stands in the address."""

    def __init__(
        self,
        q: str = "",
        less: str = "",
        label: str = "",
        labeled: str = "",
        like: Sequence[int] = (),
        without: Sequence[int] = (),
        count: int = COUNT,
    ) -> None:
        self.q = q.strip()
        self.less = less.strip()
        self.label = label.strip()
        self.labeled = labeled if labeled in _LABELED else ""
        self.like = list(like)
        self.without = list(without)
        self.count = count

    @property
    def is_empty(self) -> bool:
        """Whether nothing is searched for."""
        return not self.q and not self.like

    @property
    def title(self) -> str:
        """What is searched for, for people."""
        if self.q:
            return self.q
        return f"like {', '.join(map(str, self.like))}" if self.like else "like a picture"

    def address(self, **changed: Any) -> str:
        """The address of this search, or of one that differs from it."""
        fields: Mapping[str, Any] = {**vars(self), **changed}
        kept = {name: value for name, value in fields.items() if value and not (name == "count" and value == COUNT)}
        return "?" + urlencode(kept, doseq=True)

    def filters(self) -> dict[str, Any]:
        """As `Client.search` takes them."""
        return {
            "label": [part.strip() for part in self.label.split(">")] if self.label else None,
            "labeled": _LABELED[self.labeled],
            "without": self.without,
            "k": self.count,
            "timeout": TIMEOUT_S,
        }


def search_router(settings: Settings, client: Client, connected: Projects, *, pictures: bool) -> APIRouter:
    """The routes.

    Args:
        settings: LABEL_STUDIO_URL and its API key.
        client: the queue of the workers.
        connected: the projects that are served.
        pictures: whether small pictures of tasks can be asked for.
    """
    router = APIRouter()
    desk = _Desk(settings, client, connected, pictures=pictures)
    document: Any = {
        "response_class": Response,
        "responses": problems(403, 404)
        | {200: {"description": "The form, and what was found", **_DOCUMENT}}
        | {409: {"description": "It cannot be searched: the page says why", **_DOCUMENT}}
        | {503: {"description": "It cannot be searched now: the page says why", **_DOCUMENT}},
    }

    @router.get("/projects/{number}/search", summary="Find images of a project; without a text the form", **document)
    def find(
        request: Request,
        number: Number,
        q: Annotated[str, Query(max_length=2_000)] = "",
        less: Annotated[str, Query(max_length=2_000)] = "",
        label: Annotated[str, Query(max_length=500)] = "",
        labeled: str = "",
        like: Tasks = [],  # noqa: B006  # FastAPI makes a list of its own
        without: Tasks = [],  # noqa: B006
        count: Annotated[int, Query(ge=1, le=MOST)] = COUNT,
    ) -> Response:
        return desk.find(request, number, _Asked(q, less, label, labeled, like, without, count))

    @router.post("/projects/{number}/search", summary="Find images like a picture that is handed over", **document)
    def find_like(
        request: Request,
        number: Number,
        picture: Annotated[UploadFile, File()],
        csrf: Annotated[str, Form()] = "",
        label: Annotated[str, Form(max_length=500)] = "",
        labeled: Annotated[str, Form()] = "",
    ) -> Response:
        refuse_forgery(request, csrf)
        content = picture.file.read(INLINE_BYTES + 1)
        return desk.find(request, number, _Asked(label=label, labeled=labeled), content)

    @router.post(
        "/projects/{number}/search/tab",
        summary="Show tasks as a tab in Label Studio",
        status_code=303,
        response_class=RedirectResponse,
        responses={303: {"description": "To the tab"}, **{s: document["responses"][s] for s in (403, 404, 409, 503)}},
    )
    def tab(
        request: Request,
        number: Number,
        csrf: Annotated[str, Form()] = "",
        task: Annotated[list[int], Form(max_length=MOST)] = [],  # noqa: B006
        title: Annotated[str, Form(max_length=2_000)] = "",
    ) -> Response:
        refuse_forgery(request, csrf)
        return desk.tab(request, number, task, title)

    @router.post("/projects/{number}/search/label", summary="Propose one label for tasks together", **document)
    def label_together(
        request: Request,
        number: Number,
        csrf: Annotated[str, Form()] = "",
        task: Annotated[list[int], Form(max_length=MOST)] = [],  # noqa: B006
        cosine: Annotated[list[str], Form(max_length=MOST)] = [],  # noqa: B006
        like: Annotated[int, Form(ge=1)] = 1,
        name: Annotated[str, Form(max_length=500)] = "",
    ) -> Response:
        refuse_forgery(request, csrf)
        return desk.label(request, number, like, _cosines(task, cosine), name)

    @router.post("/projects/{number}/search/undo", summary="Take such proposals back", **document)
    def undo(
        request: Request,
        number: Number,
        csrf: Annotated[str, Form()] = "",
        version: Annotated[str, Form(max_length=100)] = "",
    ) -> Response:
        refuse_forgery(request, csrf)
        return desk.undo(request, number, version)

    refuse_other_methods(router, "/projects/{number}/search")

    @router.get("/search.css", include_in_schema=False)
    def style() -> Response:
        return Response(text_of("search.css"), media_type="text/css", headers={"Cache-Control": "max-age=300"})

    return router


class _Desk:
    """Answers the requests: each is a document with the form, what it was filled in with, and what was found."""

    def __init__(self, settings: Settings, client: Client, connected: Projects, *, pictures: bool) -> None:
        self._settings = settings
        self._client = client
        self._connected = connected
        self._pictures = pictures
        self._turns = Turns(AT_ONCE, "others are searching at present: try again in a moment")
        self._template = environment().get_template("search.html")

    def find(self, request: Request, number: int, asked: _Asked, picture: bytes | None = None) -> Response:
        """The form with what was found."""
        require_connected(self._connected, number)
        found: SearchResult | None = None
        problem: PrelabelError | None = None
        try:
            if picture is not None or not asked.is_empty:
                with self._turns.take():
                    found = self._search(number, asked, picture)
                    len(found)  # all pages of it
        except PrelabelError as error:
            problem = error
        return self._document(request, number, asked, found=found, problem=problem)

    def _search(self, number: int, asked: _Asked, picture: bytes | None) -> SearchResult:
        if picture is not None:
            if not picture:
                raise ConfigError("no picture was chosen")
            return self._client.search(number, image=ImageRef.from_bytes(picture), **asked.filters())
        if asked.q:
            return self._client.search(number, asked.q, less=asked.less or (), **asked.filters())
        return self._client.search(number, like=asked.like, **asked.filters())

    def tab(self, request: Request, number: int, tasks: Sequence[int], title: str) -> Response:
        """To the tab in Label Studio, or the form with why there is none."""
        require_connected(self._connected, number)
        try:
            with closing(LabelStudioAPI(self._settings)) as api:
                config = LabelConfig.parse(api.project(number).get("label_config") or "")
                made = open_tab(api, number, config, tasks, f"search: {title}")
        except PrelabelError as error:
            return self._document(request, number, _Asked(), problem=error, root="../../../")
        return RedirectResponse(made.url, status_code=303)

    def label(self, request: Request, number: int, like: int, tasks: Mapping[int, float], name: str) -> Response:
        """Propose a label, and say what came of it."""
        require_connected(self._connected, number)
        done = None
        problem: PrelabelError | None = None
        try:
            if not name.strip():
                raise ConfigError("say which label the ticked tasks are to have")
            claims = self._connected.claims
            done = label_look_alikes(self._settings, claims, number, like, tasks, name.strip())
        except PrelabelError as error:
            problem = error
        return self._document(request, number, _Asked(), problem=problem, proposed=done, root="../../../")

    def undo(self, request: Request, number: int, version: str) -> Response:
        """Take proposals back."""
        require_connected(self._connected, number)
        said, problem = "", None
        try:
            removed = undo_look_alikes(self._settings, number, version or None)
            said = f"{removed:,} proposals were taken back. Annotations that were made of them stay."
        except PrelabelError as error:
            problem = error
        return self._document(request, number, _Asked(), problem=problem, said=said, root="../../../")

    def _document(
        self,
        request: Request,
        number: int,
        asked: _Asked,
        *,
        found: SearchResult | None = None,
        problem: PrelabelError | None = None,
        proposed: object = None,
        said: str = "",
        root: str = "../../",
    ) -> Response:
        token = token_for(request)
        html = self._template.render(
            root=root,
            number=number,
            asked=asked,
            hits=[] if found is None else list(found),
            found=found,
            problem=str(problem) if problem else "",
            proposed=proposed,
            said=said,
            label_studio=self._settings.label_studio_url,
            pictures=self._pictures,
            token=token,
            most_mib=INLINE_BYTES // 2**20,
        )
        headers = form_headers(self._settings)
        return hand_out(token, request, HTMLResponse(html, status_code=status_of(problem), headers=headers))


def _cosines(tasks: Sequence[int], given: Sequence[str]) -> dict[int, float]:
    """The cosines of the tasks that stayed ticked; the form has those of all as `<task>:<cosine>`."""
    told: dict[int, float] = {}
    for one in given:
        number, _, cosine = one.partition(":")
        try:
            told[int(number)] = min(1.0, max(0.0, float(cosine)))
        except ValueError:
            continue
    return {task: told.get(task, 0.0) for task in tasks}
