"""What every ledger does for producers: jobs are submitted, followed, listed, cancelled and forgotten."""

from __future__ import annotations

import pytest

from prelabel.integrations.client.cutting import make_chunks
from prelabel.integrations.ledger import index as job_index
from prelabel.integrations.ledger.leases import ChunkRef
from prelabel.schemas import ConfigError, Item, ItemFailure, JobSpec, JobState, Outcome, PushTarget, Taxonomy
from prelabel.schemas.jobs import Control

TAXONOMY = Taxonomy.flat(["cat", "dog"])
BAD = Outcome(error=ItemFailure(kind="ItemError", message="empty file"))


def finish(client, ledger, job, ttl_s: int = 100) -> None:
    """Give a job of one chunk its outcomes."""
    worker = ledger(ttl_s=ttl_s)
    lease = worker.claim(ChunkRef(job.id, 0))
    worker.complete(lease, [(ordinal, BAD) for ordinal, _ in lease.pairs], close=True)


def test_a_submitted_job_waits_on_its_queue(client, ledger) -> None:
    job = client.submit([f"s3://b/{i}.jpg" for i in range(130)], TAXONOMY, name="night run")
    progress = job.progress()
    assert (progress.state, progress.total, progress.pending, progress.name) == (JobState.QUEUED, 130, 130, "night run")
    assert client.queues() == {"interactive": 0, "bulk": 3, "push": 0}
    pairs = [pair for chunk in range(3) for pair in ledger().claim(ChunkRef(job.id, chunk)).pairs]
    assert [(ordinal, item.id) for ordinal, item in pairs] == [(i, f"s3://b/{i}.jpg") for i in range(130)]


def test_interactive_jobs_have_a_queue_of_their_own(client) -> None:
    client.submit(["s3://b/1.jpg"], TAXONOMY, priority="interactive")
    assert client.queues()["interactive"] == 1


def test_items_are_streamed_not_collected(client) -> None:
    progress_seen: list[int] = []

    def items():
        for i in range(3000):
            if i == 2999:  # by the time the last item is made, the first ones are in the ledger
                assert client.jobs()[0].total >= 1024
            yield f"s3://b/{i}.jpg"

    client.submit(items(), TAXONOMY, on_submitted=progress_seen.append)
    assert progress_seen[-1] == 3000
    assert len(progress_seen) > 2


def test_a_single_string_is_one_image_not_its_letters(client) -> None:
    assert client.submit("s3://b/1.jpg", TAXONOMY).progress().total == 1


def test_an_empty_job_is_done_at_once(client) -> None:
    job = client.submit([], TAXONOMY)
    assert job.progress().state is JobState.DONE
    assert list(job.results()) == []


def test_a_bad_item_in_the_stream_cancels_the_job_and_says_so(client) -> None:
    with pytest.raises(ConfigError, match="image reference"):
        client.submit(["s3://b/1.jpg", 3], TAXONOMY)
    assert client.jobs()[0].state is JobState.CANCELLED


def test_waiting_for_a_job_nobody_works_on_times_out(client) -> None:
    job = client.submit(["s3://b/1.jpg"], TAXONOMY)
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.3 s"):
        job.wait(0.3)


def test_an_unknown_job_and_an_unknown_priority_are_user_errors(client) -> None:
    with pytest.raises(ConfigError, match="no job 'nope'"):
        client.job("nope")
    with pytest.raises(ConfigError, match='"bulk" or "interactive"'):
        client.submit(["s3://b/1.jpg"], TAXONOMY, priority="urgent")


def test_jobs_come_newest_first_and_expired_ones_are_forgotten(client, ledger, kept) -> None:
    old = client.submit(["s3://b/1"], TAXONOMY)
    kept.pass_time(0.01)
    new = client.submit(["s3://b/2"], TAXONOMY)
    assert [progress.job_id for progress in client.jobs()] == [new.id, old.id]
    finish(client, ledger, old, ttl_s=1)
    kept.pass_time(1.1)
    assert [progress.job_id for progress in client.jobs()] == [new.id]
    with pytest.raises(ConfigError, match="has expired"):
        old.progress()


def test_a_retry_keeps_a_job_that_was_about_to_expire(client, ledger, kept) -> None:
    job = client.submit(["s3://b/1"], TAXONOMY)
    finish(client, ledger, job, ttl_s=1)
    assert job.retry_failed() == 1
    kept.pass_time(1.1)
    assert job.progress().state is JobState.QUEUED


@pytest.mark.parametrize("end", ["finished", "cancelled", "sealed without items"])
def test_a_job_that_is_to_be_kept_briefly_is_gone_soon_after_its_end(client, ledger, kept, end) -> None:
    job = client.submit([] if end == "sealed without items" else ["s3://b/1"], TAXONOMY, keep_s=1)
    other = client.submit(["s3://b/1"], TAXONOMY)
    kept.pass_time(1.1)
    if end == "finished":
        assert job.progress().state is JobState.QUEUED, "it is kept until its end, however long that takes"
        finish(client, ledger, job)
    elif end == "cancelled":
        assert job.cancel()
    finish(client, ledger, other)
    kept.pass_time(1.1)
    with pytest.raises(ConfigError, match="has expired"):
        job.progress()
    assert other.progress().state is JobState.DONE


