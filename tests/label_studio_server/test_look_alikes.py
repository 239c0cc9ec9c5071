"""Labelling look-alikes together in a real Label Studio, beside the pre-labels of a real backend."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from prelabel.integrations import Client
from prelabel.integrations.label_studio.api.connection import LabelStudioAPI
from prelabel.integrations.label_studio.deliver.look_alikes import (
    ANNOTATED,
    LABELLED,
    SKIPPED,
    is_look_alike,
    label_look_alikes,
    undo_look_alikes,
)
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.projects.connect import disconnect
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.label_studio.projects.search_tab import open_tab
from prelabel.schemas import Settings
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.label_studio_server.site import (
    SHAPES_CONFIG,
    LabelStudio,
    connect_project,
    inline,
    pre_labelled_project,
    until,
)


def versions(label_studio: LabelStudio, project: int) -> Counter[str]:
    return Counter(one["model_version"] for one in label_studio.predictions(project=project))


def annotations(label_studio: LabelStudio, task: int) -> list[tuple[list[str], bool]]:
    """What people said of a task: the chosen labels, and whether they skipped it."""
    found = label_studio.call("GET", f"/api/tasks/{task}/annotations/")
    return [([one for each in f["result"] for one in each["value"]["choices"]], f["was_cancelled"]) for f in found]


def skip(label_studio: LabelStudio, task: int) -> None:
    label_studio.call("POST", f"/api/tasks/{task}/annotations/", json={"result": [], "was_cancelled": True})


def skipped(label_studio: LabelStudio, project: int) -> list[int]:
    """The tasks that somebody has skipped and nobody annotated."""
    params = {"project": project, "include": "id,total_annotations,cancelled_annotations", "page_size": 500}
    listed = label_studio.call("GET", "/api/tasks", params=params)["tasks"]
    return [task["id"] for task in listed if task["cancelled_annotations"] and not task["total_annotations"]]


def test_look_alikes_become_annotations_in_one_action_and_can_be_taken_back(
    label_studio: LabelStudio, backend: Stack, backend_settings: Settings, client: Client, pictures: list[Picture]
) -> None:
    project = pre_labelled_project(label_studio, backend, pictures, "look-alikes")
    tasks = label_studio.task_ids(project)
    (present,) = versions(label_studio, project)
    label_studio.annotate(tasks[1], "circle")
    skip(label_studio, tasks[2])
    claims = Projects(client).claims

    cosines = {task: 0.95 - n / 100 for n, task in enumerate(tasks)}
    done = label_look_alikes(backend_settings, claims, project, tasks[0], cosines, "star")
    assert (done.pushed, done.left_out) == (10, {ANNOTATED: 1, SKIPPED: 1})
    hits = [task for task in tasks if task not in (tasks[1], tasks[2])]
    pushed = [one for one in label_studio.predictions(project=project) if one["model_version"] == done.version]
    assert {one["task"]: one["score"] for one in pushed} == {task: round(cosines[task], 4) for task in hits}
    assert label_studio.project(project)["model_version"] == present, "what is shown stays"
    again = label_look_alikes(backend_settings, claims, project, tasks[0], cosines, "star")
    assert again == (done.version, 0, {ANNOTATED: 1, SKIPPED: 1, LABELLED: 10})

    with closing(LabelStudioAPI(backend_settings)) as api:
        tab = open_tab(api, project, LabelConfig.parse(SHAPES_CONFIG), hits[:8], "search: like 1")
    answer = label_studio.call(
        "POST",
        "/api/dm/actions",
        params={"id": "predictions_to_annotations", "project": project, "view": tab.number},
        json={"model_version": done.version},
    )
    assert answer["detail"] == "Created 8 annotations"
    for task in hits[:8]:
        assert annotations(label_studio, task) == [(["star"], False)]
    for task in hits[8:]:
        assert annotations(label_studio, task) == []
    assert annotations(label_studio, tasks[1]) == [(["circle"], False)]
    assert skipped(label_studio, project) == [tasks[2]]

    assert undo_look_alikes(backend_settings, project) == 10
    assert versions(label_studio, project) == {present: 12}
    assert all(annotations(label_studio, task) == [(["star"], False)] for task in hits[:8]), "they are people's now"
    assert label_studio.project(project)["model_version"] == present


def test_the_newest_is_taken_back_first_and_nothing_else(
    label_studio: LabelStudio, backend_settings: Settings, pictures: list[Picture]
) -> None:
    project = label_studio.make_project(title="unconnected look-alikes")
    tasks = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[:4]])
    label_studio.call(
        "POST",
        f"/api/projects/{project}/import/predictions",
        json=[{"task": task, "result": [], "score": 0.5, "model_version": "theirs"} for task in tasks],
    )

    def propose(label: str) -> Any:
        return label_look_alikes(backend_settings, None, project, tasks[0], dict.fromkeys(tasks, 0.5), label)

    stars, circles = propose("star"), propose("circle")
    assert not label_studio.project(project)["model_version"], "a project that shows nothing goes on showing nothing"
    assert undo_look_alikes(backend_settings, project) == 4
    assert versions(label_studio, project) == {"theirs": 4, stars.version: 4}
    assert undo_look_alikes(backend_settings, project, circles.version) == 0
    assert undo_look_alikes(backend_settings, project, stars.version) == 4
    assert undo_look_alikes(backend_settings, project) == 0
    assert versions(label_studio, project) == {"theirs": 4}


def test_pre_labelling_goes_on_beside_look_alikes_and_leaves_them_alone(
    label_studio: LabelStudio, backend: Stack, backend_settings: Settings, client: Client, pictures: list[Picture]
) -> None:
    project = label_studio.make_project(title="beside look-alikes")
    tasks = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[:8]])
    projects = Projects(client)
    cosines = dict.fromkeys(tasks[:4], 0.5)
    done = label_look_alikes(backend_settings, projects.claims, project, tasks[0], cosines, "star")

    connect_project(backend, project, pre_label_all=True)
    label_studio.wait_for(project, 8 + 4)
    label_studio.retrieve_predictions(project)  # asks /predict of what has none of the present version
    label_studio.open_task(tasks[0])
    first = label_studio.project(project)["model_version"]
    assert versions(label_studio, project) == {first: 8, done.version: 4}
    assert not is_look_alike(first)

    more = SHAPES_CONFIG.replace("</Choices>", '<Choice value="none of them"/></Choices>')
    label_studio.update_project(project, label_config=more)
    until(lambda: versions(label_studio, project).total() > 12, 60, "it is scored again")
    until(lambda: first not in versions(label_studio, project), 120, "the earlier version is removed")
    until(lambda: not projects.state(project).prune, 60, "the cleaning has ended")
    second = label_studio.project(project)["model_version"]
    assert second != first
    assert versions(label_studio, project) == {second: 8, done.version: 4}

    assert undo_look_alikes(backend_settings, project, done.version) == 4
    assert label_studio.project(project)["model_version"] == second, "and it goes on asking for predictions"
    again = label_look_alikes(backend_settings, projects.claims, project, tasks[0], cosines, "star")
    assert (again.version, again.pushed) == (done.version, 4)
    assert backend.adapter_url is not None
    disconnect(backend_settings, project=project, backend_url=backend.adapter_url, client=client)
    assert versions(label_studio, project) == {second: 8, done.version: 4}
    assert label_studio.project(project)["model_version"] == second


@pytest.mark.parametrize(
    ("control", "label", "value"),
    [
        (
            '<Taxonomy name="t" toName="image"><Choice value="A"><Choice value="B" alias="b"/></Choice></Taxonomy>',
            "A > B",
            {"taxonomy": [["A", "b"]]},
        ),
        (
            '<Choices name="t" toName="image" allowNested="true"><Choice value="A"><Choice value="B"/>'
            '<Choice value="C"/></Choice></Choices>',
            "B",
            {"choices": [["A", "B"]]},
        ),
        (
            '<Choices name="t" toName="image" choice="multiple"><Choice value="A cat" alias="cat"/></Choices>',
            "A cat",
            {"choices": ["cat"]},
        ),
    ],
    ids=["taxonomy", "nested choices", "multiple with an alias"],
)
def test_a_label_is_stored_as_label_studio_stores_it(
    label_studio: LabelStudio, backend_settings: Settings, control: str, label: str, value: dict[str, Any]
) -> None:
    xml = f'<View><Image name="image" value="$image"/>{control}</View>'
    project = label_studio.make_project(xml)
    tasks = label_studio.import_tasks(project, [{"image": "s3://bucket/1.jpg"}])
    done = label_look_alikes(backend_settings, None, project, tasks[0], {tasks[0]: 0.7}, label)
    assert (done.pushed, done.left_out) == (1, {})
    (stored,) = label_studio.predictions(project=project)
    assert stored["result"][0]["value"] == value
