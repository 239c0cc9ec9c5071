"""What every ledger does for a job whose items another one has answered: they come with the keys of their vectors."""

from __future__ import annotations

import pytest
from redis.exceptions import OutOfMemoryError

from prelabel.integrations.ledger import sources
from prelabel.integrations.ledger.keys import JobKeys
from prelabel.integrations.ledger.leases import Answered, ChunkRef
from prelabel.integrations.testing import MemoryClient
from prelabel.schemas import (
    Answer,
    ConfigError,
    Control,
    ImageRef,
    Item,
    ItemFailure,
    Label,
    Options,
    Outcome,
    PushTarget,
    Taxonomy,
)
from prelabel.schemas.queues import SOURCE_CHUNK_BYTES, SOURCE_CHUNK_ITEMS
from tests.answering import record_of

TAXONOMY = Taxonomy.flat(["cat", "dog"])
OTHER = Taxonomy.flat(["red", "blue"])
MODEL = "m@12345678"
VERSION = f"{MODEL}+tax.abcdef"
BAD = Outcome(error=ItemFailure(kind="ItemError", message="empty file"))


def _refusing(**_: object) -> None:
    raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'")


def single(key: str = "ab" * 16, version: str = VERSION, **vectors: str) -> Outcome:
    answer = Answer(control="label", rule="softmax", paths=(("cat",),), confidence=0.9)
    return Outcome(model_version=version, vectors=vectors or {"": key}, answers=(answer,))


def record(count: int, version: str = VERSION) -> bytes:
    return record_of(TAXONOMY, ["cat"] * count, version)


@pytest.fixture
def worker(ledger):
    return ledger("worker")


def answer_all(client, worker, count: int, fails: int | None = None):
    """A job of so many items, answered in records as a worker writes them, one failed if so asked."""
    job = client.submit([f"s3://b/{i}.jpg" for i in range(count)], TAXONOMY)
    for chunk in range((count + 63) // 64):
        lease = worker.claim(ChunkRef(job.id, chunk))
        ordinals = [ordinal for ordinal, _ in lease.pairs if ordinal != fails]
        failed = [(ordinal, BAD) for ordinal, _ in lease.pairs if ordinal == fails]
        worker.complete(lease, failed, close=True, answered=[Answered(ordinals, record(len(ordinals)))])
    return job


def pairs_of(worker, job, kept) -> list[tuple[int, Item]]:
    return [pair for chunk in sorted(kept.open_chunks(job.id)) for pair in worker.claim(ChunkRef(job.id, chunk)).pairs]


def test_what_was_answered_is_scored_again_in_order_and_what_failed_is_not(client, worker, kept) -> None:
    again = client.rescore(answer_all(client, worker, 5, fails=2), OTHER)
    assert again.progress().total == 4
    pairs = pairs_of(worker, again, kept)
    assert [ordinal for ordinal, _ in pairs] == [0, 1, 2, 3]
    assert [item.id for _, item in pairs] == [f"s3://b/{i}.jpg" for i in (0, 1, 3, 4)]
    assert [item.images[0].vector for _, item in pairs] == [f"0{row}" * 16 for row in (1, 2, 3, 4)]


@pytest.mark.parametrize("count", [SOURCE_CHUNK_ITEMS - 1, SOURCE_CHUNK_ITEMS, SOURCE_CHUNK_ITEMS + 1, 2500])
def test_however_many_there_are_each_is_there_once(client, worker, kept, count) -> None:
    told: list[int] = []
    again = client.rescore(answer_all(client, worker, count), OTHER, on_submitted=told.append)
    assert again.progress().total == told[-1] == count
    pairs = pairs_of(worker, again, kept)
    assert [ordinal for ordinal, _ in pairs] == list(range(count))
    assert [item.id for _, item in pairs] == [f"s3://b/{i}.jpg" for i in range(count)]


def test_outcomes_that_stand_alone_are_found_too(client, worker, kept) -> None:
    """So an earlier release wrote all of them, and this one what is answered in part."""
    job = client.submit(["s3://b/0.jpg", "s3://b/1.jpg", "s3://b/2.jpg"], TAXONOMY)
    lease = worker.claim(ChunkRef(job.id, 0))
    worker.complete(lease, [(1, single()), (0, BAD)], close=False)
    worker.complete(lease, [], close=True, answered=[Answered([2], record(1))])
    pairs = pairs_of(worker, client.rescore(job, OTHER), kept)
    assert [(item.id, item.images[0].vector) for _, item in pairs] == [
        ("s3://b/1.jpg", "ab" * 16),
        ("s3://b/2.jpg", "01" * 16),
    ]


def test_items_keep_all_they_have_and_every_image_its_own_vector(client, worker, kept) -> None:
    options = Options(labels=(Label(name="cat"), Label(name="dog")))
    images = tuple(ImageRef(uri=f"s3://b/{i}.jpg", name=name) for i, name in enumerate(["a", "b", "b", "a"]))
    item = Item(id="seven", images=images, options={"label": options}, problems={"other": "no such label"})
    plain = Item(id="eight", images=(ImageRef(uri="s3://b/8.jpg", name="a", vector="ee" * 16),))
    control = Control(taxonomy=Taxonomy(labels=(), is_open=True), image="a", over="each")
    job = client.submit([item, plain], (control,))
    keys = {"a": "aa" * 16, "b\x1f1": "bb" * 16, "a\x1f1": "cc" * 16}
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [(0, single(**keys)), (1, single(a="dd" * 16))], close=True)
    (_, first), (_, second) = pairs_of(worker, client.rescore(job, OTHER), kept)
    assert [image.vector for image in first.images] == ["aa" * 16, None, "bb" * 16, "cc" * 16]
    assert first.model_copy(update={"images": images}) == item
    assert (second.id, second.images[0].vector) == ("eight", "dd" * 16)