def submit_many(client, kept, count: int, **options) -> list[str]:
    """Ids of jobs, the newest first."""
    ids = []
    for number in range(count):
        ids.insert(0, client.submit([f"s3://b/{number}"], TAXONOMY, **options).id)
        kept.pass_time(0.01)
    return ids


def test_pages_hold_every_job_once_the_newest_first(client, kept, monkeypatch) -> None:
    monkeypatch.setattr(job_index, "PAGE", 2)
    ids = submit_many(client, kept, 5)
    page, place = client.connection.store.page()
    pages = [page]
    while page:
        page, place = client.connection.store.page(place)
        pages.append(page)
    assert pages == [ids[:2], ids[2:4], ids[4:], []]


def test_a_job_submitted_while_pages_are_read_puts_none_on_two_of_them(client, kept, monkeypatch) -> None:
    monkeypatch.setattr(job_index, "PAGE", 2)
    ids = submit_many(client, kept, 4)
    first, place = client.connection.store.page()
    submit_many(client, kept, 3)
    second, _ = client.connection.store.page(place)
    assert first + second == ids


def test_a_projects_jobs_are_found_behind_any_number_of_others(client, kept, monkeypatch) -> None:
    monkeypatch.setattr(job_index, "PAGE", 3)
    (mine,) = submit_many(client, kept, 1, push=PushTarget(project=7, label_config="<View/>"))
    submit_many(client, kept, 10, push=PushTarget(project=8, label_config="<View/>"))
    submit_many(client, kept, 10)
    (newer,) = submit_many(client, kept, 1, push=PushTarget(project=7, label_config="<View/>"))
    assert [job.id for job in client.project_jobs(7)] == [newer, mine]


def test_specs_of_jobs_that_are_gone_are_left_out(client) -> None:
    job = client.submit(["s3://b/1"], TAXONOMY)
    assert client.connection.store.specs([job.id, "nope"]) == {job.id: job.spec()}


def test_a_repeated_write_counts_items_once(client) -> None:
    job = client.submit([f"s3://b/{i}.jpg" for i in range(70)], TAXONOMY)
    chunks = list(make_chunks(Item.of(f"s3://b/{i}.jpg") for i in range(70)))
    client.connection.store.add_chunks(job.id, 0, chunks)  # what redis-py does when a reply is lost
    assert job.progress().total == 70


def test_a_job_cancelled_while_it_is_submitted_takes_no_more_items(client) -> None:
    made = 0

    def items():
        nonlocal made
        for made in range(100_000):
            if made == 1100:
                client.job(client.jobs()[0].job_id).cancel()
            yield f"s3://b/{made}.jpg"

    job = client.submit(items(), TAXONOMY)
    assert job.progress().state is JobState.CANCELLED
    assert made < 10_000


def test_a_job_still_being_submitted_is_not_retried(client) -> None:
    def items():
        yield from (f"s3://b/{i}.jpg" for i in range(1100))
        with pytest.raises(ConfigError, match="still being submitted"):
            client.job(client.jobs()[0].job_id).retry_failed()

    client.submit(items(), TAXONOMY)


def test_a_job_created_twice_is_one(client) -> None:
    spec = JobSpec(controls=(Control(taxonomy=TAXONOMY),), name="first")
    client.connection.store.create("twice", spec)
    client.connection.store.create("twice", spec.model_copy(update={"name": "second"}))
    assert [progress.name for progress in client.jobs()] == ["first"]
    assert client.connection.store.state("twice") is JobState.SUBMITTING
    assert not client.connection.store.sealed("twice")


def test_a_job_whose_submitter_fell_silent_or_whose_deadline_passed_is_to_be_cancelled(client, kept) -> None:
    store = client.connection.store
    store.create("silent", JobSpec(controls=(Control(taxonomy=TAXONOMY),)))
    late = client.submit(["s3://b/1.jpg"], TAXONOMY, deadline_s=0.5)
    client.submit(["s3://b/2.jpg"], TAXONOMY)
    assert store.expired(60) == []
    kept.pass_time(0.6)
    assert store.expired(60) == [(late.id, "its deadline passed")]
    assert dict(store.expired(0.5))["silent"] == "its submitter fell silent before all items were there"


def test_a_job_ends_at_its_deadline_though_no_worker_is_there(client, kept) -> None:
    job = client.submit(["s3://b/1.jpg"], TAXONOMY, deadline_s=0.5)
    assert not job.progress().state.ended
    kept.pass_time(0.6)
    assert list(job.results(10)) == []
    progress = job.progress()
    assert (progress.state, progress.cancelled) == (JobState.CANCELLED, "its deadline passed")


def test_a_client_answers_to_a_ping_and_knows_of_no_worker_and_no_prediction(client) -> None:
    client.ping()
    assert client.workers() == []
    assert client.recent() == []
