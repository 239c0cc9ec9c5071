"""A Label Studio as its users have it, beside a broker, an adapter and a worker of ours with their defaults."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.label_studio.server import LabelStudioServer
from prelabel.worker.demo.shapes import SHAPES
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.running.stack import Stack, free_port, local_stack

POLL_S = 0.2
"""Seconds between two questions about the same thing, at least."""

_ASKING = 0.2
"""Share of the time in which Label Studio is asked at most: it answers more slowly the more a project holds."""

_TASKS_A_REQUEST = 1000
_PREDICTIONS_A_REQUEST = 10_000  # it counts all predictions of the project after each


def tell(what: str) -> None:
    """Progress, beside the tables."""
    print(what, file=sys.stderr, flush=True)


def config_of(labels: Sequence[str]) -> str:
    """One choice among labels about one image."""
    choices = "".join(f'<Choice value="{label}"/>' for label in labels)
    return (
        '<View><Image name="image" value="$image"/>'
        f'<Choices name="shape" toName="image" choice="single">{choices}</Choices></View>'
    )


class Site:
    """A Label Studio as its users have it. Thread-safe; close it after use.

    Args:
        server: where it is.
        pictures: address of the pictures' folder.
        names: the pictures.
    """

    def __init__(self, server: LabelStudioServer, pictures: str, names: list[str]) -> None:
        self._pictures = pictures
        self._names = names
        self._http = httpx.Client(
            base_url=server.url, headers={"Authorization": f"Token {server.token}"}, timeout=600, trust_env=False
        )

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request; what it answered, whatever that is."""
        return self._http.request(method, path, **options)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """One request; what it answered, parsed."""
        response = self.request(method, path, **options)
        if not response.is_success:
            raise SystemExit(f"Label Studio: {method} {path}: {response.status_code} {response.text[:500]}")
        return response.json()

    def make_project(self, title: str, labels: Sequence[str] = SHAPES) -> int:
        """A new project with these labels; its number."""
        return int(self.call("POST", "/api/projects/", json={"title": title, "label_config": config_of(labels)})["id"])

    def import_tasks(self, project: int, count: int) -> None:
        """Import tasks, each with a picture whose address no other has."""
        for start in range(0, count, _TASKS_A_REQUEST):
            numbers = range(start, min(start + _TASKS_A_REQUEST, count))
            of_which = f"{project}.{time.time_ns()}"
            data = [
                {"image": f"{self._pictures}/{self._names[number % len(self._names)]}?{of_which}.{number}"}
                for number in numbers
            ]
            self.call("POST", f"/api/projects/{project}/import", json=data)
            if count > _TASKS_A_REQUEST:
                tell(f"  {numbers[-1] + 1:,} tasks imported")

    def task_ids(self, project: int) -> list[int]:
        """The numbers of a project's tasks."""
        found: list[int] = []
        while True:
            params: dict[str, Any] = {"project": project, "page": 1 + len(found) // 500, "page_size": 500}
            answer = self.call("GET", "/api/tasks", params={**params, "include": "id"})
            found += [int(task["id"]) for task in answer["tasks"]]
            if len(found) >= answer["total"]:
                return found

    def import_predictions(self, project: int, tasks: list[int], version: str) -> None:
        """Import a prediction of every task, as one of this version."""
        result = [{"from_name": "shape", "to_name": "image", "type": "choices", "value": {"choices": [SHAPES[0]]}}]
        rest = {"result": result, "score": 0.5, "model_version": version}
        for start in range(0, len(tasks), _PREDICTIONS_A_REQUEST):
            some = tasks[start : start + _PREDICTIONS_A_REQUEST]
            body = [{"task": task, **rest} for task in some]
            self.call("POST", f"/api/projects/{project}/import/predictions", json=body)
            tell(f"  {start + len(some):,} predictions of {version} imported")

    def shown_version(self, project: int) -> str:
        """The version whose predictions the labeling screen uses."""
        return str(
            self.call("GET", f"/api/projects/{project}/", params={"include": "model_version"})["model_version"] or ""
        )

    def predicted(self, project: int) -> dict[str, int]:
        """How many predictions it has, by version."""
        there = self.call("GET", f"/api/projects/{project}/model-versions", params={"extended": "true"})
        return {str(one["model_version"]): int(one["count"]) for one in there["static"]}

    def tasks_with(self, project: int, version: str) -> int:
        """How many tasks have a prediction of a version."""
        has = {
            "filter": "filter:tasks:predictions_model_versions",
            "operator": "contains",
            "type": "List",
            "value": [version],
        }
        query = json.dumps({"filters": {"conjunction": "and", "items": [has]}})
        params = {"project": project, "page": 1, "page_size": 1, "include": "id", "query": query}
        return int(self.call("GET", "/api/tasks", params=params)["total"])

    def save_labels(self, project: int, labels: Sequence[str]) -> None:
        """Save a label config with these labels."""
        self.call("PATCH", f"/api/projects/{project}/", json={"label_config": config_of(labels)})

    def open_task(self, task: int) -> None:
        """Open a task as the labeling screen does."""
        self.call("GET", f"/api/tasks/{task}/")


def pause(asked_s: float) -> None:
    """Leave Label Studio alone for a while, after it was asked for some seconds."""
    time.sleep(max(POLL_S, asked_s / _ASKING - asked_s))


def wait_for(condition: Callable[[], bool], limit_s: float, what: str) -> None:
    """Wait until Label Studio says that something is so."""
    deadline = time.monotonic() + limit_s
    while True:
        started = time.monotonic()
        if condition():
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {limit_s:.0f} s: {what}")
        pause(time.monotonic() - started)


def connect(stack: Stack, project: int, *options: str) -> None:
    """`prelabel connect`."""
    command = [sys.executable, "-m", "prelabel.worker.cli", "connect", "--project", str(project)]
    done = subprocess.run(
        [*command, "--backend-url", str(stack.adapter_url), *options],
        env={**os.environ, **stack.settings.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"prelabel connect: {done.stdout}{done.stderr}")


@contextlib.contextmanager
def served(directory: Path) -> Iterator[str]:
    """A folder's address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    handler = functools.partial(Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def running_stack(server: LabelStudioServer, directory: Path) -> Iterator[Stack]:
    """A new broker, adapter and worker that know nothing of earlier ones."""
    settings = load_settings(
        model=str(CHECKPOINT),
        label_studio_url=server.url,
        label_studio_api_key=server.token,
        port=free_port(),
        allow_hosts=("127.0.0.1",),
        vector_store_dir=directory / "vectors",
    )
    with local_stack(settings, directory, adapter=True, embedded=True, broker_port=0) as stack:
        stack.wait_until_ready()
        yield stack
