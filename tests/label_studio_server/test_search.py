"""Searching a project of a real Label Studio: what is deleted or changed there is not found, and hits become a tab."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from prelabel.integrations import Client
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.browser import PHONE, chromium, keep, looking
from tests.label_studio_server.site import (
    LabelStudio,
    connect_project,
    inline,
    prelabel,
    until,
)

COUNT = 60


@pytest.fixture
def singles(pictures: list[Picture]) -> list[Picture]:
    """Pictures of one figure each."""
    return [picture for picture in pictures if len(picture.pairs) == 1][:COUNT]


@pytest.fixture
def tasks(label_studio: LabelStudio, backend: Stack, client: Client, singles: list[Picture]) -> dict[int, Picture]:
    """The tasks of a connected project, all pre-labelled, with what they show."""
    project = label_studio.make_project(title="search & <find>")
    numbers = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in singles])
    connect_project(backend, project, pre_label_all=True)
    label_studio.wait_for(project, len(numbers))
    until(lambda: not Projects(client).working(project), 30, "the job has ended")
    return dict(zip(numbers, singles, strict=True))


@pytest.fixture
def project(label_studio: LabelStudio, tasks: dict[int, Picture]) -> int:
    """Its number."""
    (number,) = {one["project"] for one in label_studio.predictions(task=next(iter(tasks)))}
    return int(number)


def shape(tasks: dict[int, Picture], task: int) -> str:
    return tasks[task].pairs[0][1]


def test_a_project_is_searched_and_what_is_deleted_or_changed_is_not_found(
    label_studio: LabelStudio, client: Client, project: int, tasks: dict[int, Picture]
) -> None:
    stars = [task for task in tasks if shape(tasks, task) == "star"]
    found = client.search(project, "star", k=len(stars))
    assert (found.searched, found.missing) == (COUNT, 0)
    assert sum(hit.task in stars for hit in found) >= 0.8 * len(stars)
    stored = {one["task"]: one for one in label_studio.predictions(project=project)}
    for hit in found:
        assert hit.label == tuple(stored[hit.task]["result"][0]["value"]["choices"])
        assert hit.confidence == pytest.approx(stored[hit.task]["score"], abs=1e-4)
        assert (hit.item, hit.labeled) == (str(hit.task), False)
        assert hit.reference.startswith("data:image/")
    first, second, third = (hit.task for hit in found[:3])

    label_studio.annotate(third)
    assert third not in [hit.task for hit in client.search(project, "star", labeled=False, k=COUNT)]
    assert [hit.task for hit in client.search(project, "star", labeled=True, k=COUNT)] == [third]

    label_studio.call("DELETE", f"/api/tasks/{first}/")
    other = next(task for task in tasks if shape(tasks, task) == "ring" and task != second)
    label_studio.update_task(second, {"image": inline(tasks[other].path)})
    now = [hit.task for hit in client.search(project, "star", k=len(stars))]
    assert first not in now
    until(lambda: client.search(project, "ring", tasks=[second])[:1], 60, "the changed task is found as what it is now")
    (again,) = client.search(project, like=other, tasks=[second])
    assert again.cosine == pytest.approx(1.0, abs=1e-3)
    until(lambda: client.search(project, "star", k=1).searched == COUNT - 1, 30, "the deleted one is counted no more")


def test_the_command_prints_a_table_or_json(backend: Stack, project: int, tasks: dict[int, Picture]) -> None:
    shown = prelabel(backend, "search", project, "star", "-k", 5)
    assert shown.returncode == 0, shown.stderr
    assert "60 images searched" in shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= 80
    told = json.loads(prelabel(backend, "search", project, "star", "-k", 5, "--json").stdout)
    assert [str(hit["task"]) in shown.stdout for hit in told["hits"]] == [True] * 5
    assert {"cosine", "logit", "probability", "label", "reference"} <= told["hits"][0].keys()
    alike = prelabel(backend, "search", project, "--like", told["hits"][0]["task"], "--label", "star", "--json")
    assert all(hit["label"] == ["star"] for hit in json.loads(alike.stdout)["hits"])
    for arguments, said in (
        (("search", project), "search for one of these: words, a picture"),
        (("search", project, ""), "empty text"),
        (("search", project, "star", "-k", 0), "1 or more, not 0"),
        (("search", 987654, "star"), "project 987654 is not connected"),
        (("search", project, "star", "--label", "satr"), "did you mean 'star'"),
    ):
        refused = prelabel(backend, *arguments)
        assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
        assert said in " ".join(refused.stderr.split())


def test_the_command_makes_a_tab_labels_look_alikes_and_takes_that_back(
    backend: Stack, label_studio: LabelStudio, project: int, tasks: dict[int, Picture]
) -> None:
    shown = prelabel(backend, "search", project, "star", "-k", 5, "--tab", "--json")
    told = json.loads(shown.stdout)
    params = {"project": project, "view": told["tab"]["number"], "include": "id"}
    listed = label_studio.call("GET", "/api/tasks", params=params)["tasks"]
    assert sorted(task["id"] for task in listed) == sorted(hit["task"] for hit in told["hits"])
    like = told["hits"][0]["task"]
    label_studio.annotate(told["hits"][1]["task"])
    labelled = prelabel(backend, "search", project, "--like", like, "-k", 6, "--as", "star")
    assert labelled.returncode == 0, labelled.stderr
    assert "6 tasks have the proposal" in labelled.stdout

    def proposed() -> list[int]:
        found = label_studio.predictions(project=project)
        return [one["task"] for one in found if one["model_version"].startswith(f"look-alike:{like}@")]

    assert len(proposed()) == 6
    assert {like, told["hits"][1]["task"]}.isdisjoint(proposed())
    undone = prelabel(backend, "search", project, "--undo")
    assert "6 proposals were taken back" in undone.stdout
    assert proposed() == []
    for arguments, said in (
        (("--like", like, "--as", "satr"), "did you mean 'star'"),
        (("a star", "--as", "star"), "--as labels what looks like one task"),
    ):
        refused = prelabel(backend, "search", project, *arguments)
        assert refused.returncode == 2
        assert said in " ".join(refused.stderr.split())


def test_what_was_pre_labelled_before_there_was_a_catalogue_is_made_searchable(
    backend: Stack, client: Client, label_studio: LabelStudio, project: int, tasks: dict[int, Picture]
) -> None:
    whole = prelabel(backend, "index", project)
    assert f"all {COUNT} pre-labelled tasks can be found" in " ".join(whole.stdout.split())
    client.connection.redis.delete(f"prelabel:label_studio:{{{project}}}:vectors")
    found = client.search(project, "star")
    assert list(found) == []
    assert "prelabel index" in found.note
    before = {one["id"] for one in label_studio.predictions(project=project)}
    told = json.loads(prelabel(backend, "index", project, "--json").stdout)
    assert (told["looked_at"], told["queued"]) == (COUNT, COUNT)
    client.job(told["job_id"]).wait(60)
    until(lambda: not Projects(client).working(project), 30, "the job has ended")
    assert client.search(project, "star").searched == COUNT
    assert {one["id"] for one in label_studio.predictions(project=project)} == before, "nothing is pushed twice"


@pytest.fixture
def open_page(backend: Stack) -> Iterator[Any]:
    """Opens the adapter's pages; whatever the browser complains about fails the test."""
    password = backend.settings.basic_auth_pass
    credentials = {
        "username": backend.settings.basic_auth_user or "",
        "password": password.get_secret_value() if password else "",
    }
    with chromium() as browser, looking(browser, str(backend.adapter_url), http_credentials=credentials) as opening:
        yield opening


