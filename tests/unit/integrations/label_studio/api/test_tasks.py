"""Listing a project's tasks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from prelabel.integrations.label_studio.api import tasks
from prelabel.integrations.label_studio.api.connection import LabelStudioAPI

XML = '<View><Image name="img" value="$image"/></View>'


@pytest.fixture
def api(settings) -> Iterator[LabelStudioAPI]:
    made = LabelStudioAPI(settings())
    yield made
    made.close()


@pytest.mark.parametrize(
    ("places", "each", "listed"),
    [
        (4, 1, [11, 21, 31, 41]),
        (4, 3, [11, 12, 13, 21, 22, 23, 31, 32, 33, 41, 42, 43]),
        (1, 2, [11, 12]),
        (80, 1, list(range(11, 51))),
    ],
)
def test_tasks_from_all_over_a_project_are_listed_in_a_request_for_each_place(
    label_studio, api, places, each, listed
) -> None:
    label_studio.add_project(1, XML, range(11, 51))
    asked = len(label_studio.calls)
    assert sorted(tasks.across(api, 1, 11, 50, places, each=each, fields="id")) == listed
    assert len(label_studio.calls) - asked == places


def test_a_place_where_there_are_none_gives_those_that_follow(label_studio, api) -> None:
    label_studio.add_project(1, XML, [1, 2, 1000])
    assert sorted(tasks.across(api, 1, 1, 1000, 3, each=1, fields="id")) == [1, 1000]
