"""The demo's project in a real Label Studio: generated pictures, two questions about each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import httpx

from ...integrations.client.checkpoint import settings_model_id
from ...integrations.client.client import Client
from ...integrations.client.job import Job
from ...integrations.label_studio.projects.connect import connect
from ...integrations.label_studio.projects.register import Projects
from ...schemas.errors import TransientError
from ..running.stack import Stack
from .label_studio.server import LabelStudioServer
from .shapes import COLOURS, SHAPES
from .story import Picture

TITLE: Final = "Shapes (prelabel demo)"

_UPLOADED_AT_ONCE = 50


def _choices(name: str, labels: Sequence[str], heading: str) -> str:
    choices = "".join(f'<Choice value="{label}"/>' for label in labels)
    return (
        f'<Header value="{heading}"/><Choices name="{name}" toName="image" choice="single-radio" '
        f'showInLine="true">{choices}</Choices>'
    )


LABEL_CONFIG: Final = (
    '<View><Image name="image" value="$image" width="360px"/>'
    + _choices("shape", SHAPES, "Which shape is it?")
    + _choices("colour", tuple(COLOURS), "Which colour?")
    + "</View>"
)


_SHOWN_COLUMNS = ("id", "data.image", "predictions_score", "predictions_model_versions", "total_annotations")


class DemoProject(NamedTuple):
    """The project, and its page in a browser: a table of the tasks with their scores, the least sure first."""

    number: int
    url: str


def make_project(server: LabelStudioServer, pictures: Sequence[Picture]) -> DemoProject:
    """A new project with the pictures uploaded, as a person would by dropping files.

    Raises:
        TransientError: Label Studio refuses it.
    """
    headers = {"Authorization": f"Token {server.token}"}
    try:
        with httpx.Client(base_url=server.url, headers=headers, timeout=120, trust_env=False) as http:
            made = http.post("/api/projects/", json={"title": TITLE, "label_config": LABEL_CONFIG})
            made.raise_for_status()
            project = int(made.json()["id"])
            for start in range(0, len(pictures), _UPLOADED_AT_ONCE):
                with ExitStack() as stack:
                    some = pictures[start : start + _UPLOADED_AT_ONCE]
                    files = {
                        f"file{i}": (picture.path.name, stack.enter_context(picture.path.open("rb")), "image/jpeg")
                        for i, picture in enumerate(some)
                    }
                    http.post(f"/api/projects/{project}/import", files=files).raise_for_status()
            view = http.post("/api/dm/views/", json={"project": project, "data": _view(http, project)})
            view.raise_for_status()
            tab = int(view.json()["id"])
    except httpx.HTTPError as error:
        raise TransientError(f"the demo's project cannot be made: {type(error).__name__} (log: {server.log})") from None
    return DemoProject(project, f"{server.url}/projects/{project}/data?tab={tab}")


def _view(http: httpx.Client, project: int) -> dict[str, Any]:
    columns = http.get("/api/dm/columns", params={"project": project}).raise_for_status().json()["columns"]
    names = [f"{'data.' if one.get('parent') == 'data' else ''}{one['id']}" for one in columns if one["id"] != "data"]
    hidden = [f"tasks:{name}" for name in names if name not in _SHOWN_COLUMNS]
    return {
        "title": "least sure first",
        "type": "list",
        "target": "tasks",
        "hiddenColumns": {"explore": hidden, "labeling": hidden},
        "ordering": ["tasks:predictions_score"],
        "filters": {"conjunction": "and", "items": []},
    }


def pre_label(stack: Stack, client: Client, project: int, tell: Callable[[str], None]) -> list[Job]:
    """Connect the project, and have every task of it pre-labelled; returns the jobs that do.

    Raises:
        TransientError: a step of `prelabel connect` has failed.
    """
    tell("prelabel connect")
    steps = connect(
        stack.settings,
        project=project,
        backend_url=stack.adapter_url or "",
        model=settings_model_id(stack.settings),
        client=client,
        pre_label_all=True,
    )
    if steps[-1].status == "failed":
        raise TransientError(f"{steps[-1].name}: {steps[-1].detail}")
    return [client.job(job_id) for job_id in Projects(client).working(project)]
