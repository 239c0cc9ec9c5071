"""Tasks are pre-labelled in the background, each once, whatever Label Studio and people do meanwhile."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx

from prelabel.integrations import Client
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.schemas import Priority
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.label_studio_server.images import CountingWeb
from tests.label_studio_server.site import (
    SHAPES_CONFIG,
    LabelStudio,
    connect_project,
    inline,
    jobs_of,
    tasks_of,
    until,
)

MANY = 2000


def test_retrieve_predictions_on_two_thousand_tasks_becomes_one_job_and_doubles_nothing(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture], web: CountingWeb
) -> None:
    project = label_studio.make_project()
    connect_project(backend, project)
    # The tasks are older than the connection, as far as prelabel knows: nobody has asked for them yet.
    Projects(client).update(project, floor=10**9)
    images = [web.url(f"good/{picture.path.name}") for picture in pictures]
    numbers = label_studio.import_tasks(project, [{"image": images[i % len(images)]} for i in range(MANY)])

    for _ in range(2):  # somebody is impatient
        assert label_studio.retrieve_predictions(project)["processed_items"] == MANY
    job, *others = jobs_of(client, project)
    assert job.progress().total == MANY
    assert job.progress().priority is Priority.BULK
    # Label Studio may have made its second list before the first job's last predictions came.
    assert all(other.progress().total < MANY / 2 for other in others)

    stored = label_studio.wait_for(project, MANY, timeout_s=240)
    assert Counter(tasks_of(stored)) == dict.fromkeys(numbers, 1)
    until(lambda: job.progress().pushed == MANY, 60, "all are marked as pushed")
    until(lambda: not Projects(client).working(project), 60, "whoever was impatient has been served too")
    assert len(label_studio.predictions(project=project)) == MANY
    assert job.progress().failed == 0


def test_a_task_three_people_open_at_once_is_answered_in_the_request_and_stored_once(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    tasks = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[:4]])
    connect_project(backend, project)
    for task in tasks:
        with ThreadPoolExecutor(3) as people:
            opened = list(people.map(label_studio.open_task, [task] * 3))
        assert sum(bool(one["predictions"]) for one in opened) >= 1
        assert len(label_studio.predictions(task=task)) == 1
    jobs = jobs_of(client, project)
    assert {job.progress().priority for job in jobs} == {Priority.INTERACTIVE}
    until(lambda: all(job.progress().pushed == 1 for job in jobs), 20, "what was answered counts as pushed")
    assert len(label_studio.predictions(project=project)) == len(tasks)


def test_opening_tasks_while_the_whole_project_is_scored_doubles_nothing(
    label_studio: LabelStudio, backend: Stack, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    tasks = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[:120]])
    connect_project(backend, project, pre_label_all=True)
    with ThreadPoolExecutor(4) as people:
        list(people.map(label_studio.open_task, tasks[::-6]))
    label_studio.wait_for(project, len(tasks))
    until(lambda: not Projects(backend.client()).working(project), 60, "all jobs have ended and pushed")
    assert Counter(tasks_of(label_studio.predictions(project=project))) == dict.fromkeys(tasks, 1)


def test_new_tasks_are_announced_and_missed_ones_are_found(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    connect_project(backend, project)
    announced = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[:5]])
    label_studio.wait_for(project, 5)

    (hook,) = label_studio.webhooks(project)
    label_studio.call("DELETE", f"/api/webhooks/{hook['id']}/")
    missed = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[5:8]])
    stored = label_studio.wait_for(project, 8)
    assert sorted(tasks_of(stored)) == sorted(announced + missed)
    assert all(job.progress().priority is Priority.BULK for job in jobs_of(client, project))


def test_a_task_whose_image_was_changed_is_scored_again(
    label_studio: LabelStudio, backend: Stack, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    star, other = (
        next(picture for picture in pictures if len(picture.pairs) == 1 and picture.pairs[0][1] == shape)
        for shape in ("star", "circle")
    )
    (task,) = label_studio.import_tasks(project, [{"image": inline(star.path)}])
    connect_project(backend, project, pre_label_all=True)
    (before,) = label_studio.wait_for(project, 1)
    assert before["result"][0]["value"] == {"choices": ["star"]}
    label_studio.update_task(task, {"image": inline(other.path)})

    def answers() -> list[list[str]]:
        return [one["result"][0]["value"]["choices"] for one in label_studio.predictions(task=task)]

    until(lambda: answers() == [["circle"]], 30, "the answer for the new image, and only that")


def test_an_image_that_cannot_be_had_is_tried_once_and_the_others_go_on(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    bad, good = label_studio.import_tasks(
        project, [{"image": "data:image/png;base64,AAAA"}, {"image": inline(pictures[0].path)}]
    )
    connect_project(backend, project, pre_label_all=True)
    assert tasks_of(label_studio.wait_for(project, 1)) == [good]
    until(lambda: not Projects(client).working(project), 20, "the job has ended")
    looked = Projects(client).state(project).since
    until(lambda: Projects(client).state(project).since > looked + 2, 20, "two more looks at the project")
    assert [job.progress().failed for job in jobs_of(client, project)] == [1]
    assert bad not in tasks_of(label_studio.predictions(project=project))


def test_a_webhook_is_only_a_hint(backend: Stack, client: Client, label_studio: LabelStudio) -> None:
    project = label_studio.make_project()
    forged = {
        "action": "TASKS_CREATED",
        "project": {"id": project, "label_config": SHAPES_CONFIG},
        "tasks": [{"id": 1}],
    }
    with httpx.Client(base_url=backend.adapter_url or "", trust_env=False) as http:
        for headers in ({}, {"X-Prelabel-Secret": "guessed"}):
            assert http.post("/webhook", json=forged, headers=headers).json() == {"status": "accepted"}
    until(lambda: not Projects(client).serves(project), 1, "nobody has connected it")
    assert jobs_of(client, project) == []