def test_a_job_that_was_scored_again_can_be_scored_again(client, worker, kept) -> None:
    again = client.rescore(answer_all(client, worker, 3), OTHER)
    lease = worker.claim(ChunkRef(again.id, 0))
    worker.complete(lease, [], close=True, answered=[Answered([2, 0, 1], record_of(OTHER, ["red"] * 3, VERSION))])
    pairs = pairs_of(worker, client.rescore(again.id, TAXONOMY), kept)
    assert [(item.id, item.images[0].vector) for _, item in pairs] == [
        ("s3://b/2.jpg", "01" * 16),
        ("s3://b/0.jpg", "02" * 16),
        ("s3://b/1.jpg", "03" * 16),
    ]


def test_results_of_a_job_scored_again_have_their_items_and_so_have_its_failures(client, worker) -> None:
    again = client.rescore(answer_all(client, worker, 2), OTHER)
    lease = worker.claim(ChunkRef(again.id, 0))
    worker.complete(lease, [(1, BAD)], close=True, answered=[Answered([0], record_of(OTHER, ["blue"]))])
    assert {one.item.id: one.label for one in again.results(5)} == {"s3://b/0.jpg": "blue", "s3://b/1.jpg": None}
    assert again.retry_failed() == 1
    (pair,) = worker.claim(ChunkRef(again.id, 1_000_000_000)).pairs
    assert (pair[0], pair[1].id) == (1, "s3://b/1.jpg")


def test_only_what_is_answered_so_far_is_scored_again(client, worker, kept) -> None:
    job = client.submit([f"s3://b/{i}.jpg" for i in range(100)], TAXONOMY)
    lease = worker.claim(ChunkRef(job.id, 0))
    worker.complete(lease, [], close=False, answered=[Answered([5, 6], record(2))])
    again = client.rescore(job, OTHER)
    assert [item.id for _, item in pairs_of(worker, again, kept)] == ["s3://b/5.jpg", "s3://b/6.jpg"]


def test_items_are_read_with_their_vectors_and_without_their_answers(client, worker) -> None:
    job = client.submit([f"s3://b/{i}.jpg" for i in range(5)], TAXONOMY)
    lease = worker.claim(ChunkRef(job.id, 0))
    strange = single("cc" * 16, "yolo-v8")
    worker.complete(lease, [(0, single()), (1, BAD), (2, strange)], close=False)
    assert worker.complete(lease, [], close=True, answered=[Answered([4, 3], record(2))]).held
    assert {item.id: item.images[0].vector for item in job.answered_items(MODEL)} == {
        "s3://b/0.jpg": "ab" * 16,
        "s3://b/2.jpg": None,
        "s3://b/4.jpg": "01" * 16,
        "s3://b/3.jpg": "02" * 16,
    }


def test_a_project_is_scored_again_item_by_item_each_once_as_the_newest_job_has_it(client, worker, kept) -> None:
    push = PushTarget(project=7, label_config="<View/>")
    for version, count in ((VERSION, 3), (f"{MODEL}+tax.fedcba", 2)):
        job = client.submit([f"s3://b/{i}.jpg" for i in range(count)], TAXONOMY, push=push)
        answered = [Answered(range(count), record_of(TAXONOMY, ["cat"] * count, version))]
        worker.complete(worker.claim(ChunkRef(job.id, 0)), [], close=True, answered=answered)
    again = client.rescore(7, OTHER)
    items = [item for _, item in pairs_of(worker, again, kept)]
    assert [item.id for item in items] == [f"s3://b/{i}.jpg" for i in range(3)]
    assert all(item.images[0].vector for item in items)


