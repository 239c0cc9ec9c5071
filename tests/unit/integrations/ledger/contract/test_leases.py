"""What every ledger does for workers: leases, fencing, and effects that happen once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from prelabel.integrations import Client
from prelabel.integrations.ledger.leases import ChunkRef, Refusal
from prelabel.schemas import Answer, ConfigError, ItemFailure, JobState, Outcome, PushTarget, Taxonomy

TAXONOMY = Taxonomy.flat(["cat", "dog"])
GOOD = Outcome(model_version="m", answers=(Answer(control="label", rule="softmax", paths=(("cat",),), confidence=0.9),))
OTHER = Outcome(model_version="late", answers=(Answer(control="label", rule="softmax", confidence=0.1),))
BAD = Outcome(error=ItemFailure(kind="ItemError", message="empty file"))


def submit(client: Client, count: int = 3, **options):
    job = client.submit([f"s3://b/{i}.jpg" for i in range(count)], TAXONOMY, **options)
    return job, ChunkRef(job.id, 0)


def test_a_chunk_is_leased_by_one_worker_at_a_time(client, ledger) -> None:
    _, ref = submit(client)
    lease = ledger("a").claim(ref)
    assert [ordinal for ordinal, _ in lease.pairs] == [0, 1, 2]
    assert lease.spec.controls[0].taxonomy == TAXONOMY
    assert ledger("b").claim(ref) is Refusal.BUSY
    assert ledger("a").claim(ref) is Refusal.BUSY  # a duplicate message to the same worker


def test_a_closed_chunk_is_gone_and_the_job_done(client, ledger) -> None:
    job, ref = submit(client)
    worker = ledger()
    lease = worker.claim(ref)
    assert worker.complete(lease, [(0, GOOD), (1, BAD), (2, GOOD)], close=True).held
    assert worker.claim(ref) is Refusal.GONE
    progress = job.progress()
    assert (progress.state, progress.done, progress.failed, progress.pending) == (JobState.DONE, 2, 1, 0)


def test_an_item_keeps_its_first_outcome_and_is_counted_once(client, ledger) -> None:
    job, ref = submit(client)
    worker = ledger()
    lease = worker.claim(ref)
    assert worker.complete(lease, [(0, GOOD), (1, BAD)], close=False).ordinals == {0, 1}
    assert worker.complete(lease, [(0, OTHER), (1, GOOD), (2, GOOD)], close=True).ordinals == {2}
    assert {p.ordinal: (p.model_version, p.ok) for p in job.results(5)} == {
        0: ("m", True),
        1: ("", False),
        2: ("m", True),
    }
    assert job.progress().done == 2


def test_a_late_worker_whose_lease_was_taken_over_can_write_nothing(client, ledger, kept) -> None:
    job, ref = submit(client)
    late, next_one = ledger("late", lease_s=1.0), ledger("next")
    old = late.claim(ref)
    kept.pass_time(1.1)
    assert next_one.claim(ref) is Refusal.SUSPECT
    new = next_one.claim(ref, alone=True)
    assert new.token > old.token
    assert not late.renew(old)
    assert not late.complete(old, [(0, OTHER), (1, OTHER), (2, OTHER)], close=True).held
    assert not late.release(old)
    assert job.progress().done == 0
    assert next_one.complete(new, [(0, GOOD), (1, GOOD), (2, GOOD)], close=True).held
    assert {p.model_version for p in job.results(5)} == {"m"}


def test_a_renewed_lease_does_not_run_out(client, ledger, kept) -> None:
    _, ref = submit(client)
    worker = ledger("a", lease_s=1.0)
    lease = worker.claim(ref)
    for _ in range(3):
        kept.pass_time(0.5)
        assert worker.renew(lease)
    assert ledger("b").claim(ref) is Refusal.BUSY


def test_a_second_lease_brings_only_the_items_without_an_outcome(client, ledger) -> None:
    _, ref = submit(client)
    worker = ledger()
    lease = worker.claim(ref)
    worker.complete(lease, [(1, GOOD)], close=False)
    assert worker.release(lease)
    again = worker.claim(ref)
    assert [ordinal for ordinal, _ in again.pairs] == [0, 2]


def test_giving_back_on_purpose_is_no_death_but_dying_is_and_a_suspect_is_leased_alone(client, ledger) -> None:
    _, ref = submit(client)
    worker = ledger("a")
    worker.release(worker.claim(ref))
    assert worker.claim(ref).deaths == 0
    assert ledger("supervisor").free_owner("a", "killed by SIGSEGV") == [ref]
    assert ledger("b").claim(ref) is Refusal.SUSPECT
    lease = ledger("b").claim(ref, alone=True)
    assert (lease.deaths, lease.why) == (1, "killed by SIGSEGV")


def test_progress_clears_a_chunk_of_suspicion(client, ledger) -> None:
    _, ref = submit(client)
    ledger("a").claim(ref)
    ledger("supervisor").free_owner("a", "killed")
    worker = ledger("b")
    worker.complete(worker.claim(ref, alone=True), [(0, GOOD)], close=False)
    ledger("supervisor").free_owner("b", "killed")
    assert ledger("c").claim(ref, alone=True).deaths == 1


def test_a_suspect_chunk_is_split_into_its_unfinished_items_each_as_suspect(client, ledger) -> None:
    job, ref = submit(client)
    worker = ledger("a")
    worker.complete(worker.claim(ref), [(1, GOOD)], close=False)
    ledger("supervisor").free_owner("a", "killed")
    worker = ledger("b")
    parts = worker.split(worker.claim(ref, alone=True))
    assert worker.claim(ref) is Refusal.GONE
    assert [worker.claim(part) for part in parts] == [Refusal.SUSPECT] * 2
    leases = [worker.claim(part, alone=True) for part in parts]
    assert [[ordinal for ordinal, _ in lease.pairs] for lease in leases] == [[0], [2]]
    assert {lease.deaths for lease in leases} == {1}
    for lease in leases:
        worker.complete(lease, [(lease.pairs[0][0], GOOD)], close=True)
    assert job.progress().state is JobState.DONE
    assert sorted(p.ordinal for p in job.results(5)) == [0, 1, 2]


def test_a_dead_workers_leases_are_freed_and_nobody_elses(client, ledger) -> None:
    _, mine = submit(client)
    _, theirs = submit(client)
    ledger("dead").claim(mine)
    ledger("alive").claim(theirs)
    assert ledger("supervisor").free_owner("dead", "killed") == [mine]
    assert ledger("next").claim(theirs) is Refusal.BUSY
    assert ledger("next").claim(mine) is not Refusal.BUSY


def test_a_cancelled_job_refuses_claims_and_writes_and_keeps_what_was_done(client, ledger) -> None:
    job, ref = submit(client)
    worker = ledger()
    lease = worker.claim(ref)
    worker.complete(lease, [(0, GOOD)], close=False)
    assert job.cancel()
    assert not job.cancel()
    assert worker.claim(ref) is Refusal.GONE
    assert not worker.renew(lease)
    assert not worker.complete(lease, [(1, GOOD)], close=True).held
    assert [p.ordinal for p in job.results(5)] == [0]
    assert job.progress().state is JobState.CANCELLED


def test_failed_items_are_retried_once_each_and_their_new_outcome_replaces_the_old(client, ledger, kept) -> None:
    job, ref = submit(client)
    worker = ledger()
    worker.complete(worker.claim(ref), [(0, BAD), (1, GOOD), (2, BAD)], close=True)
    assert job.retry_failed() == 2
    assert job.retry_failed() == 0
    assert (job.progress().state, job.progress().pending) == (JobState.QUEUED, 2)
    (chunk,) = kept.open_chunks(job.id)
    lease = worker.claim(ChunkRef(job.id, chunk))
    assert [(ordinal, item.id) for ordinal, item in lease.pairs] == [(0, "s3://b/0.jpg"), (2, "s3://b/2.jpg")]
    worker.complete(lease, [(0, GOOD), (2, BAD)], close=True)
    assert {p.ordinal: p.ok for p in job.results(5)} == {0: True, 1: True, 2: False}
    assert job.progress().failed == 1


def test_a_cancelled_job_is_not_retried(client, ledger) -> None:
    job, _ = submit(client)
    job.cancel()
    with pytest.raises(ConfigError, match="cancelled"):
        job.retry_failed()


def test_a_held_push_becomes_ready_when_it_is_released(client, ledger) -> None:
    job, ref = submit(client, push=PushTarget(project=1, label_config="<View/>", hold=True))
    worker = ledger()
    lease = worker.claim(ref)
    assert not worker.complete(lease, [(0, GOOD)], close=False).push_ready
    job.release_push(delivered=[0])
    assert worker.complete(lease, [(1, GOOD)], close=False).push_ready
    assert job.progress().pushed == 1


def test_a_postponed_chunk_is_leased_by_nobody_until_a_sweep_sends_it_again(client, ledger, kept) -> None:
    job, ref = submit(client)
    worker = ledger()
    lease = worker.claim(ref)
    worker.complete(lease, [(1, GOOD)], close=False)
    assert worker.release(lease, pause_s=1.0)
    kept.take_messages("bulk")
    assert worker.claim(ref) is Refusal.BUSY
    assert worker.overdue(job.id, "bulk", margin_s=0.0) == []
    kept.pass_time(1.1)
    assert worker.overdue(job.id, "bulk", margin_s=0.0) == [ref]
    again = worker.claim(ref)
    assert (again.postponed, again.deaths, [ordinal for ordinal, _ in again.pairs]) == (1, 0, [0, 2])


def test_a_job_past_its_deadline_gives_out_no_chunk(client, ledger, kept) -> None:
    _, ref = submit(client, deadline_s=0.5)
    kept.pass_time(0.6)
    assert ledger().claim(ref) is Refusal.GONE


def test_quarantined_items_are_counted_until_they_are_retried(client, ledger) -> None:
    job, ref = submit(client)
    worker = ledger()
    killer = Outcome(error=ItemFailure(kind="Quarantined", message="it killed its worker 3 times"))
    worker.complete(worker.claim(ref), [(0, GOOD), (1, killer), (2, BAD)], close=True)
    progress = job.progress()
    assert (progress.done, progress.failed, progress.quarantined) == (1, 2, 1)
    assert job.retry_failed() == 2
    progress = job.progress()
    assert (progress.failed, progress.quarantined) == (0, 0)


def test_a_chunk_split_while_its_job_is_being_submitted_takes_no_index_of_the_submitters(client, ledger, kept) -> None:
    worker = ledger()
    parts: list[ChunkRef] = []

    def references():
        for index in range(2048):
            if index == 1500:  # the first trip of 1,024 is there, the second is not
                (job,) = client.jobs()
                lease = worker.claim(ChunkRef(job.job_id, 0))
                parts.extend(worker.split(lease))
            yield f"s3://b/{index}.jpg"

    job = client.submit(references(), TAXONOMY)
    assert len(parts) == 64
    ordinals = []
    for chunk in kept.open_chunks(job.id):
        ordinals += [ordinal for ordinal, _ in worker.claim(ChunkRef(job.id, chunk)).pairs]
    assert sorted(ordinals) == list(range(2048))


def test_a_lease_that_ran_out_is_freed_as_a_death_and_a_live_one_is_not(client, ledger, kept) -> None:
    job, ref = submit(client)
    _, theirs = submit(client)
    short = ledger("short", lease_s=0.5)
    lease = short.claim(ref)
    ledger("long").claim(theirs)
    assert short.reap(job.id) == []
    kept.pass_time(0.6)
    assert short.reap(job.id) == [ref]
    assert short.reap(theirs.job_id) == []
    assert not short.renew(lease)
    again = ledger("next").claim(ref, alone=True)
    assert (again.deaths, again.why) == (1, "its worker fell silent")


def test_a_message_is_lost_when_its_queue_is_empty_or_later_ones_were_taken(client, ledger, kept) -> None:
    job, ref = submit(client)
    kept.pass_time(0.1)
    _, later = submit(client)
    kept.pass_time(0.1)
    _, waiting = submit(client)
    worker = ledger()
    assert worker.overdue(job.id, "bulk", margin_s=0.0) == [], "it may still be on the queue"
    kept.take_messages("bulk", 2)
    worker.claim(later)
    assert worker.overdue(job.id, "bulk", margin_s=60.0) == []
    assert worker.overdue(job.id, "bulk", margin_s=0.0) == [ref]
    assert worker.overdue(job.id, "bulk", margin_s=0.0) == [], "it counts as sent now"
    assert worker.overdue(waiting.job_id, "bulk", margin_s=0.0) == []
    kept.take_messages("bulk")
    kept.pass_time(0.1)
    assert worker.overdue(waiting.job_id, "bulk", margin_s=0.0) == [waiting]


def test_jobs_that_have_not_ended_are_known_with_their_queues(client, ledger) -> None:
    job, ref = submit(client, priority="interactive")
    ended, _ = submit(client)
    ended.cancel()
    worker = ledger()
    assert worker.active_jobs() == [job.id]
    assert [worker.queue_of(job_id) for job_id in (job.id, ended.id, "nope")] == ["interactive", "bulk", None]
    worker.complete(worker.claim(ref), [(i, GOOD) for i in range(3)], close=True)
    assert worker.active_jobs() == []


def test_a_worker_that_has_signed_off_leaves_nothing_to_free(client, ledger) -> None:
    _, ref = submit(client)
    worker = ledger("a")
    worker.claim(ref)
    worker.forget_owner()
    assert ledger("supervisor").free_owner("a", "killed") == []


def test_results_come_in_the_order_they_were_written_whatever_the_items_order(client, ledger) -> None:
    job, ref = submit(client)
    worker = ledger()
    lease = worker.claim(ref)
    worker.complete(lease, [(2, GOOD)], close=False)
    place, first = client.connection.store.results(job.id, "0", None)
    worker.complete(lease, [(0, BAD), (1, GOOD)], close=True)
    _, others = client.connection.store.results(job.id, place, None)
    assert [[prediction.ordinal for prediction in read] for read in (first, others)] == [[2], [0, 1]]
    assert [prediction.item.id for prediction in job.failures()] == ["s3://b/0.jpg"]


def test_who_waits_for_results_gets_what_another_thread_writes(client, ledger) -> None:
    job, ref = submit(client)

    def work() -> None:
        worker = ledger()
        worker.complete(worker.claim(ref), [(i, GOOD) for i in range(3)], close=True)

    thread = threading.Thread(target=work)
    thread.start()
    assert [prediction.ordinal for prediction in job.results()] == [0, 1, 2]
    thread.join()


def test_many_workers_give_every_item_one_outcome(client, ledger) -> None:
    job = client.submit([f"s3://b/{i}.jpg" for i in range(640)], TAXONOMY)

    def work(name: str) -> int:
        worker, written = ledger(name), 0
        for chunk in range(10):
            lease = worker.claim(ChunkRef(job.id, chunk))
            if not isinstance(lease, Refusal):
                outcomes = [(ordinal, GOOD) for ordinal, _ in lease.pairs]
                written += len(worker.complete(lease, outcomes, close=True).ordinals)
        return written

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(work, "abcd")) == 640
    assert (job.progress().state, job.progress().done) == (JobState.DONE, 640)


def test_a_job_has_one_message_on_the_push_queue_until_it_is_taken(kept) -> None:
    marks = kept.push_hints()
    assert [marks.due("a"), marks.due("a"), marks.due("b")] == [True, False, True]
    marks.taken("a")
    assert [marks.due("a"), marks.due("b")] == [True, False]


def test_a_chunk_that_came_to_the_wrong_worker_is_handed_over_once_and_counts_no_death(client, ledger, kept) -> None:
    job, ref = submit(client, model="a@1")
    kept.take_messages("bulk:a@1")
    wrong = ledger("wrong")
    lease = wrong.claim(ref)
    assert wrong.hand_over(lease, "bulk:a@1")
    assert not wrong.hand_over(lease, "bulk:a@1"), "it is ours no more"
    assert not wrong.renew(lease)
    assert job.progress().state is JobState.QUEUED, "nobody has begun"
    assert not wrong.hand_over(wrong.claim(ref), "bulk:a@1"), "its message has been sent: another would go to and fro"
    right = ledger("right")
    lease = right.claim(ref)
    assert (lease.deaths, len(lease.pairs)) == (0, 3)
    assert right.complete(lease, [(i, GOOD) for i in range(3)], close=True).held
    assert job.progress().done == 3


def test_a_chunk_whose_job_was_cancelled_meanwhile_is_not_handed_over(client, ledger) -> None:
    job, ref = submit(client, model="a@1")
    lease = ledger().claim(ref)
    job.cancel()
    assert not ledger().hand_over(lease, "bulk:a@1")
