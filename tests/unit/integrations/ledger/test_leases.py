"""The ledger on a real Redis-compatible server: leases, fencing, and effects that happen once."""

from __future__ import annotations

import time

import pytest
from redis.exceptions import OutOfMemoryError

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


def test_a_job_of_another_prelabel_version_is_refused_and_its_chunk_left_free(client, ledger) -> None:
    _, ref = submit(client)
    meta = f"prelabel:{{{ref.job_id}}}:meta"
    client.connection.redis.hset(meta, "spec", '{"wire_version": 2}')
    for _ in range(2):
        with pytest.raises(ConfigError, match="wire version 2"):
            ledger().claim(ref)


def test_a_late_worker_whose_lease_was_taken_over_can_write_nothing(client, ledger) -> None:
    job, ref = submit(client)
    late, next_one = ledger("late", lease_s=1.0), ledger("next")
    old = late.claim(ref)
    time.sleep(1.1)
    assert next_one.claim(ref) is Refusal.SUSPECT
    new = next_one.claim(ref, alone=True)
    assert new.token > old.token
    assert not late.renew(old)
    assert not late.complete(old, [(0, OTHER), (1, OTHER), (2, OTHER)], close=True).held
    assert not late.release(old)
    assert job.progress().done == 0
    assert next_one.complete(new, [(0, GOOD), (1, GOOD), (2, GOOD)], close=True).held
    assert {p.model_version for p in job.results(5)} == {"m"}


def test_a_renewed_lease_does_not_run_out(client, ledger) -> None:
    _, ref = submit(client)
    worker = ledger("a", lease_s=1.0)
    lease = worker.claim(ref)
    for _ in range(3):
        time.sleep(0.5)
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


def test_failed_items_are_retried_once_each_and_their_new_outcome_replaces_the_old(client, ledger) -> None:
    job, ref = submit(client)
    worker = ledger()
    worker.complete(worker.claim(ref), [(0, BAD), (1, GOOD), (2, BAD)], close=True)
    assert job.retry_failed() == 2
    assert job.retry_failed() == 0
    assert (job.progress().state, job.progress().pending) == (JobState.QUEUED, 2)
    (chunk,) = client.connection.redis.zrange(f"prelabel:{{{job.id}}}:open", 0, -1)
    lease = worker.claim(ChunkRef(job.id, int(chunk)))
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


def test_finished_jobs_expire_and_running_ones_do_not(client, ledger) -> None:
    job, ref = submit(client)
    redis = client.connection.redis
    keys = redis.keys(f"prelabel:{{{job.id}}}:*")
    assert all(redis.ttl(key) == -1 for key in keys)
    worker = ledger()
    worker.complete(worker.claim(ref), [(i, GOOD) for i in range(3)], close=True)
    keys = redis.keys(f"prelabel:{{{job.id}}}:*")
    assert keys
    assert all(0 < redis.ttl(key) <= 100 for key in keys)


def test_what_is_pushed_after_the_end_expires_with_the_job(client, ledger) -> None:
    job, ref = submit(client, push=PushTarget(project=1, label_config="<View/>", hold=True))
    worker = ledger()
    worker.complete(worker.claim(ref), [(i, GOOD) for i in range(3)], close=True)
    job.release_push(delivered=[0])
    redis = client.connection.redis
    assert all(redis.ttl(key) > 0 for key in redis.keys(f"prelabel:{{{job.id}}}:*"))


def test_a_postponed_chunk_is_leased_by_nobody_until_a_sweep_sends_it_again(client, ledger) -> None:
    job, ref = submit(client)
    worker = ledger()
    lease = worker.claim(ref)
    worker.complete(lease, [(1, GOOD)], close=False)
    assert worker.release(lease, pause_s=1.0)
    client.connection.redis.delete("bulk")
    assert worker.claim(ref) is Refusal.BUSY
    assert worker.overdue(job.id, "bulk", margin_s=0.0) == []
    time.sleep(1.1)
    assert worker.overdue(job.id, "bulk", margin_s=0.0) == [ref]
    again = worker.claim(ref)
    assert (again.postponed, again.deaths, [ordinal for ordinal, _ in again.pairs]) == (1, 0, [0, 2])


def test_a_job_past_its_deadline_gives_out_no_chunk_and_counts_as_cancelled(client, ledger) -> None:
    job, ref = submit(client)
    job_id, redis = job.id, client.connection.redis
    redis.hset(f"prelabel:{{{job_id}}}:meta", "deadline", time.time() - 1)
    assert ledger().claim(ref) is Refusal.GONE
    progress = job.progress()
    assert (progress.state, progress.cancelled) == (JobState.CANCELLED, "its deadline passed")
    assert list(job.results(5)) == []  # although no worker is there to write it down


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


def test_a_chunk_split_while_its_job_is_still_being_submitted_takes_no_index_of_the_submitters(client, ledger) -> None:
    worker = ledger()
    found: list[ChunkRef] = []

    def references():
        for index in range(2048):
            if index == 1500:  # the first trip of 1,024 is there, the second is not
                (job,) = client.jobs()
                lease = worker.claim(ChunkRef(job.job_id, 0))
                found.extend(worker.split(lease))
            yield f"s3://b/{index}.jpg"

    job = client.submit(references(), TAXONOMY)
    assert len(found) == 64
    redis = client.connection.redis
    ordinals = []
    for chunk in redis.zrange(f"prelabel:{{{job.id}}}:open", 0, -1):
        ordinals += [ordinal for ordinal, _ in worker.claim(ChunkRef(job.id, int(chunk))).pairs]
    assert sorted(ordinals) == list(range(2048))


def test_at_the_memory_limit_leases_are_kept_given_back_and_cancelled_but_not_begun(client, ledger) -> None:
    job, ref = submit(client)
    _, other = submit(client)
    worker = ledger()
    lease = worker.claim(ref)
    redis = client.connection.redis
    redis.config_set("maxmemory", 1)
    try:
        assert worker.renew(lease)
        with pytest.raises(OutOfMemoryError):
            worker.complete(lease, [(0, GOOD)], close=False)
        with pytest.raises(OutOfMemoryError):
            worker.claim(other)
        assert worker.release(lease)
        assert job.cancel()
    finally:
        redis.config_set("maxmemory", 0)
    assert job.progress().state is JobState.CANCELLED
