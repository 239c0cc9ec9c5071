"""Every control of the cookbook through a real Label Studio: stored as pushed, and as docs/label-configs.md says.

A row is a project of its own, connected and pre-labelled as `prelabel connect --all` does it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import httpx
import pytest
from label_studio_sdk.label_interface import LabelInterface

from prelabel.integrations.label_studio.convert.results import prediction_to_label_studio
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import Prediction
from prelabel.worker.running.stack import Stack
from tests.cookbook import Example, examples, inline, with_pictures, without_scores
from tests.label_studio_server.site import LabelStudio, connect_project

EXAMPLES = examples()


class Row(NamedTuple):
    """A project with one task."""

    project: int
    task: int


def pre_label(label_studio: LabelStudio, backend: Stack, example: Example) -> Row:
    """The example's project with its task, and what a person has drawn on it, connected."""
    project = label_studio.make_project(example.config, title=example.name)
    (task,) = label_studio.import_tasks(project, [with_pictures(example.data)])
    if example.annotation:
        label_studio.call("POST", f"/api/tasks/{task}/annotations/", json={"result": example.annotation})
    steps = connect_project(backend, project, pre_label_all=True)
    assert not [step for step in steps if step.status == "failed"], steps
    return Row(project, task)


@pytest.fixture(scope="module")
def rows(label_studio: LabelStudio, backend: Stack) -> dict[str, Row]:
    """Every example's project; they are scored while the next ones are made."""
    return {example.name: pre_label(label_studio, backend, example) for example in EXAMPLES}


def pushed(backend: Stack, project: int) -> Prediction:
    """The one prediction the worker made for a project."""
    client = backend.client()
    jobs = [client.job(progress.job_id) for progress in client.jobs(1000)]
    found = [
        prediction
        for job in jobs
        if (target := job.spec().push) is not None and target.project == project
        for prediction in job.results(timeout=30)
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_a_control_is_stored_as_pushed_and_as_the_cookbook_says(
    label_studio: LabelStudio, backend: Stack, rows: dict[str, Row], example: Example
) -> None:
    row = rows[example.name]
    (stored,) = label_studio.wait_for(row.project, 1)
    config = LabelConfig.parse(example.config)
    made = prediction_to_label_studio(pushed(backend, row.project), config)
    assert made == {name: stored[name] for name in ("task", "result", "score", "model_version")}
    assert without_scores(stored["result"]) == example.result
    assert label_studio.project(row.project)["model_version"] == stored["model_version"]
    # What Label Studio's bulk import refuses goes to its single endpoint, and nothing else does.
    problems = LabelInterface(example.config).validate_prediction(made, return_errors=True)
    assert (not problems) == all(control.bulk for control in config.controls), problems


def test_a_region_prediction_replaces_no_annotation(label_studio: LabelStudio, rows: dict[str, Row]) -> None:
    example = next(example for example in EXAMPLES if example.name == "regions")
    task = label_studio.open_task(rows["regions"].task)
    (annotation,) = task["annotations"]
    assert [entry["id"] for entry in annotation["result"]] == [entry["id"] for entry in example.annotation]


def test_opening_a_task_answers_with_the_boxes_of_a_detector(label_studio: LabelStudio, backend: Stack) -> None:
    example = next(example for example in EXAMPLES if example.name == "regions")
    project = label_studio.make_project(example.config)
    connect_project(backend, project)
    (task,) = label_studio.import_tasks(project, [with_pictures(example.data)])
    detector = {"task": task, "result": example.annotation, "score": 0.5, "model_version": "detector"}
    label_studio.call("POST", "/api/predictions/", json=detector)
    label_studio.retrieve_predictions(project)
    stored = label_studio.wait_for(project, 1, version=label_studio.project(project)["model_version"])
    assert without_scores(stored[0]["result"]) == example.result


OPTIONS = '<View><Image name="image" value="$image"/><Choices name="shape" toName="image" value="$options"/></View>'


def test_tasks_with_labels_of_their_own_are_each_answered_from_theirs(
    label_studio: LabelStudio, backend: Stack
) -> None:
    project = label_studio.make_project(OPTIONS)
    shapes = ["circle", "cross", "ring", "star"]
    data: list[dict[str, Any]] = [
        {"image": inline(f"red-{shape}.jpg"), "options": [{"value": shape}, {"value": other}]}
        for shape, other in zip(shapes, [*shapes[1:], shapes[0]], strict=True)
    ]
    data.append({"image": inline("red-circle.jpg"), "options": ["circle", "cross"]})
    tasks = label_studio.import_tasks(project, data)
    steps = connect_project(backend, project, pre_label_all=True)
    assert "holds plain text ('circle')" in steps[-1].detail
    stored = label_studio.wait_for(project, len(shapes))
    chosen = {one["task"]: one["result"][0]["value"]["choices"][0] for one in stored}
    assert chosen == dict(zip(tasks, shapes, strict=False))
    assert len({one["model_version"] for one in stored}) == 1


UNUSABLE = {
    "audio": (
        '<View><Audio name="audio" value="$audio"/><Choices name="mood" toName="audio"><Choice value="calm"/></Choices>'
        "</View>",
        "mood: it is about <Audio>, only <Image> is supported",
    ),
    "text": (
        '<View><Text name="text" value="$text"/><Taxonomy name="topic" toName="text"><Choice value="a"/></Taxonomy>'
        "</View>",
        "topic: it is about <Text>, only <Image> is supported",
    ),
    "apiUrl": (
        '<View><Image name="image" value="$image"/><Taxonomy name="kind" toName="image" apiUrl="https://e.org/x"/>'
        "</View>",
        "kind: its labels come from apiUrl, which the browser asks and prelabel does not",
    ),
    "no regions": (
        '<View><Image name="image" value="$image"/><Choices name="kind" toName="image" perRegion="true">'
        '<Choice value="a"/></Choices></View>',
        "kind: no tag draws regions on <Image name='image'> that can be cut out",
    ),
    "boxes alone": (
        '<View><Image name="image" value="$image"/><RectangleLabels name="box" toName="image"><Label value="a"/>'
        "</RectangleLabels></View>",
        "no <Choices> or <Taxonomy> tag: there is nothing to pre-label",
    ),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_config_that_cannot_be_served_is_refused_in_words(
    label_studio: LabelStudio, backend: Stack, kind: str
) -> None:
    config, reason = UNUSABLE[kind]
    project = label_studio.make_project(config)
    failed = connect_project(backend, project)[-1]
    assert failed.status == "failed"
    assert reason in failed.detail
    assert label_studio.backends(project) == []
    # And where somebody adds the model in Label Studio's own dialog all the same.
    settings = backend.settings
    assert settings.basic_auth_user is not None
    assert settings.basic_auth_pass is not None
    setup = httpx.post(
        f"{backend.adapter_url}/setup",
        json={"project": str(project), "schema": config},
        auth=(settings.basic_auth_user, settings.basic_auth_pass.get_secret_value()),
        trust_env=False,
    ).json()
    assert setup["model_version"].endswith("+unusable-label-config")
    assert reason in setup["problem"]
