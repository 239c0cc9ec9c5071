"""The rules of a search tab: what finds its tasks, when they are cut, and which tab a search takes over."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from prelabel.integrations.label_studio.api.connection import LabelStudioAPI, NotThere
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.projects import search_tab
from prelabel.integrations.label_studio.projects.search_tab import BY_NAME, BY_NUMBER, LONGEST_TITLE, Tab, open_tab
from prelabel.schemas import ConfigError

CONFIG = LabelConfig.parse(
    '<View><Image name="img" value="$photo"/><Choices name="cls" toName="img"><Choice value="Cat"/></Choices></View>'
)
PROJECT, USER = 7, 3


class DataManager:
    """The tasks and tabs of one project, as far as a search tab asks for them."""

    def __init__(self) -> None:
        self.user = USER
        self.photos: dict[int, Any] = {}
        self.views: list[dict[str, Any]] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        path, params = request.url.path, request.url.params
        body = json.loads(request.content) if request.content else {}
        if path == f"/api/projects/{PROJECT}/":
            return httpx.Response(200, json={"id": PROJECT})
        if path == "/api/current-user/whoami":
            return httpx.Response(200, json={"id": self.user})
        if path == "/api/tasks" and "view" in params:
            return self.tasks(self.filters(int(params["view"])), int(params["page_size"]))
        if path == "/api/tasks":
            assert len(params["query"]) < 4000, "some web servers take no longer addresses"
            return self.tasks(json.loads(params["query"])["filters"], int(params["page_size"]))
        if path == "/api/dm/views/" and request.method == "GET":
            return httpx.Response(200, json=self.views)
        if path == "/api/dm/views/":
            self.views.append({"id": len(self.views) + 1, "user": self.user, "data": body["data"]})
            return httpx.Response(201, json=self.views[-1])
        for view in self.views:
            if path == f"/api/dm/views/{view['id']}/":
                view["data"] = body["data"]
                return httpx.Response(200, json=view)
        return httpx.Response(404, json={"detail": "Not found."})

    def tasks(self, filters: dict[str, Any], size: int) -> httpx.Response:
        joined = {"and": all, "or": any}[filters["conjunction"]]
        found = [n for n in sorted(self.photos) if joined(self.has(n, one) for one in filters["items"])]
        listed = [{"id": number, "data": {"photo": self.photos[number]}} for number in found[:size]]
        return httpx.Response(200, json={"total": len(found), "tasks": listed})

    def has(self, number: int, one: dict[str, Any]) -> bool:
        if one["operator"] == "regex":
            return re.search(one["value"], str(self.photos[number])) is not None
        return number in (one["value"] if one["operator"] == "in_list" else [one["value"]])

    def shown(self, tab: Tab) -> list[int]:
        """The tasks a tab holds."""
        return [task["id"] for task in self.tasks(self.filters(tab.number), 10_000).json()["tasks"]]

    def filters(self, number: int) -> dict[str, Any]:
        return dict(next(view["data"]["filters"] for view in self.views if view["id"] == number))

    def titles(self) -> list[str]:
        return [view["data"]["title"] for view in self.views]


@pytest.fixture
def manager() -> DataManager:
    made = DataManager()
    made.photos = {number: f"s3://bucket/{number % 3}/photo {number}.jpg" for number in range(1, 2001)}
    return made


@pytest.fixture
def api(manager: DataManager, settings: Any) -> Iterator[LabelStudioAPI]:
    made = LabelStudioAPI(settings())
    made.http.close()
    made.http = httpx.Client(base_url=f"{made.url}/", transport=httpx.MockTransport(manager.answer))
    yield made
    made.close()


def test_a_few_tasks_are_found_by_their_numbers(api: LabelStudioAPI, manager: DataManager) -> None:
    tab = open_tab(api, PROJECT, CONFIG, [9, 3, 5, 3], "search: cat")
    assert manager.shown(tab) == [3, 5, 9]
    assert (tab.shown, tab.note) == (3, "")
    assert tab.url == f"{api.url}/projects/{PROJECT}/data?tab={tab.number}"
    assert tab.label_stream_url == f"{tab.url}&labeling=1"


@pytest.mark.parametrize("many", [BY_NUMBER + 1, BY_NAME])
def test_many_tasks_are_found_by_the_names_of_their_images(
    api: LabelStudioAPI, manager: DataManager, many: int
) -> None:
    tasks = range(100, 100 + many)
    tab = open_tab(api, PROJECT, CONFIG, tasks, "search: cat")
    assert manager.shown(tab) == list(tasks)
    assert (tab.shown, tab.note) == (many, "")


def test_names_that_occur_twice_are_told_apart_by_their_folders(api: LabelStudioAPI, manager: DataManager) -> None:
    manager.photos |= {number: f"s3://bucket/{number}/photo.jpg" for number in range(1, 201)}
    tab = open_tab(api, PROJECT, CONFIG, range(1, 101), "search: cat")
    assert manager.shown(tab) == list(range(1, 101))
    assert tab.note == ""


@pytest.mark.parametrize(
    ("photo", "asked", "why"),
    [
        (lambda n: f"s3://bucket/{n}.jpg", BY_NAME + 1, "a tab holds at most 1,000"),
        (lambda n: f"s3://bucket/{n % 60}.jpg", 60, "other tasks have images of the same names"),
        (lambda n: f"data:image/png;base64,{n}", 60, "no addresses"),
        (lambda n: [f"s3://bucket/{n}.jpg"], 60, "no addresses"),
        (lambda n: f"s3://bucket/{'n' * 400}{n}.jpg", 100, "too long for one tab"),
    ],
    ids=["too many", "not unique", "inside the address", "lists", "long names"],
)
def test_what_one_tab_cannot_find_is_cut_to_the_first_and_says_so(
    api: LabelStudioAPI, manager: DataManager, photo: Any, asked: int, why: str
) -> None:
    manager.photos = {number: photo(number) for number in range(1, 1501)}
    tab = open_tab(api, PROJECT, CONFIG, range(asked, 0, -1), "search: cat")
    assert manager.shown(tab) == list(range(asked - BY_NUMBER + 1, asked + 1))
    assert tab.shown == BY_NUMBER
    assert tab.note.startswith(f"only the first {BY_NUMBER} of {asked:,} tasks are shown: ")
    assert why in tab.note


@pytest.mark.parametrize("gone", [range(1, 4), range(1, 61)], ids=["some", "most"])
def test_tasks_that_were_deleted_are_left_out_with_a_word(
    api: LabelStudioAPI, manager: DataManager, gone: range
) -> None:
    for number in gone:
        del manager.photos[number]
    tab = open_tab(api, PROJECT, CONFIG, range(1, 81), "search: cat")
    assert manager.shown(tab) == list(range(gone.stop, 81))
    assert tab.shown == 80 - len(gone)
    assert tab.note == f"{len(gone)} of the tasks are not in project {PROJECT} any more"


@given(st.sets(st.text(min_size=1).filter(str.isprintable), min_size=1, max_size=8), st.text().filter(str.isprintable))
def test_patterns_find_the_addresses_they_are_made_of_and_no_other(addresses: set[str], other: str) -> None:
    assume(other not in addresses)
    *_, as_a_whole = search_tab.patterns(sorted(addresses))
    assert all(re.search(as_a_whole, address) for address in addresses)
    assert not re.search(as_a_whole, other)


@given(st.sets(st.text(min_size=1).filter(lambda text: text.isprintable() and "/" not in text), min_size=1, max_size=8))
def test_the_first_pattern_finds_addresses_by_their_last_parts(names: set[str]) -> None:
    by_last_part, _ = search_tab.patterns([f"s3://bucket/{name}" for name in sorted(names)])
    for name in names:
        assert re.search(by_last_part, name)
        assert re.search(by_last_part, f"elsewhere/{name}")
        assert not re.search(by_last_part, f"{name}/x/"), "only at the end"
        assert bool(re.search(by_last_part, f"x{name}")) == (f"x{name}" in names), "only as a whole"


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("search: cracked screen", "search: cracked screen"),
        ("  search:\n cracked\tscreen ", "search: cracked screen"),
        ("", "search"),
        ("search: " + "x" * 32, "search: " + "x" * 32),
        ("search: " + "x" * 33, "search: " + "x" * 31 + "…"),
    ],
)
def test_a_title_is_one_line_of_forty_characters_at_most(
    api: LabelStudioAPI, manager: DataManager, title: str, shown: str
) -> None:
    open_tab(api, PROJECT, CONFIG, [1], title)
    assert manager.titles() == ["Default", shown]
    assert len(shown) <= LONGEST_TITLE


def test_the_next_search_takes_the_tab_over_though_it_was_renamed(api: LabelStudioAPI, manager: DataManager) -> None:
    first = open_tab(api, PROJECT, CONFIG, [1], "search: cat")
    data = manager.views[-1]["data"]
    data |= {"title": "mine", "gridWidth": 7, "selectedItems": {"all": False, "included": [1]}}
    second = open_tab(api, PROJECT, CONFIG, [2], "search: dog")
    assert second.number == first.number
    assert manager.shown(second) == [2]
    assert manager.titles() == ["Default", "search: dog"]
    assert manager.views[-1]["data"]["gridWidth"] == 7, "how it was arranged stays"
    assert "selectedItems" not in manager.views[-1]["data"], "what was ticked is not in it any more"


def test_a_tab_that_is_kept_and_other_peoples_tabs_are_left_alone(api: LabelStudioAPI, manager: DataManager) -> None:
    kept = open_tab(api, PROJECT, CONFIG, [1], "search: cat", keep=True)
    mine = open_tab(api, PROJECT, CONFIG, [2], "search: dog")
    manager.user = USER + 1
    theirs = open_tab(api, PROJECT, CONFIG, [3], "search: cow")
    manager.user = USER
    again = open_tab(api, PROJECT, CONFIG, [4], "search: pig")
    assert again.number == mine.number
    assert len({kept.number, mine.number, theirs.number}) == 3
    assert [manager.shown(tab) for tab in (kept, again, theirs)] == [[1], [4], [3]]


def test_a_project_nobody_has_opened_keeps_a_tab_with_all_of_its_tasks(
    api: LabelStudioAPI, manager: DataManager
) -> None:
    open_tab(api, PROJECT, CONFIG, [1], "search: cat")
    open_tab(api, PROJECT, CONFIG, [1], "search: cat", keep=True)
    assert manager.titles() == ["Default", "search: cat", "search: cat"]
    assert "filters" not in manager.views[0]["data"]


@pytest.mark.parametrize("tasks", [[], [0], [True], ["5"], "5", [4000]])
def test_what_cannot_be_shown_is_refused_in_words(api: LabelStudioAPI, manager: DataManager, tasks: Any) -> None:
    with pytest.raises(ConfigError, match="task"):
        open_tab(api, PROJECT, CONFIG, tasks, "search: cat")
    assert manager.views == []


def test_a_project_that_is_not_there_is_named(api: LabelStudioAPI, manager: DataManager) -> None:
    with pytest.raises(NotThere, match="project 8"):
        open_tab(api, 8, CONFIG, [1], "search: cat")
    assert manager.views == []