def test_a_job_that_is_elsewhere_is_scored_again_here(client, ledger, worker, kept) -> None:
    with MemoryClient() as other:
        job = other.submit(["s3://b/0.jpg", "s3://b/1.jpg"], TAXONOMY)
        job.wait(5)
        again = client.rescore(job, OTHER)
        assert [item.id for _, item in pairs_of(worker, again, kept)] == ["s3://b/0.jpg", "s3://b/1.jpg"]


def test_a_job_without_an_answer_cannot_be_scored_again(client, worker) -> None:
    job = client.submit(["s3://b/0.jpg"], TAXONOMY)
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [(0, BAD)], close=True)
    with pytest.raises(ConfigError, match="no answers yet"):
        client.rescore(job, OTHER)


def test_a_cancelled_job_gets_no_more_items(client, worker) -> None:
    source = answer_all(client, worker, 3)
    job = client.submit([], OTHER)
    store = client.connection.store
    store.create("scored-again", job.spec())
    store.cancel("scored-again")
    assert store.add_from("scored-again", source.id, 0) == (range(0), 0, False)


def test_a_call_that_is_repeated_adds_nothing_twice(client, worker) -> None:
    source = answer_all(client, worker, 300)
    store = client.connection.store
    store.create("scored-again", client.submit([], OTHER).spec())
    added = store.add_from("scored-again", source.id, 0)
    assert store.add_from("scored-again", source.id, 0)[:2] == added[:2]
    assert store.progress("scored-again").total == 300


def test_predictions_pushed_to_label_studio_are_of_items_whose_tasks_are_known(client, worker, kept) -> None:
    """The adapter must find the tasks that are being worked on in the job itself."""
    push = PushTarget(project=7, label_config="<View/>")
    again = client.rescore(answer_all(client, worker, 3), OTHER, push=push)
    store = client.connection.store
    assert [item.id for item in store.items(again.id, [0, 2])] == ["s3://b/0.jpg", "s3://b/2.jpg"]


