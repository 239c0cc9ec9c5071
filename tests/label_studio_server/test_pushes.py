"""What is pushed into a real Label Studio: once, nothing of others touched, what it does not like told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prelabel.integrations import Client
from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.integrations.label_studio.deliver.push import Pusher
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.projects.reconciler import Reconciler
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.ledger.keys import JobKeys
from prelabel.schemas import Answer, ImageRef, Item, Prediction, PushTarget, Settings, model_version
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.label_studio.server import label_studio_server
from prelabel.worker.demo.shapes import COLOURS, SHAPES
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.label_studio_server.site import SHAPES_CONFIG, LabelStudio, connect_project, inline, jobs_of, tasks_of, until

OTHER = "detector-7"
PARTS_FLAG = "fflag_fix_back_4620_memory_efficient_predictions_import_08012025_short"
NESTED_CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="shape" toName="image" allowNested="true">'
    + "".join(
        f'<Choice value="{colour}">' + "".join(f'<Choice value="{shape}"/>' for shape in SHAPES) + "</Choice>"
        for colour in COLOURS
    )
    + "</Choices></View>"
)


def answered(client: Client, project: int) -> list[Prediction]:
    return [one for job in jobs_of(client, project) for one in job.results_so_far()]


def circle(task: int, ordinal: int) -> Prediction:
    answer = Answer(control="shape", rule="softmax", paths=((SHAPES[0],),), confidence=0.9)
    version = model_version("siglip@12345678", LabelConfig.parse(SHAPES_CONFIG).to_controls())
    item = Item(id=str(task), images=(ImageRef(uri="https://example.org/a.jpg"),))
    return Prediction(item=item, ordinal=ordinal, model_version=version, answers=(answer,))


def other(task: int) -> dict[str, Any]:
    value = {"choices": [SHAPES[0]]}
    result = [{"from_name": "shape", "to_name": "image", "type": "choices", "value": value}]
    return {"task": task, "result": result, "score": 0.3, "model_version": OTHER}


def test_pushing_again_doubles_nothing_and_leaves_other_models_alone(
    label_studio: LabelStudio,
    backend: Stack,
    client: Client,
    backend_settings: Settings,
    pictures: list[Picture],
) -> None:
    project = label_studio.make_project()
    tasks = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[:10]])
    label_studio.call("POST", f"/api/projects/{project}/import/predictions", json=[other(task) for task in tasks[:4]])
    connect_project(backend, project, pre_label_all=True)
    label_studio.wait_for(project, 14)
    predictions = answered(client, project)

    target = PushTarget(project=project, label_config=SHAPES_CONFIG)
    with Pusher(backend_settings) as pusher:
        report = pusher.push(target, predictions, check_existing=True)
    assert sorted(report.skipped) == sorted(one.ordinal for one in predictions)

    (job,) = jobs_of(client, project)
    client.connection.redis.delete(JobKeys(job.id).pushed)  # as if the worker had died before it could mark them
    client.connection.redis.hdel(JobKeys(job.id).meta, "push_cursor")
    client.connection.redis.sadd("prelabel:push_pending", job.id)
    for _ in range(3):
        client.connection.sender.push(job.id)
    until(lambda: job.progress().pushed == len(tasks), 30, "the push has been repeated")
    stored = label_studio.predictions(project=project)
    by_version = Counter((one["task"], one["model_version"] == OTHER) for one in stored)
    assert by_version == Counter([(task, True) for task in tasks[:4]] + [(task, False) for task in tasks])
    confidences = {int(one.item.id): one.confidence for one in predictions}
    for one in stored:
        if one["model_version"] != OTHER:
            assert one["score"] == pytest.approx(confidences[one["task"]], abs=1e-4)


def test_the_data_manager_shows_and_sorts_by_our_confidence(
    label_studio: LabelStudio, backend: Stack, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[:6]])
    connect_project(backend, project, pre_label_all=True)
    stored = {one["task"]: one["score"] for one in label_studio.wait_for(project, 6)}
    query = '{"ordering":["tasks:predictions_score"]}'
    listed = label_studio.call("GET", "/api/tasks", params={"project": project, "fields": "all", "query": query})
    shown = {task["id"]: task["predictions_score"] for task in listed["tasks"]}
    assert shown == pytest.approx(stored, abs=1e-3)
    assert list(shown) == sorted(shown, key=lambda task: stored[task])


def test_nested_choices_go_past_the_bulk_validator_that_drops_them(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture]
) -> None:
    project = label_studio.make_project(NESTED_CONFIG)
    tasks = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[:3]])
    connect_project(backend, project, pre_label_all=True)
    stored = label_studio.wait_for(project, 3)
    assert sorted(tasks_of(stored)) == tasks
    for one in stored:
        (path,) = one["result"][0]["value"]["choices"]
        assert path[0] in COLOURS
    (job,) = jobs_of(client, project)
    until(lambda: job.progress().pushed == 3, 20, "all are marked as pushed")


def test_what_label_studio_drops_or_has_deleted_is_recorded_and_not_tried_again(
    label_studio: LabelStudio, client: Client, backend_settings: Settings, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    here, gone = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[:2]])
    label_studio.call("DELETE", f"/api/tasks/{gone}/")
    lacking = label_studio.make_project(SHAPES_CONFIG.replace(f'<Choice value="{SHAPES[0]}"/>', ""))
    circle = next(one for one in pictures if len(one.pairs) == 1 and one.pairs[0][1] == SHAPES[0])
    (dropped,) = label_studio.import_tasks(lacking, [{"image": inline(circle.path)}])
    deleted = label_studio.make_project()
    (lost,) = label_studio.import_tasks(deleted, [{"image": inline(pictures[0].path)}])
    label_studio.delete_project(deleted)

    def submit(number: int, tasks: list[tuple[int, Picture]]):
        return client.submit(
            [Item(id=str(task), images=(ImageRef(uri=inline(picture.path)),)) for task, picture in tasks],
            LabelConfig.parse(SHAPES_CONFIG).to_controls(),
            model=settings_model_id(backend_settings),
            push=PushTarget(project=number, label_config=SHAPES_CONFIG),
        )

    jobs = {
        "task": submit(project, [(here, pictures[0]), (gone, pictures[1])]),
        "dropped": submit(lacking, [(dropped, circle)]),
        "project": submit(deleted, [(lost, pictures[0])]),
    }
    redis = client.connection.redis

    def settled() -> bool:
        return not any(redis.sismember("prelabel:push_pending", job.id) for job in jobs.values())

    until(settled, 60, "nothing is left to be pushed")
    reasons = {
        name: [reason.decode() for reason in redis.hgetall(JobKeys(job.id).push_failed).values()]
        for name, job in jobs.items()
    }
    assert [len(found) for found in reasons.values()] == [1, 1, 1]
    assert reasons["task"] == [f"project {project} has no task {gone}"]
    assert "label config has changed" in reasons["dropped"][0]
    assert f"no project {deleted}" in reasons["project"][0]
    assert tasks_of(label_studio.predictions(project=project)) == [here]
    assert label_studio.predictions(project=lacking) == []


def test_a_label_studio_that_stores_part_of_an_import_before_it_refuses_the_rest_gets_each_once(
    tmp_path: Path,
) -> None:
    in_parts = {PARTS_FLAG: "true", "PREDICTION_IMPORT_BATCH_SIZE": "2"}
    with label_studio_server(tmp_path, settings=in_parts) as server, LabelStudio(server) as site:
        project = site.make_project()
        tasks = site.import_tasks(project, [{"image": f"https://example.org/{number}.jpg"} for number in range(7)])
        site.call("DELETE", f"/api/tasks/{tasks[4]}/")
        settings = load_settings(label_studio_url=server.url, label_studio_api_key=server.token)
        with Pusher(settings) as pusher:
            report = pusher.push(
                PushTarget(project=project, label_config=SHAPES_CONFIG),
                [circle(task, ordinal) for ordinal, task in enumerate(tasks)],
            )
        assert report.pushed == (0, 1, 2, 3, 5, 6)
        assert report.rejected == ((4, f"project {project} has no task {tasks[4]}"),)
        assert tasks_of(site.predictions(project=project)) == [task for task in tasks if task != tasks[4]]


def test_a_prediction_that_was_stored_after_it_had_been_given_up_is_removed(
    label_studio: LabelStudio, client: Client, backend_settings: Settings
) -> None:
    project = label_studio.make_project()
    (task,) = label_studio.import_tasks(project, [{"image": "https://example.org/a.jpg"}])
    version = f"{settings_model_id(backend_settings)}+tax.abcdef"
    ours = {**other(task), "model_version": version}
    for one in (other(task), ours, ours, other(task)):  # Label Studio was slow, and asked again
        label_studio.call("POST", "/api/predictions/", json=one)
    first = min(one["id"] for one in label_studio.predictions(task=task) if one["model_version"] == version)
    projects = Projects(client)
    projects.claims.verify_later(project, [(task, version)], 0.0)
    reconciler = Reconciler(backend_settings, client, projects, settings_model_id(backend_settings))
    try:
        reconciler.tick()
    finally:
        reconciler.stop()
    stored = label_studio.predictions(task=task)
    assert [one["id"] for one in stored if one["model_version"] == version] == [first]
    assert sum(one["model_version"] == OTHER for one in stored) == 2
