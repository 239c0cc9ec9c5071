"""What every ledger does with items that were answered together: one record for all of them, an outcome for each."""

from __future__ import annotations

import pytest

from prelabel.integrations import Client
from prelabel.integrations.ledger.leases import Answered, ChunkRef
from prelabel.schemas import Answer, ItemFailure, Outcome, Taxonomy
from tests.answering import record_of

TAXONOMY = Taxonomy.flat(["cat", "dog"])
OTHER = Outcome(model_version="late", answers=(Answer(control="label", rule="softmax", confidence=0.1),))
BAD = Outcome(error=ItemFailure(kind="ItemError", message="empty file"))


def submit(client: Client, count: int):
    job = client.submit([f"s3://b/{i}.jpg" for i in range(count)], TAXONOMY)
    return job, ChunkRef(job.id, 0)


def test_items_answered_together_are_read_one_by_one(client, ledger) -> None:
    job, ref = submit(client, 4)
    worker = ledger()
    lease = worker.claim(ref)
    answered = [Answered([2, 0], record_of(TAXONOMY, ["dog", "cat"]))]
    assert worker.complete(lease, [(3, BAD)], close=False, answered=answered).ordinals == {0, 2, 3}
    assert worker.complete(lease, [], close=True, answered=[Answered([1], record_of(TAXONOMY, ["dog"]))]).held
    found = {prediction.ordinal: prediction for prediction in job.results(5)}
    assert {ordinal: (one.item.id, one.label) for ordinal, one in found.items()} == {
        0: ("s3://b/0.jpg", "cat"),
        1: ("s3://b/1.jpg", "dog"),
        2: ("s3://b/2.jpg", "dog"),
        3: ("s3://b/3.jpg", None),
    }
    assert found[2].vectors == {"": "01" * 16}
    assert found[0].vectors == {"": "02" * 16}
    assert found[0].confidence == found[0].scores[0].probability
    assert (job.progress().done, job.progress().failed) == (3, 1)
    assert [failure.ordinal for failure in job.failures()] == [3]


def test_of_items_answered_together_those_keep_their_outcome_that_have_one(client, ledger) -> None:
    job, ref = submit(client, 4)
    worker = ledger()
    lease = worker.claim(ref)
    assert worker.complete(lease, [(1, OTHER)], close=False).ordinals == {1}
    both = Answered([0, 1, 2], record_of(TAXONOMY, ["cat", "cat", "dog"]))
    assert worker.complete(lease, [], close=False, answered=[both]).ordinals == {0, 2}
    assert worker.complete(lease, [], close=False, answered=[both]).ordinals == set()
    again = Answered([2, 3], record_of(TAXONOMY, ["cat", "cat"]))
    assert worker.complete(lease, [], close=True, answered=[again]).ordinals == {3}
    results = list(job.results(5))
    assert sorted(one.ordinal for one in results) == [0, 1, 2, 3]
    assert {one.ordinal: one.label for one in results} == {0: "cat", 1: None, 2: "dog", 3: "cat"}
    assert job.progress().done == 4


def test_an_item_that_failed_and_is_retried_is_answered_with_others(client, ledger) -> None:
    job, ref = submit(client, 2)
    worker = ledger()
    answered = [Answered([0], record_of(TAXONOMY, ["dog"]))]
    worker.complete(worker.claim(ref), [(1, BAD)], close=True, answered=answered)
    assert job.retry_failed() == 1
    lease = worker.claim(ChunkRef(job.id, 1_000_000_000))
    worker.complete(lease, [], close=True, answered=[Answered([1], record_of(TAXONOMY, ["cat"]))])
    assert {one.ordinal: one.label for one in job.results(5)} == {0: "dog", 1: "cat"}
    assert job.progress().failed == 0


def test_a_late_worker_writes_no_record(client, ledger, kept) -> None:
    job, ref = submit(client, 1)
    late, next_one = ledger("late", lease_s=1.0), ledger("next")
    lease = late.claim(ref)
    kept.pass_time(1.2)
    next_one.reap(job.id)
    assert next_one.claim(ref, alone=True).pairs
    assert not late.complete(lease, [], close=True, answered=[Answered([0], record_of(TAXONOMY, ["cat"]))]).held
    assert list(job.results_so_far()) == []


@pytest.mark.parametrize("at_once", [64, 640])
def test_about_as_many_results_are_read_at_once_as_are_asked_for(client, ledger, at_once) -> None:
    job, _ = submit(client, 1000)
    worker = ledger()
    for chunk in range(16):
        lease = worker.claim(ChunkRef(job.id, chunk))
        ordinals = [ordinal for ordinal, _ in lease.pairs]
        answered = [Answered(ordinals, record_of(TAXONOMY, ["cat"] * len(ordinals)))]
        worker.complete(lease, [], close=True, answered=answered)
    after, seen = "0", []
    while True:
        after, page = client.connection.store.results(job.id, after, None, at_once)
        if not page:
            break
        assert len(page) <= at_once
        assert [one.ordinal for one in page] == [page[at].ordinal for at in range(len(page))]
        seen += [prediction.ordinal for prediction in page]
    assert seen == list(range(1000))


def test_results_may_be_read_without_their_scores(client, ledger) -> None:
    job, ref = submit(client, 2)
    worker = ledger()
    answered = [Answered([0, 1], record_of(TAXONOMY, ["dog", "cat"]))]
    worker.complete(worker.claim(ref), [], close=True, answered=answered)
    whole = client.connection.store.results(job.id, "0", None)[1]
    bare = client.connection.store.results(job.id, "0", None, scores=False)[1]
    assert [one.label for one in bare] == ["dog", "cat"]
    assert [(one.confidence, one.path, one.vectors) for one in bare] == [
        (one.confidence, one.path, one.vectors) for one in whole
    ]
    assert all(len(one.scores) == 2 for one in whole)
    assert all(len(one.scores) in (0, 2) for one in bare)
