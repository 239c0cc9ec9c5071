"""What a search has found, as a tab in a real Label Studio: in a real Chromium, and through its API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from prelabel.integrations.label_studio.api import tasks as listing
from prelabel.integrations.label_studio.api import views
from prelabel.integrations.label_studio.api.connection import LabelStudioAPI, NotThere
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.projects.search_tab import BY_NUMBER, Tab, open_tab
from prelabel.schemas import ConfigError
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.label_studio.server import LabelStudioServer
from prelabel.worker.demo.story import Picture
from tests.browser import chromium
from tests.label_studio_server.images import CountingWeb
from tests.label_studio_server.opened import sign_in
from tests.label_studio_server.site import SHAPES_CONFIG, LabelStudio

CONFIG = LabelConfig.parse(SHAPES_CONFIG)
TASKS = 130
MANY = 120
"""More than a tab finds by number."""


@pytest.fixture
def api(server: LabelStudioServer) -> Iterator[LabelStudioAPI]:
    with closing(LabelStudioAPI(load_settings(label_studio_url=server.url, label_studio_api_key=server.token))) as made:
        yield made


@pytest.fixture
def page(server: LabelStudioServer) -> Iterator[Any]:
    """A browser's page whose user has signed in to Label Studio."""
    with chromium() as browser:
        made = browser.new_page()
        made.set_default_timeout(60_000)
        sign_in(made, server)
        yield made


@pytest.fixture
def project(label_studio: LabelStudio, web: CountingWeb, pictures: list[Picture]) -> int:
    """A project of `TASKS` tasks whose images differ in their names, among them what means something in a pattern."""
    made = label_studio.make_project(title="searched")
    names = [picture.path.name for picture in pictures[:TASKS]]
    odd = "?of=(a|b)+[c]{2}^$*.\\ é & _%"
    label_studio.import_tasks(
        made, [{"image": web.url(f"good/{name}") + odd * (n % 2)} for n, name in enumerate(names)]
    )
    return made


def listed(label_studio: LabelStudio, tab: Tab, project: int) -> list[int]:
    """The tasks Label Studio finds for a tab."""
    params = {"project": project, "view": tab.number, "page_size": 1000, "include": "id"}
    return sorted(task["id"] for task in label_studio.call("GET", "/api/tasks", params=params)["tasks"])


def stored(api: LabelStudioAPI, tab: Tab, project: int) -> dict[str, Any]:
    """A tab's data."""
    return next(view.data for view in views.listed(api, project) if view.number == tab.number)


@pytest.mark.parametrize("hits", [5, MANY])
def test_a_tab_holds_the_hits_and_opens_in_the_browser(
    api: LabelStudioAPI, label_studio: LabelStudio, project: int, page: Any, hits: int
) -> None:
    found = label_studio.task_ids(project)[3 : 3 + hits]
    tab = open_tab(api, project, CONFIG, found[::-1], "search: cracked screen")
    assert listed(label_studio, tab, project) == found
    assert (tab.shown, tab.note) == (hits, "")
    operators = [one["operator"] for one in stored(api, tab, project)["filters"]["items"]]
    assert operators == (["regex"] if hits > BY_NUMBER else ["equal"] * hits)

    page.goto(tab.url)
    page.get_by_text(f"Tasks: {hits} / {TASKS}").wait_for()
    page.get_by_text("search: cracked screen").first.wait_for()
    page.get_by_text("Default", exact=True).first.wait_for()  # the project has not been opened before
    page.get_by_text("Default", exact=True).first.click()
    page.get_by_text(f"Tasks: {TASKS} / {TASKS}").wait_for()


def test_a_thousand_hits_fit_in_one_tab(api: LabelStudioAPI, label_studio: LabelStudio) -> None:
    project = label_studio.make_project()
    made = label_studio.import_tasks(project, [{"image": f"s3://bucket/{n % 7}/photo {n}.jpg"} for n in range(1200)])
    tab = open_tab(api, project, CONFIG, made[100:1100], "search: photo")
    assert (tab.shown, tab.note) == (1000, "")
    assert listed(label_studio, tab, project) == made[100:1100]
    tab = open_tab(api, project, CONFIG, made[:1100], "search: photo")
    assert listed(label_studio, tab, project) == made[:BY_NUMBER]
    assert "only the first 50 of 1,100 tasks" in tab.note


