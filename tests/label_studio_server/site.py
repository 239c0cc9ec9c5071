"""What people do in a Label Studio, through its HTTP API."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from types import TracebackType
from typing import Any, Self

import httpx

from prelabel.integrations import Client
from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.integrations.client.job import Job
from prelabel.integrations.label_studio.projects.connect import connect
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.label_studio.projects.registration import Step
from prelabel.worker.demo.label_studio.server import LabelStudioServer
from prelabel.worker.demo.shapes import SHAPES
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack

SHAPES_CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="shape" toName="image" choice="single">'
    + "".join(f'<Choice value="{shape}"/>' for shape in SHAPES)
    + "</Choices></View>"
)


class LabelStudio:
    """One server, as its user.

    Attributes:
        url: where it is.
        http: an authorized client of its API; paths are relative to `url`.
    """

    def __init__(self, server: LabelStudioServer) -> None:
        self.server = server
        self.url = server.url
        self.http = httpx.Client(
            base_url=server.url, headers={"Authorization": f"Token {server.token}"}, timeout=120, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """One request; what it answered, parsed."""
        response = self.http.request(method, path, **options)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text[:500]}"
        return response.json() if response.content else None

    def make_project(self, label_config: str = SHAPES_CONFIG, title: str = "test", **fields: Any) -> int:
        """A new project; returns its number."""
        body = {"title": title, "label_config": label_config, **fields}
        return int(self.call("POST", "/api/projects/", json=body)["id"])

    def update_project(self, project: int, **fields: Any) -> dict[str, Any]:
        """PATCH a project."""
        return dict(self.call("PATCH", f"/api/projects/{project}/", json=fields))

    def project(self, project: int) -> dict[str, Any]:
        """A project as Label Studio has it now."""
        return dict(self.call("GET", f"/api/projects/{project}/"))

    def delete_project(self, project: int) -> None:
        """Delete a project with all it has."""
        self.call("DELETE", f"/api/projects/{project}/")

    def import_tasks(self, project: int, data: Iterable[dict[str, Any]]) -> list[int]:
        """Import tasks, each given as its data; returns their numbers in the same order."""
        before = set(self.task_ids(project))
        self.call("POST", f"/api/projects/{project}/import", json=list(data))
        return [number for number in self.task_ids(project) if number not in before]

    def task_ids(self, project: int) -> list[int]:
        """The numbers of a project's tasks, ascending."""
        found: list[int] = []
        page = 0
        while True:
            page += 1
            answer = self.call(
                "GET", "/api/tasks", params={"project": project, "page": page, "page_size": 500, "include": "id"}
            )
            found += [task["id"] for task in answer["tasks"]]
            if len(found) >= answer["total"]:
                return sorted(found)

    def open_task(self, task: int) -> dict[str, Any]:
        """Open a task as the labeling screen does; asks the backend where there is no prediction."""
        return dict(self.call("GET", f"/api/tasks/{task}/"))

    def update_task(self, task: int, data: dict[str, Any]) -> None:
        """Change a task's data."""
        self.call("PATCH", f"/api/tasks/{task}/", json={"data": data})

    def predictions(self, *, project: int | None = None, task: int | None = None) -> list[dict[str, Any]]:
        """Every prediction of a project or of a task."""
        params = {"project": project} if task is None else {"task": task}
        return list(self.call("GET", "/api/predictions/", params=params))

    def annotate(self, task: int, choice: str = "star") -> None:
        """Submit an annotation of a task, as a person does."""
        result = [{"from_name": "shape", "to_name": "image", "type": "choices", "value": {"choices": [choice]}}]
        self.call("POST", f"/api/tasks/{task}/annotations/", json={"result": result})

    def delete_predictions(self, tasks: Iterable[int]) -> None:
        """Delete every prediction of some tasks, as a person does in the Data Manager."""
        for task in tasks:
            for prediction in self.predictions(task=task):
                self.call("DELETE", f"/api/predictions/{prediction['id']}/")

    def retrieve_predictions(self, project: int) -> dict[str, Any]:
        """The Data Manager's "Retrieve predictions" on all tasks."""
        return dict(
            self.call(
                "POST",
                "/api/dm/actions",
                params={"id": "retrieve_tasks_predictions", "project": project},
                json={"selectedItems": {"all": True, "excluded": []}},
            )
        )

    def backends(self, project: int) -> list[dict[str, Any]]:
        """The project's ML backends."""
        return list(self.call("GET", "/api/ml", params={"project": project}))

    def webhooks(self, project: int) -> list[dict[str, Any]]:
        """The project's webhooks."""
        return list(self.call("GET", "/api/webhooks/", params={"project": project}))

    def upload(self, project: int, files: Sequence[Path]) -> list[str]:
        """Upload images as a person does by dropping files; returns the tasks' `/data/upload/…` references."""
        for path in files:
            with path.open("rb") as file:
                self.call("POST", f"/api/projects/{project}/import", files={"file": (path.name, file, "image/jpeg")})
        tasks = self.call("GET", "/api/tasks", params={"project": project, "fields": "all", "page_size": 500})["tasks"]
        return [next(iter(task["data"].values())) for task in tasks]

    def wait_for(
        self, project: int, count: int, *, version: str | None = None, timeout_s: float = 60.0
    ) -> list[dict[str, Any]]:
        """Wait until the project has `count` predictions (of a version); returns them."""

        def enough() -> list[dict[str, Any]]:
            found = self.predictions(project=project)
            chosen = [one for one in found if version is None or one["model_version"] == version]
            return chosen if len(chosen) >= count else []

        return list(until(enough, timeout_s, f"{count} predictions in project {project}"))