def test_the_page_finds_narrows_down_and_proposes_a_label(
    open_page: Any,
    label_studio: LabelStudio,
    project: int,
    tasks: dict[int, Picture],
    singles: list[Picture],
    tmp_path: Path,
) -> None:
    tab = open_page(f"/projects/{project}")
    tab.fill("[role=search] [name=q]", "a star")
    tab.keyboard.press("Enter")
    tab.locator("#found").wait_for()
    assert tab.inner_text("#found") == "48 hits: a star"
    numbers = [int(one) for one in tab.locator("[name=task]").evaluate_all("all => all.map(one => one.value)")]
    assert sum(shape(tasks, number) == "star" for number in numbers[:5]) >= 4
    for number in range(0, 48, 6):
        tab.locator(".hit img").nth(number).scroll_into_view_if_needed()
    loaded = "[...document.querySelectorAll('.hit img')].every((one) => one.complete && one.naturalWidth > 0)"
    until(lambda: tab.evaluate(loaded), 60, "every picture is there")
    keep(tab, "search.png", tmp_path)
    tab.set_viewport_size(PHONE)
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"

    tab.get_by_role("link", name="exclude").first.click()
    tab.locator("#found").wait_for()
    after = [int(one) for one in tab.locator("[name=task]").evaluate_all("all => all.map(one => one.value)")]
    assert after[:4] == numbers[1:5]
    tab.get_by_role("link", name="more like this").first.click()
    tab.locator("#found").wait_for()
    like = numbers[1]
    assert tab.inner_text("#found").endswith(f"hits: like {like}")
    for number, box in enumerate(tab.locator("[name=task]").all()):
        if number > 2:
            box.uncheck()
    chosen = [int(box.get_attribute("value")) for box in tab.locator("[name=task]:checked").all()]
    tab.fill("[name=name]", "star")
    tab.get_by_role("button", name="Propose it").click()
    tab.get_by_text("3 tasks have the proposal now").wait_for()

    def proposed() -> list[int]:
        found = label_studio.predictions(project=project)
        return sorted(one["task"] for one in found if one["model_version"].startswith(f"look-alike:{like}@"))

    assert proposed() == sorted(chosen)
    tab.get_by_role("button", name="Take it back").click()
    tab.get_by_text("3 proposals were taken back").wait_for()
    assert proposed() == []

    tab.set_input_files("[name=picture]", str(singles[3].path))
    tab.get_by_role("button", name="Find its like").click()
    tab.locator("#found").wait_for()
    assert int(tab.locator("[name=task]").first.get_attribute("value")) == list(tasks)[3]


