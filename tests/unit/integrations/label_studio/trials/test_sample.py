"""Which tasks a label config is tried on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from prelabel.integrations.label_studio.api.connection import LabelStudioAPI
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.trials.sample import draw, spread

XML = '<View><Image name="img" value="$image"/><Choices name="cls" toName="img"><Choice value="Cat"/></Choices></View>'
CONFIGS = (LabelConfig.parse(XML),)


@pytest.fixture
def api(settings) -> Iterator[LabelStudioAPI]:
    made = LabelStudioAPI(settings())
    yield made
    made.close()


def numbers(api: LabelStudioAPI, size: int, known: list[int]) -> list[int]:
    return [task["id"] for task in draw(api, 1, size, known, CONFIGS).tasks]


def test_values_are_taken_at_even_distances() -> None:
    assert spread(range(100), 4) == [12, 37, 62, 87]
    assert spread([5, 6], 9) == [5, 6]
    assert spread(range(7), 0) == []
    assert len(set(spread(range(1000), 999))) == 999


def test_stored_tasks_come_first_and_are_spread(label_studio, api) -> None:
    label_studio.add_project(1, XML, range(1, 401))
    stored = list(range(101, 301))
    drawn = numbers(api, 4, stored)
    assert drawn == [126, 176, 226, 276]
    assert numbers(api, 4, stored) == drawn, "the same ones again: two wordings can be compared"


def test_deleted_tasks_are_replaced_by_other_stored_ones(label_studio, api) -> None:
    label_studio.add_project(1, XML, range(1, 51))
    drawn = numbers(api, 10, list(range(1, 101)))
    assert len(drawn) == 10
    assert max(drawn) <= 50


def test_what_is_not_stored_fills_up_from_all_over_the_project(label_studio, api) -> None:
    label_studio.add_project(1, XML, range(1, 1001))
    drawn = numbers(api, 24, [7, 8, 9, 10])
    assert len(drawn) == len(set(drawn)) == 24
    assert {7, 8, 9, 10} < set(drawn)
    assert max(drawn) > 850
    assert sum(number > 500 for number in drawn) >= 8


def test_a_project_with_gaps_in_its_numbers_gives_as_many_as_it_has(label_studio, api) -> None:
    label_studio.add_project(1, XML, [3, 4, 5, 6, 900, 2000])
    sample = draw(api, 1, 5, [], CONFIGS)
    assert len(sample.tasks) == 5
    assert sample.total == 6
    assert numbers(api, 50, [4]) == [3, 4, 5, 6, 900, 2000]
    label_studio.add_project(2, XML)
    assert draw(api, 2, 5, [], CONFIGS) == ([], 0)
