"""A project with many outdated predictions is cleaned while others are served."""

from __future__ import annotations

from collections import Counter

from prelabel.integrations import Client
from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.integrations.label_studio.convert.questions import LabelConfigReader
from prelabel.integrations.label_studio.projects import at_once
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.label_studio_server.site import SHAPES_CONFIG, LabelStudio, connect_project, inline, tasks_of, until

MANY = at_once.MOST + 150
"""More than are removed in one request, which takes the rest at the end."""


def test_while_a_project_is_cleaned_imports_into_another_are_pre_labelled(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture]
) -> None:
    cleaned, other = label_studio.make_project(title="cleaned"), label_studio.make_project(title="other")
    connect_project(backend, other)
    present = LabelConfigReader(settings_model_id(backend.settings)).read(SHAPES_CONFIG).version
    old = f"{present[:-6]}000000"
    tasks = label_studio.import_tasks(cleaned, [{"image": inline(pictures[0].path)}] * MANY)
    result = [{"from_name": "shape", "to_name": "image", "type": "choices", "value": {"choices": ["star"]}}]
    for version in (old, present):
        label_studio.call(
            "POST",
            f"/api/projects/{cleaned}/import/predictions",
            json=[{"task": task, "result": result, "score": 0.5, "model_version": version} for task in tasks],
        )

    def left() -> int:
        there = label_studio.call("GET", f"/api/projects/{cleaned}/model-versions", params={"extended": "true"})
        return {one["model_version"]: int(one["count"]) for one in there["static"]}.get(old, 0)

    connect_project(backend, cleaned)
    until(lambda: left() < MANY, 60, "the cleaning has begun")
    for imported in range(3):
        label_studio.import_tasks(other, [{"image": inline(one.path)} for one in pictures[:20]])
        label_studio.wait_for(other, 20 * (imported + 1))
        assert left() > 0, "they did not wait for the cleaning"
        assert label_studio.project(cleaned)["model_version"] == present

    # It takes a minute here; somebody else removes some of what is left meanwhile.
    outdated = [one["id"] for one in label_studio.predictions(project=cleaned) if one["model_version"] == old]
    for prediction in outdated[at_once.MOST :]:
        label_studio.http.delete(f"/api/predictions/{prediction}/")
    until(lambda: not Projects(client).state(cleaned).prune, 300, "the cleaning goes on and ends")
    stored = label_studio.predictions(project=cleaned)
    assert {one["model_version"] for one in stored} == {present}
    assert Counter(tasks_of(stored)) == dict.fromkeys(tasks, 1)
    assert label_studio.project(cleaned)["model_version"] == present