def connect_project(backend: Stack, project: int, **asked: Any) -> list[Step]:
    """`prelabel connect`, as the command does it."""
    assert backend.adapter_url is not None
    return connect(
        backend.settings,
        project=project,
        backend_url=backend.adapter_url,
        model=settings_model_id(backend.settings),
        client=backend.client(),
        **asked,
    )


def prelabel(backend: Stack, *arguments: object, stdin: str = "", **variables: str) -> CompletedProcess[str]:
    """Run a command with the backend's settings in a terminal's 80 columns; `variables` are of its environment."""
    return subprocess.run(
        [sys.executable, "-m", "prelabel.worker.cli", *map(str, arguments)],
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1", **backend.settings.environment(), **variables},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
    )


def pre_labelled_project(label_studio: LabelStudio, backend: Stack, pictures: Iterable[Picture], title: str) -> int:
    """A connected project of twelve single figures, all pre-labelled; returns its number."""
    project = label_studio.make_project(title=title)
    chosen = [picture for picture in pictures if len(picture.pairs) == 1][:12]
    tasks = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in chosen])
    connect_project(backend, project, pre_label_all=True)
    label_studio.wait_for(project, len(tasks))
    with backend.client() as client:
        until(lambda: not Projects(client).working(project), 30, "the job has ended")
    return project


def jobs_of(client: Client, project: int) -> list[Job]:
    """Jobs that push to a project, the oldest first."""
    jobs = [client.job(progress.job_id) for progress in client.jobs(1000)]
    return [job for job in reversed(jobs) if (push := job.spec().push) is not None and push.project == project]


def queued_by(client: Client, job: Job) -> list[int]:
    """The tasks of a job, in the order they were queued."""
    return [int(item.id) for item in client.connection.store.items(job.id, range(job.progress().total))]


def tasks_of(predictions: Iterable[dict[str, Any]]) -> list[int]:
    """The task of each prediction."""
    return [prediction["task"] for prediction in predictions]


def inline(path: Path) -> str:
    """A picture as a `data:` URI."""
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


def until(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """The first truthy value of `condition()`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.2)
