"""Which tasks are pre-labelled, in which order, and when: as a labeling lead asks for it."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from prelabel.integrations import Client
from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.integrations.label_studio.projects.again import score_again
from prelabel.integrations.label_studio.projects.keys import PROJECT_HINTS
from prelabel.integrations.label_studio.projects.pausing import HeldBack, pause, resume
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.schemas import ConfigError, Priority
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.label_studio_server.elsewhere import at_work_elsewhere
from tests.label_studio_server.site import (
    SHAPES_CONFIG,
    LabelStudio,
    connect_project,
    inline,
    jobs_of,
    queued_by,
    tasks_of,
    until,
)


def test_unlabelled_tasks_come_first_the_newest_of_them_and_the_labelled_only_where_wanted(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    tasks = label_studio.import_tasks(project, [{"image": inline(one.path)} for one in pictures[:6]])
    labelled = [tasks[1], tasks[4]]
    for task in labelled:
        label_studio.annotate(task)
    unlabelled = [task for task in tasks if task not in labelled]
    connect_project(backend, project, pre_label_all=True, unlabelled_only=True, priority=Priority.INTERACTIVE)
    assert sorted(tasks_of(label_studio.wait_for(project, 4))) == unlabelled
    (job,) = jobs_of(client, project)
    assert queued_by(client, job) == unlabelled[::-1]
    assert job.progress().priority is Priority.INTERACTIVE
    looked = Projects(client).state(project).since
    until(lambda: Projects(client).state(project).since > looked + 2, 30, "another look at the project")
    assert len(label_studio.predictions(project=project)) == 4

    label_studio.delete_predictions(tasks)
    until(lambda: not Projects(client).working(project), 30, "the first job has ended")
    connect_project(backend, project, pre_label_all=True, unlabelled_only=False)
    assert sorted(tasks_of(label_studio.wait_for(project, 6))) == tasks
    assert queued_by(client, jobs_of(client, project)[-1]) == [*unlabelled[::-1], *labelled[::-1]]


def test_a_paused_project_is_left_alone_and_goes_on_where_it_stopped(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    tasks = label_studio.import_tasks(project, [{"image": inline(one.path)} for one in pictures[:20]])
    waiting = tasks[:2]
    with at_work_elsewhere(client, project, SHAPES_CONFIG, waiting):
        connect_project(backend, project, pre_label_all=True)
        label_studio.wait_for(project, 18)
        assert pause(client, project) == len(waiting)
    until(lambda: not Projects(client).working(project), 30, "its jobs have ended")
    came = label_studio.import_tasks(project, [{"image": inline(pictures[20].path)}])
    assert label_studio.open_task(tasks[0])["predictions"] == []
    label_studio.retrieve_predictions(project)
    until(lambda: not _hinted(client, project), 30, "the import was looked at")
    assert not Projects(client).working(project)
    assert len(label_studio.predictions(project=project)) == 18

    assert resume(client, project) == len(waiting)
    stored = label_studio.wait_for(project, 21)
    assert Counter(tasks_of(stored)) == dict.fromkeys([*tasks, *came], 1)
    assert HeldBack(client).numbers(project) == []


@pytest.mark.parametrize("how", ["tasks", "tab"])
def test_chosen_tasks_are_scored_again_and_only_our_predictions_of_them_are_replaced(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture], how: str
) -> None:
    project = label_studio.make_project()
    tasks = label_studio.import_tasks(project, [{"image": inline(one.path)} for one in pictures[:5]])
    connect_project(backend, project, pre_label_all=True)
    before = {one["task"]: one["id"] for one in label_studio.wait_for(project, 5)}
    until(lambda: not Projects(client).working(project), 30, "the job has ended")
    theirs = {"task": tasks[0], "result": [], "score": 0.1, "model_version": "somebody else's"}
    label_studio.call("POST", f"/api/projects/{project}/import/predictions", json=[theirs])
    chosen = tasks[:3]
    filters = {"filter": "filter:tasks:id", "operator": "less", "type": "Number", "value": tasks[3]}
    data = {"title": "chosen", "filters": {"conjunction": "and", "items": [filters]}}
    tab = label_studio.call("POST", "/api/dm/views/", json={"project": project, "data": data})["id"]
    asked = {"settings": backend.settings, "client": client, "model": settings_model_id(backend.settings)}

    report = score_again(**asked, project=project, **({"tab": tab} if how == "tab" else {"numbers": chosen}))
    assert report.queued == 3
    stored = label_studio.wait_for(project, 6)
    ours = {one["task"]: one["id"] for one in stored if one["model_version"] != "somebody else's"}
    assert len(stored) == 6
    assert sorted(ours) == tasks
    assert {task for task in tasks if ours[task] != before[task]} == set(chosen)
    other = label_studio.make_project()
    connect_project(backend, other)
    for mistake, said in (({"tab": tab}, f"has no tab {tab}"), ({"numbers": tasks}, f"has no task {tasks[0]}, ")):
        with pytest.raises(ConfigError, match=said):
            score_again(**asked, project=other, **mistake)


def test_deleting_the_model_in_label_studios_dialog_stops_prelabel_until_it_is_connected_again(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    connect_project(backend, project)
    first = label_studio.import_tasks(project, [{"image": inline(pictures[0].path)}])
    label_studio.wait_for(project, 1)
    until(lambda: not Projects(client).working(project), 30, "the job has ended")
    (ml,) = label_studio.backends(project)
    label_studio.call("DELETE", f"/api/ml/{ml['id']}")
    until(lambda: Projects(client).state(project).stopped, 60, "prelabel has seen it")
    until(lambda: label_studio.webhooks(project) == [], 20, "the webhook is gone")
    assert "deleted in Label Studio" in Projects(client).state(project).problem

    second = label_studio.import_tasks(project, [{"image": inline(pictures[1].path)}])
    label_studio.update_project(project, label_config=SHAPES_CONFIG.replace('<Choice value="star"/>', ""))
    Projects(client).hint(project)
    until(lambda: not _hinted(client, project), 30, "it was looked at")
    assert label_studio.backends(project) == [], "it is not made again"
    assert tasks_of(label_studio.predictions(project=project)) == first
    assert jobs_of(client, project)[1:] == []

    connect_project(backend, project)
    assert Projects(client).state(project).problem == ""
    version = label_studio.backends(project)[0]["title"]
    stored = label_studio.wait_for(project, 2, version=version)
    assert sorted(tasks_of(stored)) == [*first, *second]
    assert len(label_studio.webhooks(project)) == 1


def _hinted(client: Client, project: int) -> bool:
    """Whether the project is to be looked at now."""
    at = client.connection.redis.zscore(PROJECT_HINTS, project)
    return at is not None and at <= time.time()