def test_the_ticked_ones_become_a_tab_of_label_studio(
    label_studio: LabelStudio, backend: Stack, project: int, tasks: dict[int, Picture]
) -> None:
    password = backend.settings.basic_auth_pass
    auth = (backend.settings.basic_auth_user or "", password.get_secret_value() if password else "")
    with httpx.Client(base_url=backend.adapter_url or "", auth=auth, timeout=60, trust_env=False) as page:
        here = f"/projects/{project}/search"
        token = page.get(here, params={"q": "a star"}).cookies["prelabel_csrf"]
        some = list(tasks)[:4]
        answer = page.post(f"{here}/tab", data={"csrf": token, "task": some, "title": "a star"})
        assert (answer.status_code, f"/projects/{project}/data?tab=" in answer.headers["location"]) == (303, True)
        view = int(answer.headers["location"].rpartition("=")[2])
        listed = label_studio.call("GET", "/api/tasks", params={"project": project, "view": view, "include": "id"})
        assert sorted(task["id"] for task in listed["tasks"]) == some
        assert page.post(f"{here}/tab", data={"csrf": "of somebody else", "task": some}).status_code == 403
        nothing = page.post(f"{here}/tab", data={"csrf": token})
        assert (nothing.status_code, "no tasks" in nothing.text) == (409, True)
        for path, status in (
            ("/projects/987654/search", 404),
            (f"{here}?like=987654321", 409),
            (f"{here}?q={'a' * 3000}", 422),
            (f"{here}?q=a&label=satr", 409),
        ):
            assert page.get(path).status_code == status
