"""A project that gets a model of its own, served by a second worker, and changes its mind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from prelabel.integrations import Client
from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.schemas.model_version import ModelVersion
from prelabel.worker.demo.story import CHECKPOINT, Picture
from prelabel.worker.running.stack import Stack
from tests.integration.redis_worker import worker
from tests.label_studio_server.site import LabelStudio, inline, pre_labelled_project, prelabel, until


@pytest.fixture
def other(backend: Stack, client: Client, tmp_path: Path) -> Iterator[str]:
    """The id of a second checkpoint, which a second worker on the same Redis serves."""
    folder = tmp_path / "siglip-other"
    shutil.copytree(CHECKPOINT, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "initializer_factor": 2.0}))
    settings = backend.settings.model_copy(update={"model": str(folder)})
    model = settings_model_id(settings)
    with worker(settings, tmp_path / "other.log"):
        until(lambda: model in {one.model for one in client.workers()}, 120, "the second worker is ready")
        yield model


def models(label_studio: LabelStudio, project: int) -> dict[int, set[str]]:
    """The models of each task's predictions."""
    found: dict[int, set[str]] = {}
    for one in label_studio.predictions(project=project):
        version = ModelVersion.parse(one["model_version"])
        assert version is not None
        found.setdefault(one["task"], set()).add(version.model)
    return found


def is_settled(label_studio: LabelStudio, project: int, wanted: dict[int, set[str]], shown: str) -> bool:
    """Whether tasks have predictions of these models alone, and project and backend say so."""
    versions = {label_studio.project(project)["model_version"] or ""}
    versions |= {backend["title"] for backend in label_studio.backends(project)}
    said = {version.model for text in versions if (version := ModelVersion.parse(text))}
    return models(label_studio, project) == wanted and said == {shown}


def test_a_project_is_scored_with_the_model_it_chose_and_again_when_that_changes(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture], other: str
) -> None:
    own = settings_model_id(backend.settings)
    project = pre_labelled_project(label_studio, backend, pictures, "a model of its own")
    tasks = label_studio.task_ids(project)
    assert models(label_studio, project) == {task: {own} for task in tasks}

    refused = prelabel(backend, "connect", "--project", project, "--model", "siglip-none")
    assert refused.returncode == 2
    assert "no worker serves 'siglip-none' (those running serve" in " ".join(refused.stderr.split())

    label_studio.annotate(tasks[0])
    arguments = ("connect", "--project", project, "--backend-url", backend.adapter_url, "--unlabelled-only")
    done = prelabel(backend, *arguments, "--model", "siglip-other")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"scored with {other}" in " ".join(done.stdout.split())
    wanted = {tasks[0]: {own}, **{task: {other} for task in tasks[1:]}}
    until(lambda: is_settled(label_studio, project, wanted, other), 90, "all unlabelled tasks are scored again")

    (came,) = label_studio.import_tasks(project, [{"image": inline(pictures[20].path)}])
    label_studio.open_task(came)
    wanted[came] = {other}
    until(lambda: is_settled(label_studio, project, wanted, other), 60, "what comes later is scored with it")

    done = prelabel(backend, *arguments, "--model", "default")
    assert done.returncode == 0, done.stdout + done.stderr
    back = {task: {own} for task in (*tasks, came)}
    until(lambda: is_settled(label_studio, project, back, own), 90, "the adapter's own model has scored them again")
    assert Projects(client).state(project).model == ""
