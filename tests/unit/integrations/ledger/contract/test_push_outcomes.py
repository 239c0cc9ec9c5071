"""What every ledger keeps of pushes: what was delivered, what was refused and why, and what stands in the way."""

from __future__ import annotations

import pytest

from prelabel.integrations.client import refusals
from prelabel.schemas import Item, PushTarget, Taxonomy
from prelabel.schemas.items import ImageRef
from prelabel.schemas.progress import PushRefusal


@pytest.fixture
def submit(client):
    """Submits a job whose answers are for a platform; its items are numbered from 100."""

    def submit(count: int = 5, image: str = "s3://b/a.jpg"):
        items = (Item(id=str(100 + number), images=(ImageRef(uri=image),)) for number in range(count))
        return client.submit(items, Taxonomy.flat(["cat"]), push=PushTarget(project=7, label_config="<View/>"))

    return submit


def test_a_job_of_which_nothing_was_refused_has_no_refusals(submit) -> None:
    job = submit()
    assert job.refusals() == []
    assert (job.progress().refused, job.progress().push_problem) == (0, "")


def test_what_was_refused_is_counted_and_each_reason_is_told_once_the_most_frequent_first(submit, pushes) -> None:
    job = submit()
    pushes.mark(job.id, pushed=[0], rejected=[(1, "unknown choice"), (2, "task is gone"), (4, "task is gone")])
    assert (job.progress().pushed, job.progress().refused) == (1, 3)
    assert job.refusals() == [
        PushRefusal(reason="task is gone", count=2, examples=("102", "104")),
        PushRefusal(reason="unknown choice", count=1, examples=("101",)),
    ]


def test_reasons_that_each_name_their_own_task_are_one(submit, pushes) -> None:
    job = submit()
    pushes.mark(job.id, pushed=(), rejected=[(at, f"project 7 has no task {100 + at}") for at in range(5)])
    (refusal,) = job.refusals()
    assert (refusal.reason, refusal.count) == ("project 7 has no task …", 5)
    assert len(refusal.examples) == refusals.EXAMPLES


def test_a_reason_that_was_given_once_is_told_in_full(submit, pushes) -> None:
    job = submit()
    pushes.mark(job.id, pushed=(), rejected=[(3, "project 7 has no task 103")])
    assert job.refusals() == [PushRefusal(reason="project 7 has no task 103", count=1, examples=("103",))]


def test_more_reasons_than_anybody_reads_count_together(submit, pushes, monkeypatch) -> None:
    monkeypatch.setattr(refusals, "REASONS", 2)
    job = submit()
    pushes.mark(job.id, pushed=(), rejected=list(enumerate(("a", "b", "c", "d", "e"))))
    found = {refusal.reason: refusal.count for refusal in job.refusals()}
    assert found.pop(refusals.OTHERS) == 3
    assert list(found.values()) == [1, 1]


def test_an_item_that_is_refused_again_counts_once_with_its_last_reason(submit, pushes) -> None:
    job = submit()
    for reason in ("unknown choice", "task is gone"):
        pushes.mark(job.id, pushed=(), rejected=[(1, reason)])
    assert job.progress().refused == 1
    assert [refusal.reason for refusal in job.refusals()] == ["task is gone"]


def test_an_item_that_is_delivered_after_all_is_refused_no_more(submit, pushes) -> None:
    job = submit()
    pushes.mark(job.id, pushed=(), rejected=[(1, "unknown choice"), (2, "unknown choice")])
    pushes.mark(job.id, pushed=[1], rejected=())
    assert (job.progress().pushed, job.progress().refused) == (1, 1)
    assert job.refusals()[0].examples == ("102",)


def test_any_number_of_refusals_is_read_page_by_page_and_a_few_where_a_few_are_wanted(submit, pushes) -> None:
    job = submit(2000)
    pushes.mark(job.id, pushed=(), rejected=[(ordinal, "task is gone") for ordinal in range(2000)])
    (whole,) = job.refusals()
    assert whole.count == 2000
    (part,) = job.refusals(limit=10)
    assert 10 <= part.count < 2000


@pytest.mark.parametrize("length", [10, 3000, 70_000])
def test_examples_are_found_in_chunks_of_any_size(submit, pushes, length) -> None:
    job = submit(70, f"s3://b/{'a' * length}")  # 64, some 20, or 1 in each chunk
    for ordinal in (0, 33, 69):
        pushes.mark(job.id, pushed=(), rejected=[(ordinal, f"reason {'abc'[ordinal % 3]}{'x' * ordinal}")])
    assert sorted(example for refusal in job.refusals() for example in refusal.examples) == ["100", "133", "169"]


def test_what_stands_in_the_way_of_pushes_is_told_until_one_succeeds(submit, pushes) -> None:
    job = submit()
    pushes.record_problem(job.id, "Label Studio is away")
    assert job.progress().push_problem == "Label Studio is away"
    pushes.mark(job.id, pushed=[0], rejected=())
    assert job.progress().push_problem == ""


def test_a_job_that_is_gone_has_no_refusals(client) -> None:
    assert client.connection.store.refusals("nope", 0) == (0, [])
