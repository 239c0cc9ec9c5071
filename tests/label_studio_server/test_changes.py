"""A taxonomy that is edited, several projects at once, and a Label Studio that does not answer."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import closing

from prelabel.integrations import Client
from prelabel.integrations.label_studio.api.connection import LabelStudioAPI
from prelabel.integrations.label_studio.projects.prune import prune
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.worker.demo.shapes import COLOURS, SHAPES
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.label_studio_server.images import CountingWeb
from tests.label_studio_server.site import (
    SHAPES_CONFIG,
    LabelStudio,
    connect_project,
    inline,
    jobs_of,
    pre_labelled_project,
    tasks_of,
    until,
)


def test_an_edited_taxonomy_is_scored_from_stored_vectors(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture], web: CountingWeb
) -> None:
    project = label_studio.make_project()
    chosen = [picture for picture in pictures if len(picture.pairs) == 1][:12]
    urls = [web.url(f"flaky/{picture.path.name}") for picture in chosen]  # each request is counted, none refused
    tasks = label_studio.import_tasks(project, [{"image": url} for url in urls])
    label_studio.call(
        "POST",
        f"/api/projects/{project}/import/predictions",
        json=[{"task": tasks[0], "result": [], "score": 0.1, "model_version": "somebody else's"}],
    )
    connect_project(backend, project, pre_label_all=True)
    first = label_studio.project(project)["model_version"]
    label_studio.wait_for(project, len(tasks), version=first)
    until(lambda: not Projects(client).working(project), 30, "the job has ended")
    fetched = len(web.asked)
    assert fetched >= len(tasks)

    # A hotkey changes nothing that is scored: no job.
    before = len(jobs_of(client, project))
    with_hotkey = SHAPES_CONFIG.replace('<Choice value="star"/>', '<Choice value="star" hotkey="s" background="red"/>')
    label_studio.update_project(project, label_config=with_hotkey)
    looked = Projects(client).state(project).since
    until(lambda: Projects(client).state(project).since > looked + 2, 30, "the project has been looked at since")
    assert len(jobs_of(client, project)) == before
    assert label_studio.backends(project)[0]["title"] == first

    colours = SHAPES_CONFIG.split("<Choice ")[0] + "".join(f'<Choice value="{one}"/>' for one in COLOURS)
    label_studio.update_project(project, label_config=colours + "</Choices></View>")
    until(lambda: label_studio.project(project)["model_version"] != first, 30, "the project shows a new version")
    second = label_studio.project(project)["model_version"]
    stored = label_studio.wait_for(project, len(tasks), version=second)
    truth = dict(zip(tasks, (picture.pairs[0][0] for picture in chosen), strict=True))
    right = [one["result"][0]["value"]["choices"] == [truth[one["task"]]] for one in stored]
    assert sum(right) >= 10
    assert len(web.asked) == fetched, "no image was fetched again"
    until(lambda: label_studio.backends(project)[0]["title"] == second, 30, "people are asked for what they open")

    def versions() -> set[str]:
        return {one["model_version"] for one in label_studio.predictions(project=project)}

    until(lambda: versions() == {second, "somebody else's"}, 30, "our old predictions are replaced")
    assert label_studio.project(project)["model_version"] == second
    shown = [one["model_version"] for one in label_studio.call("GET", f"/api/projects/{project}/next")["predictions"]]
    assert shown == [second]
    assert sorted(tasks_of(label_studio.wait_for(project, 12, version=second))) == tasks


def test_through_an_edit_there_is_no_moment_at_which_nothing_is_shown(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture]
) -> None:
    project = pre_labelled_project(label_studio, backend, pictures, "edited")
    tasks = label_studio.task_ids(project)
    until(lambda: not Projects(client).state(project).prune, 30, "there is nothing left to be removed")
    before = label_studio.project(project)["model_version"]
    seen: list[tuple[str, int]] = []
    """Moments: the version shown, and how many predictions it has."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.02):
            version = label_studio.project(project)["model_version"]
            held = tasks_of(one for one in label_studio.predictions(project=project) if one["model_version"] == version)
            if label_studio.project(project)["model_version"] == version:
                seen.append((version, len(held)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    label_studio.update_project(project, label_config=SHAPES_CONFIG.replace('value="star"', 'value="sun"'))
    try:
        until(lambda: label_studio.project(project)["model_version"] != before, 60, "the new version is shown")
        until(lambda: len(label_studio.wait_for(project, len(tasks))) == len(tasks), 60, "the old ones are removed")
        until(lambda: not Projects(client).state(project).prune, 60, "there is nothing left to be removed")
    finally:
        is_over.set()
        watcher.join()
    after = label_studio.project(project)["model_version"]
    assert {version for version, _ in seen} == {before, after}
    assert min(held for _, held in seen) > 0
    until(lambda: label_studio.backends(project)[0]["title"] == after, 30, "people are asked for what they open")


def test_the_present_version_is_shown_still_when_those_of_an_old_one_are_removed(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture]
) -> None:
    project = pre_labelled_project(label_studio, backend, pictures, "cleaned")
    stored = label_studio.predictions(project=project)
    present = stored[0]["model_version"]
    until(lambda: not Projects(client).state(project).prune, 30, "there is nothing left to be removed")
    old = f"{present[:-6]}{'0' * 6}"
    label_studio.call(
        "POST",
        f"/api/projects/{project}/import/predictions",
        json=[
            {"task": one["task"], "result": one["result"], "score": one["score"], "model_version": old}
            for one in stored
        ],
    )
    with closing(LabelStudioAPI(backend.settings)) as api:
        assert not prune(api, project, present, for_s=60)
    assert {one["model_version"] for one in label_studio.predictions(project=project)} == {present}
    assert label_studio.project(project)["model_version"] == present


def test_several_projects_at_once_each_with_its_taxonomy(
    label_studio: LabelStudio, backend: Stack, pictures: list[Picture]
) -> None:
    configs = {
        "shapes": SHAPES_CONFIG,
        "colours": SHAPES_CONFIG.split("<Choice ")[0]
        + "".join(f'<Choice value="{one}"/>' for one in COLOURS)
        + "</Choices></View>",
        "two shapes": SHAPES_CONFIG.split("<Choice ")[0]
        + '<Choice value="star"/><Choice value="heart"/></Choices></View>',
    }
    projects = {name: label_studio.make_project(config, title=name) for name, config in configs.items()}
    tasks = {
        name: label_studio.import_tasks(number, [{"image": inline(picture.path)} for picture in pictures[:20]])
        for name, number in projects.items()
    }
    for number in projects.values():
        connect_project(backend, number, pre_label_all=True)
    labels = {"shapes": set(SHAPES), "colours": set(COLOURS), "two shapes": {"star", "heart"}}
    for name, number in projects.items():
        stored = label_studio.wait_for(number, 20)
        assert sorted(tasks_of(stored)) == tasks[name]
        assert {choice for one in stored for choice in one["result"][0]["value"]["choices"]} <= labels[name]
    assert len({label_studio.project(number)["model_version"] for number in projects.values()}) == 3


def test_while_label_studio_hangs_scoring_goes_on_and_pushes_wait(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    tasks = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures * 2])
    connect_project(backend, project, pre_label_all=True)
    label_studio.server.process.send_signal(signal.SIGSTOP)
    try:
        (job,) = jobs_of(client, project)
        until(lambda: job.progress().done == len(tasks), 60, "all is scored while Label Studio hangs")
        time.sleep(2)
        assert job.progress().pushed < len(tasks), "it was stopped in the middle"
    finally:
        label_studio.server.process.send_signal(signal.SIGCONT)
    stored = label_studio.wait_for(project, len(tasks), timeout_s=180)
    until(lambda: job.progress().pushed == len(tasks), 90, "all are marked as pushed")
    stored = label_studio.predictions(project=project)
    assert sorted(tasks_of(stored)) == tasks, "each once"
    assert job.progress().failed == 0
