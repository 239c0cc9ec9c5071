"""From an import to the pre-labels people see, through a real Label Studio."""

from __future__ import annotations

from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.label_studio_server.site import LabelStudio, connect_project, inline


def test_every_task_of_a_connected_project_is_pre_labelled(
    label_studio: LabelStudio, backend: Stack, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    chosen = pictures[:8]
    tasks = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in chosen])
    steps = connect_project(backend, project, pre_label_all=True)
    assert not [step for step in steps if step.status == "failed"]
    predictions = label_studio.wait_for(project, len(tasks))
    assert sorted(prediction["task"] for prediction in predictions) == tasks
    truth = dict(zip(tasks, (picture.pairs[0][1] for picture in chosen), strict=True))
    right = [p["result"][0]["value"]["choices"] == [truth[p["task"]]] for p in predictions]
    assert sum(right) >= 7