@pytest.mark.parametrize("kept", ["redis"], indirect=True)
class TestInRedis:
    """What can only happen there: jobs in memory hold their items from the start."""

    @pytest.fixture
    def redis(self, client):
        return client.connection.redis

    def test_chunks_refer_to_the_items_until_somebody_works_on_them(self, client, worker, redis) -> None:
        last = SOURCE_CHUNK_ITEMS + 43
        source = answer_all(client, worker, last + 1)
        again = client.rescore(source, OTHER)
        chunks = JobKeys(again.id).chunks
        assert sorted(len(text) < 200 for text in redis.hvals(chunks)) == [True, True]
        worker.claim(ChunkRef(again.id, 0))
        assert sorted(len(text) < 200 for text in redis.hvals(chunks)) == [False, True]
        store = client.connection.store
        assert store.items(again.id, [7, last]) == [
            Item(images=(ImageRef(uri="s3://b/7.jpg", vector="08" * 16),)),
            Item.unreadable(last),
        ]
        lease = worker.claim(ChunkRef(again.id, 1))
        assert store.items(again.id, [last])[0].id == f"s3://b/{last}.jpg" == dict(lease.pairs)[last].id

    @pytest.mark.parametrize("left", [(), ("results",), ("results", "meta")])
    def test_items_of_a_job_that_has_expired_fail_and_say_so(self, client, worker, redis, left) -> None:
        """Its keys may go while they are read: what has gone is read after what is left."""
        source = answer_all(client, worker, 3)
        again = client.rescore(source, OTHER)
        keys = JobKeys(source.id)
        redis.delete(*(set(keys.all()) - {getattr(keys, name) for name in left}))
        lease = worker.claim(ChunkRef(again.id, 0))
        assert [(ordinal, item.images[0].vector) for ordinal, item in lease.pairs] == [(0, None), (1, None), (2, None)]
        assert {item.problem for _, item in lease.pairs} == {
            "the job that it was answered in has expired: submit the image again"
        }

    def test_once_they_are_looked_up_the_other_job_is_needed_no_more(self, client, worker, redis, ledger) -> None:
        source = answer_all(client, worker, 3)
        again = client.rescore(source, OTHER)
        assert worker.release(worker.claim(ChunkRef(again.id, 0)))
        redis.delete(*JobKeys(source.id).all())
        lease = ledger("another").claim(ChunkRef(again.id, 0))
        assert [item.images[0].vector for _, item in lease.pairs] == ["01" * 16, "02" * 16, "03" * 16]

    def test_the_other_job_is_kept_an_hour_at_least(self, client, worker, redis) -> None:
        source = answer_all(client, worker, 3)
        keys = JobKeys(source.id)
        assert 0 < redis.ttl(keys.results) <= 100
        client.rescore(source, OTHER)
        assert {redis.ttl(key) for key in keys.all() if redis.exists(key)} == {3600}
        redis.expire(keys.results, 90_000)
        client.rescore(source, OTHER)
        assert redis.ttl(keys.results) > 3600

    def test_it_is_so_if_it_ends_later_or_is_retried(self, client, ledger, redis) -> None:
        worker = ledger("brief", ttl_s=5)
        job = client.submit(["s3://b/0.jpg", "s3://b/1.jpg"], TAXONOMY, keep_s=2)
        lease = worker.claim(ChunkRef(job.id, 0))
        worker.complete(lease, [], close=False, answered=[Answered([0], record(1))])
        client.rescore(job, OTHER)
        worker.complete(lease, [(1, BAD)], close=True)
        assert redis.ttl(JobKeys(job.id).results) == 3600
        assert job.retry_failed() == 1
        lease = worker.claim(ChunkRef(job.id, 1_000_000_000))
        worker.complete(lease, [(1, BAD)], close=True)
        assert redis.ttl(JobKeys(job.id).results) == 3600

    def test_a_job_that_expires_while_it_is_asked_about_has_nothing_to_score_again(
        self, client, worker, redis, monkeypatch
    ) -> None:
        source = answer_all(client, worker, 3)
        create = client.connection.store.create

        def expire_and_create(job_id, spec) -> None:
            redis.delete(*JobKeys(source.id).all())
            create(job_id, spec)

        monkeypatch.setattr(client.connection.store, "create", expire_and_create)
        with pytest.raises(ConfigError, match="has expired"):
            client.rescore(source, OTHER)

    def test_a_step_that_meets_large_records_is_small(self, client, worker, kept, monkeypatch) -> None:
        source = answer_all(client, worker, 300)
        monkeypatch.setattr(sources, "_BYTES_AT_ONCE", 1)
        again = client.rescore(source, OTHER)
        assert [ordinal for ordinal, _ in pairs_of(worker, again, kept)] == list(range(300))

    def test_a_redis_that_refuses_the_items_is_no_death_of_the_worker(self, client, worker, redis) -> None:
        again = client.rescore(answer_all(client, worker, 3), OTHER)
        chunks = JobKeys(again.id).chunks
        resolve, worker._resolve = worker._resolve, _refusing
        with pytest.raises(OutOfMemoryError):
            worker.claim(ChunkRef(again.id, 0))
        worker._resolve = resolve
        lease = worker.claim(ChunkRef(again.id, 0))
        assert (lease.deaths, len(lease.pairs)) == (0, 3)
        assert len(redis.hget(chunks, "0")) > 100

    def test_vectors_of_another_model_have_no_key(self, client, worker, kept) -> None:
        job = client.submit(["s3://b/0.jpg", "s3://b/1.jpg"], TAXONOMY)
        lease = worker.claim(ChunkRef(job.id, 0))
        strange = Answered([1], record(1, "other@12345678+tax.abcdef"))
        worker.complete(lease, [], close=True, answered=[Answered([0], record(1)), strange])
        pairs = pairs_of(worker, client.rescore(job, OTHER), kept)
        assert [item.images[0].vector for _, item in pairs] == ["01" * 16, None]

    def test_long_references_make_smaller_chunks(self, client, worker, redis) -> None:
        job = client.submit([f"s3://b/{'x' * 900}{i}.jpg" for i in range(SOURCE_CHUNK_ITEMS)], TAXONOMY)
        for chunk in range(redis.hlen(JobKeys(job.id).chunks)):
            lease = worker.claim(ChunkRef(job.id, chunk))
            ordinals = [ordinal for ordinal, _ in lease.pairs]
            worker.complete(lease, [], close=True, answered=[Answered(ordinals, record(len(ordinals)))])
        again = client.rescore(job, OTHER)
        for chunk in range(redis.hlen(JobKeys(again.id).chunks)):
            worker.claim(ChunkRef(again.id, chunk))
        assert max(map(len, redis.hvals(JobKeys(again.id).chunks))) < 1.2 * SOURCE_CHUNK_BYTES
        assert again.progress().total == SOURCE_CHUNK_ITEMS

    def test_a_damaged_record_fails_its_items_alone(self, client, worker, kept, redis) -> None:
        source = answer_all(client, worker, 3)
        redis.xadd(JobKeys(source.id).results, {"o": "3-4", "c": 0, "n": 2, "b": record(2)[:-1]})
        pairs = pairs_of(worker, client.rescore(source, OTHER), kept)
        assert [item.images[0].vector is not None for _, item in pairs] == [True, True, True, False, False]
