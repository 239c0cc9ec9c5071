"""Tasks without a prediction are kept with their reason: one entry a task, the last word counts."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from prelabel.integrations import Client
from prelabel.integrations.label_studio.projects.unanswered import (
    OTHER_REASONS,
    REASONS,
    Group,
    Reason,
    Unanswered,
    Why,
)

GONE = Reason(Why.FAILED, "the server answered 404")
DROPPED = Reason(Why.DROPPED, "Label Studio dropped it")


@pytest.fixture
def unanswered(client: Client) -> Unanswered:
    return Unanswered(client.connection.redis, client.connection.patiently)


def test_a_task_has_one_entry_and_the_last_word_counts(unanswered: Unanswered) -> None:
    unanswered.record(7, {1: GONE, 2: GONE, 3: DROPPED})
    unanswered.record(7, {1: DROPPED, 2: None})
    assert unanswered.groups(7) == [Group(Why.DROPPED, DROPPED.text, 2)]
    assert unanswered.tasks(7, Why.DROPPED, 10) == [1, 3]
    assert unanswered.tasks(7, Why.FAILED, 10) == []


def test_reasons_that_differ_in_numbers_alone_are_one(unanswered: Unanswered) -> None:
    unanswered.record(7, {n: Reason(Why.UNANSWERABLE, f"task {n} has no image") for n in range(20)})
    assert unanswered.groups(7) == [Group(Why.UNANSWERABLE, "task … has no image", 20)]


def test_a_number_that_is_the_same_for_all_is_shown(unanswered: Unanswered) -> None:
    for n in (1, 2):
        unanswered.record(7, {n: Reason(Why.FAILED, f"HTTP 404 of http://127.0.0.1/{n}.jpg… (3 tries)")})
    assert unanswered.groups(7)[0].text == "HTTP 404 of http://127.0.0.1/….jpg… (3 tries)"


def test_projects_do_not_mix_and_are_forgotten_one_by_one(unanswered: Unanswered) -> None:
    unanswered.record(7, {1: GONE})
    unanswered.record(8, {1: GONE, 2: GONE})
    unanswered.forget(7)
    assert unanswered.groups(7) == []
    assert [group.tasks for group in unanswered.groups(8)] == [2]


def test_any_number_of_reasons_takes_bounded_memory_and_loses_no_task(unanswered: Unanswered) -> None:
    names = [chr(0x4E00 + n) for n in range(REASONS + 50)]
    unanswered.record(7, {n: Reason(Why.FAILED, f"cannot read {name}") for n, name in enumerate(names)})
    unanswered.record(7, {9000: Reason(Why.FAILED, "one more"), 9001: GONE})
    groups = unanswered.groups(7)
    assert sum(group.tasks for group in groups) == len(names) + 2
    assert len(groups) <= REASONS + 1
    assert OTHER_REASONS in {group.text for group in groups}


def test_reasons_that_no_task_has_any_more_make_room_for_others(unanswered: Unanswered) -> None:
    names = [chr(0x4E00 + n) for n in range(REASONS)]
    unanswered.record(7, {n: Reason(Why.FAILED, f"cannot read {name}") for n, name in enumerate(names)})
    unanswered.record(7, dict.fromkeys(range(REASONS)))
    unanswered.record(7, {1: GONE, 2: DROPPED})
    assert {group.text for group in unanswered.groups(7)} == {GONE.text, DROPPED.text}


def test_the_tasks_of_a_kind_come_a_few_at_a_time(unanswered: Unanswered) -> None:
    unanswered.record(7, dict.fromkeys(range(3000), GONE))
    assert len(unanswered.tasks(7, Why.FAILED, 100)) == 100
    assert sorted(n for page in unanswered.pages(7, 150) for n in page) == list(range(3000))


@given(
    st.lists(
        st.dictionaries(
            st.integers(1, 12),
            st.none() | st.sampled_from([GONE, DROPPED, Reason(Why.NOTHING_CHOSEN), Reason(Why.FAILED, "\ud800 odd")]),
        ),
        max_size=8,
    )
)
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_counts_are_those_of_the_entries(unanswered: Unanswered, records: list[dict[int, Reason | None]]) -> None:
    unanswered.forget(7)
    last: dict[int, Reason | None] = {}
    for record in records:
        unanswered.record(7, record)
        last |= record
    expected = Counter(reason.why for reason in last.values() if reason is not None)
    counted: Counter[Why] = Counter()
    for group in unanswered.groups(7):
        counted[group.why] += group.tasks
    assert counted == expected
    for why in Why:
        assert unanswered.tasks(7, why, 100) == sorted(n for n, one in last.items() if one and one.why is why)