def test_images_that_share_their_names_are_not_confused(api: LabelStudioAPI, label_studio: LabelStudio) -> None:
    project = label_studio.make_project()
    addresses = [f"s3://bucket/{n}/photo.jpg" for n in range(80)] + ["s3://bucket/twice.jpg"] * 2
    made = label_studio.import_tasks(project, [{"image": address} for address in addresses])
    tab = open_tab(api, project, CONFIG, made[:60], "search: photo")
    assert (tab.shown, tab.note, listed(label_studio, tab, project)) == (60, "", made[:60])
    tab = open_tab(api, project, CONFIG, made[20:81], "search: photo")
    assert listed(label_studio, tab, project) == made[20:70]
    assert tab.note == "only the first 50 of 61 tasks are shown: other tasks have images of the same names"


def test_the_tab_is_known_again_after_people_have_arranged_it(
    api: LabelStudioAPI, label_studio: LabelStudio, project: int, page: Any
) -> None:
    hits = label_studio.task_ids(project)
    first = open_tab(api, project, CONFIG, hits[:5], "search: star")
    page.goto(first.url)
    page.get_by_text(f"Tasks: 5 / {TASKS}").wait_for()
    with page.expect_response(lambda answer: answer.request.method == "PATCH" and "/dm/views/" in answer.url):
        page.locator("label[aria-label='Switch to list view']").click()  # the page writes all it knows of the tab
    assert stored(api, first, project)["type"] == "list"

    second = open_tab(api, project, CONFIG, hits[10 : 10 + MANY], "search: circle")
    assert second.number == first.number
    assert listed(label_studio, second, project) == hits[10 : 10 + MANY]
    data = stored(api, second, project)
    assert (data["title"], data["type"], len(data["filters"]["items"])) == ("search: circle", "grid", 1)
    page.goto(second.url)
    page.get_by_text(f"Tasks: {MANY} / {TASKS}").wait_for()

    kept = open_tab(api, project, CONFIG, hits[:2], "search: keep", keep=True)
    third = open_tab(api, project, CONFIG, hits[2:4], "search: square")
    assert kept.number != third.number == first.number
    assert listed(label_studio, kept, project) == hits[:2]
    views.delete(api, third.number)
    again = open_tab(api, project, CONFIG, hits[4:6], "search: heart")
    assert again.number not in (kept.number, third.number)
    with pytest.raises(NotThere):
        views.delete(api, third.number)


def test_the_label_stream_goes_through_the_tabs_tasks(
    api: LabelStudioAPI, label_studio: LabelStudio, project: int, page: Any
) -> None:
    first, *_, one, other = label_studio.task_ids(project)
    tab = open_tab(api, project, CONFIG, [one, other], "search: star")

    def next_task() -> int:
        with page.expect_response(lambda answer: "/api/dm/actions" in answer.url and "next_task" in answer.url) as got:
            page.goto(tab.label_stream_url)
        page.get_by_test_id("bottombar-submit-button").wait_for()
        return int(got.value.json()["id"])

    for task in (one, other):
        assert next_task() == task
        label_studio.annotate(task)
    page.evaluate("localStorage.setItem('dm:labelstream:mode', 'all')")  # as "Label All Tasks" does
    assert next_task() == first, "which no address can prevent"
    assert parse_qs(urlsplit(tab.label_stream_url).query) == {"tab": [str(tab.number)], "labeling": ["1"]}


def test_a_stored_list_of_numbers_is_what_no_tab_survives(
    api: LabelStudioAPI, label_studio: LabelStudio, project: int, page: Any
) -> None:
    hits = label_studio.task_ids(project)[:3]
    tab = open_tab(api, project, CONFIG, hits, "search: star")
    page.goto(tab.url)
    page.get_by_text(f"Tasks: 3 / {TASKS}").wait_for()
    filters = {"conjunction": "and", "items": [listing.numbered(hits)]}
    broken = views.create(api, project, {"title": "broken", "type": "grid", "target": "tasks", "filters": filters})
    page.goto(tab.url)
    page.wait_for_timeout(8000)
    assert page.get_by_text(f"Tasks: 3 / {TASKS}").count() == 0, "so that is why `joined` refuses it"
    views.delete(api, broken.number)
    page.goto(tab.url)
    page.get_by_text(f"Tasks: 3 / {TASKS}").wait_for()


@pytest.mark.parametrize("tasks", [[], [10**9]], ids=["no tasks", "of no project"])
def test_nothing_to_show_makes_no_tab(
    api: LabelStudioAPI, label_studio: LabelStudio, project: int, tasks: Sequence[int]
) -> None:
    with pytest.raises(ConfigError, match="task"):
        open_tab(api, project, CONFIG, tasks, "search: star")
    with pytest.raises(NotThere, match="project 1000000"):
        open_tab(api, 10**6, CONFIG, label_studio.task_ids(project), "search: star")
    assert views.listed(api, project) == []
