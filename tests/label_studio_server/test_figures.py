"""One truth per project: every task is counted once, as Label Studio has it, on a real server."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import httpx
import pytest

from prelabel.integrations import Client
from prelabel.integrations.label_studio.api.connection import LabelStudioAPI
from prelabel.integrations.label_studio.deliver.push import Pusher
from prelabel.integrations.label_studio.projects import figures
from prelabel.integrations.label_studio.projects.figures import ProjectFigures
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.label_studio.projects.tabs import open_tab
from prelabel.integrations.label_studio.projects.unanswered import Unanswered, Why
from prelabel.schemas import ConfigError, PushTarget, Settings
from prelabel.worker.demo.label_studio.server import LabelStudioServer
from prelabel.worker.demo.shapes import SHAPES
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.label_studio_server.opened import opened
from tests.label_studio_server.site import SHAPES_CONFIG, LabelStudio, connect_project, inline, jobs_of, prelabel, until


@pytest.fixture
def projects(client: Client) -> Projects:
    return Projects(client)


def now(backend_settings: Settings, client: Client, projects: Projects, project: int) -> ProjectFigures:
    version = projects.state(project).version
    with closing(LabelStudioAPI(backend_settings)) as api:
        return figures.take(api, client, projects, project, version, api.project(project))


def total(counted: ProjectFigures) -> int:
    return (
        counted.prelabelled + counted.waiting_worker + counted.waiting_label_studio + counted.failed
        + counted.dropped + counted.unanswerable + counted.nothing_chosen + counted.not_queued
    )  # fmt: skip


def test_every_task_is_counted_once(
    label_studio: LabelStudio,
    backend: Stack,
    client: Client,
    backend_settings: Settings,
    projects: Projects,
    pictures: list[Picture],
) -> None:
    project = label_studio.make_project(title="  counted ")
    old = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[:3]])
    connect_project(backend, project)
    label_studio.annotate(old[0])
    data: list[dict[str, Any]] = [{"image": inline(picture.path)} for picture in pictures[3:9]]
    missing = [{"image": f"http://127.0.0.1:9/{n}.jpg"} for n in range(2)]
    label_studio.import_tasks(project, [*data, *missing, {"image": "ftp://example.org/a.jpg"}])
    label_studio.wait_for(project, 6)

    def settled() -> ProjectFigures | None:
        counted = now(backend_settings, client, projects, project)
        assert total(counted) == counted.tasks
        return counted if counted.failed + counted.unanswerable == 3 and not counted.waiting else None

    counted = until(settled, 30, "all tasks are answered, or known not to be")
    assert counted.title == "counted"
    assert counted.tasks == 12
    assert counted.prelabelled == 6 == len(label_studio.predictions(project=project))
    assert (counted.not_queued, counted.annotated) == (3, 1)
    assert {(one.why, one.tasks) for one in counted.reasons} == {(Why.FAILED, 2), (Why.UNANSWERABLE, 1)}
    assert figures.last(projects, [project])[project] == counted

    label_studio.call("DELETE", f"/api/predictions/{label_studio.predictions(project=project)[0]['id']}/")
    assert now(backend_settings, client, projects, project).prelabelled == 5


def test_what_label_studio_drops_is_told_until_it_is_answered(
    label_studio: LabelStudio,
    backend: Stack,
    client: Client,
    backend_settings: Settings,
    projects: Projects,
    pictures: list[Picture],
) -> None:
    project = label_studio.make_project()
    connect_project(backend, project)
    tasks = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[:4]])
    stored = label_studio.wait_for(project, 4)
    until(lambda: not projects.working(project), 30, "the job has ended")
    predictions = [one for job in jobs_of(client, project) for one in job.results_so_far()]
    gone = predictions[0].item.id
    (theirs,) = [one for one in stored if str(one["task"]) == gone]
    label_studio.call("DELETE", f"/api/predictions/{theirs['id']}/")

    other = "".join(f'<Choice value="not {shape}"/>' for shape in SHAPES)
    config = f'<View><Image name="image" value="$image"/><Choices name="kind" toName="image">{other}</Choices></View>'
    label_studio.update_project(project, label_config=config)
    unanswered = Unanswered(client.connection.redis, client.connection.patiently)
    projects.remove(project)  # nobody looks at it meanwhile
    with Pusher(backend_settings, unanswered=unanswered) as pusher:
        report = pusher.push(PushTarget(project=project, label_config=SHAPES_CONFIG), predictions[:1])
    assert [ordinal for ordinal, _ in report.rejected] == [predictions[0].ordinal]
    assert unanswered.tasks(project, Why.DROPPED, 10) == [int(gone)]
    assert "label config has changed" in unanswered.groups(project)[0].text

    connect_project(backend, project, pre_label_all=True)
    label_studio.wait_for(project, 4, version=projects.state(project).version)
    until(lambda: now(backend_settings, client, projects, project).prelabelled == len(tasks), 30, "all are answered")
    counted = now(backend_settings, client, projects, project)
    assert (counted.dropped, counted.reasons) == (0, ())


def test_tasks_that_are_gone_or_were_answered_otherwise_are_not_counted_against_a_project(
    label_studio: LabelStudio,
    backend: Stack,
    client: Client,
    backend_settings: Settings,
    projects: Projects,
) -> None:
    project = label_studio.make_project()
    connect_project(backend, project)
    tasks = label_studio.import_tasks(project, [{"image": f"http://127.0.0.1:9/{n}.jpg"} for n in range(3)])
    until(lambda: now(backend_settings, client, projects, project).failed == 3, 60, "they have failed")
    label_studio.call("DELETE", f"/api/tasks/{tasks[0]}/")
    counted = now(backend_settings, client, projects, project)
    assert (counted.tasks, counted.failed) == (2, 2)
    assert projects.unanswered.tasks(project, Why.FAILED, 10) == tasks[1:]


def test_every_figure_leads_to_its_tasks(
    label_studio: LabelStudio,
    server: LabelStudioServer,
    backend: Stack,
    client: Client,
    backend_settings: Settings,
    projects: Projects,
    pictures: list[Picture],
) -> None:
    project = label_studio.make_project()
    old = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[:2]])
    connect_project(backend, project)
    label_studio.annotate(old[1])
    missing = [{"image": f"http://127.0.0.1:9/{n}.jpg"} for n in range(2)]
    tasks = label_studio.import_tasks(project, [{"image": inline(pictures[3].path)}, *missing])
    until(lambda: now(backend_settings, client, projects, project).failed == 2, 60, "they have failed")
    counted = until(
        lambda: (it := now(backend_settings, client, projects, project)).prelabelled == 1 and it, 30, "one is answered"
    )
    expected = {"prelabelled": tasks[:1], "failed": tasks[1:], "not_queued": old, "annotated": old[1:]}
    with closing(LabelStudioAPI(backend_settings)) as api:
        urls = {figure: open_tab(api, projects, counted, figure) for figure in expected}
        assert urls == {figure: open_tab(api, projects, counted, figure) for figure in expected}, "a tab was made twice"
        with pytest.raises(ConfigError, match="no tasks of which 'dropped by Label Studio' is true"):
            open_tab(api, projects, counted, "dropped")
    for figure, numbers in expected.items():
        tab = urls[figure].rpartition("=")[2]
        listed = label_studio.call("GET", "/api/tasks", params={"view": tab, "project": project})["tasks"]
        assert sorted(task["id"] for task in listed) == numbers, figure
    with opened(server, project, tasks[0]) as page:
        page.goto(urls["failed"])
        page.wait_for_selector("text=prelabel: failed")
        page.wait_for_selector("text=prelabel: failed")
        page.wait_for_selector(".lsf-table-row")
        assert page.locator(".lsf-table-row").count() == len(expected["failed"])


def test_the_command_the_doctor_and_the_metrics_tell_the_same(
    label_studio: LabelStudio,
    backend: Stack,
    client: Client,
    projects: Projects,
    pictures: list[Picture],
) -> None:
    project = label_studio.make_project(title="one [truth]")
    connect_project(backend, project)
    label_studio.import_tasks(project, [{"image": inline(pictures[0].path)}, {"image": "http://127.0.0.1:9/a.jpg"}])

    def run(*arguments: str) -> str:
        done = prelabel(backend, *arguments)
        assert "Traceback" not in done.stderr, done.stderr
        assert all(len(line) <= 80 or "http" in line for line in done.stdout.splitlines() if "--json" not in arguments)
        return done.stdout

    def told() -> dict[str, Any] | None:
        answer = run("projects", "--project", str(project), "--json")
        (found,) = json.loads(answer)
        return found if found["failed"] == 1 and found["prelabelled"] == 1 else None

    found = until(told, 60, "one task is pre-labelled, one has failed")
    assert (found["title"], found["tasks"], found["problem"]) == ("one [truth]", 2, "")
    assert "[truth]" in run("projects")  # a narrow table folds a title
    assert "127.0.0.1" in run("projects", "--project", str(project))
    assert f"project {project}: 1 of 2 pre-labelled" in " ".join(run("doctor", "--project", str(project)).split())
    assert f"{label_studio.url}/projects/{project}/data?tab=" in run(
        "projects", "--project", str(project), "--tab", "failed"
    )
    assert backend.adapter_url is not None
    metrics = httpx.get(f"{backend.adapter_url}/metrics", auth=("label-studio", "between us")).text
    assert f'prelabel_project_tasks{{project="{project}",state="failed"}} 1.0' in metrics
    assert f'prelabel_project_tasks{{project="{project}",state="prelabelled"}} 1.0' in metrics
