"""Somebody asks for what Label Studio lacks, while jobs of the project are under way."""

from __future__ import annotations

from collections import Counter

import pytest

from prelabel.integrations import Client
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.label_studio_server.elsewhere import at_work_elsewhere
from tests.label_studio_server.images import CountingWeb
from tests.label_studio_server.site import SHAPES_CONFIG, LabelStudio, connect_project, inline, tasks_of, until

COUNT = 24
"""More than `PRELABEL_PREDICT_WAIT_TASKS`: they are queued, and not waited for."""


@pytest.mark.parametrize("how", ["connect --all", "retrieve predictions"])
def test_what_was_deleted_is_queued_again_at_once_and_what_a_job_has_in_hand_is_left(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture], how: str
) -> None:
    project = label_studio.make_project()
    *tasks, first, second = label_studio.import_tasks(
        project, [{"image": inline(one.path)} for one in pictures[: COUNT + 2]]
    )
    with at_work_elsewhere(client, project, SHAPES_CONFIG, [first, second]) as slow_job:
        told = connect_project(backend, project, pre_label_all=True)[-1].detail
        assert f"{COUNT} tasks queued; 2 tasks are on their way already" in told
        label_studio.wait_for(project, COUNT)
        until(lambda: Projects(client).working(project) == [slow_job], 30, "only the slow job is left")

        label_studio.delete_predictions(tasks)
        if how == "connect --all":
            told = connect_project(backend, project, pre_label_all=True)[-1].detail
            assert f"{COUNT} tasks queued; 2 tasks are on their way already" in told
        else:
            label_studio.retrieve_predictions(project)
        stored = label_studio.wait_for(project, COUNT, timeout_s=20)
        assert slow_job in Projects(client).working(project), "it was under way all the time"
        assert Counter(tasks_of(stored)) == dict.fromkeys(tasks, 1)
        until(lambda: Projects(client).working(project) == [slow_job], 30, "only the slow job is left")
        told = connect_project(backend, project, pre_label_all=True)[-1].detail
        assert told.startswith("2 tasks are on their way already; every other task has a prediction of")
        assert len(label_studio.predictions(project=project)) == COUNT


def test_what_failed_is_tried_again_while_another_job_is_under_way(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture], web: CountingWeb
) -> None:
    project = label_studio.make_project()
    web.files.clear()
    missing = pictures[0].path
    task, slow = label_studio.import_tasks(project, [{"image": web.url(f"good/{missing.name}")}, {"image": "x"}])
    with at_work_elsewhere(client, project, SHAPES_CONFIG, [slow]) as slow_job:
        connect_project(backend, project, pre_label_all=True)
        until(lambda: Projects(client).working(project) == [slow_job], 60, "the other has failed")
        assert label_studio.predictions(project=project) == []

        web.serve([missing])
        connect_project(backend, project, pre_label_all=True)
        assert tasks_of(label_studio.wait_for(project, 1)) == [task]
