"""A project's catalogue: written with the outcomes, exactly once, as long as the project is connected."""

from __future__ import annotations

import struct
import zlib

import pytest

from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.ledger.answers import JobLabels
from prelabel.integrations.ledger.catalogue import (
    CONNECTED,
    ROW,
    Catalogue,
    catalogue_key,
    image_mark,
    job_tail,
    label_code,
    new_head,
    outcome_rows,
    record_rows,
)
from prelabel.integrations.ledger.columns import unpack
from prelabel.integrations.ledger.leases import Answered, ChunkRef
from prelabel.schemas import (
    Answer,
    Control,
    ImageRef,
    Item,
    ItemFailure,
    Outcome,
    PushTarget,
    Region,
    Taxonomy,
)
from tests.answering import record_of

TAXONOMY = Taxonomy.flat(["cat", "dog"])
PUSH = PushTarget(project=7, label_config="<View/>")
KEYS = ["0a" * 16, "0b" * 16, "0c" * 16]


@pytest.fixture
def redis(client):
    """The test's own Redis, to which project 7 is connected."""
    client.connection.redis.sadd(CONNECTED, 7)
    return client.connection.redis


def task(number: int, *names: str) -> Item:
    images = [ImageRef(uri=f"http://h/{number}-{at}.jpg", name=name) for at, name in enumerate(names or ("image",))]
    return Item(id=str(number), images=tuple(images))


def answer(label: str | None, confidence: float = 0.5, **fields) -> Answer:
    paths = ((label,),) if label else ()
    return Answer(control="label", rule="softmax", paths=paths, confidence=confidence, **fields)


def claimed(client, ledger, items: list[Item], push: PushTarget | None = PUSH):
    job = client.submit(items, TAXONOMY, push=push)
    worker = ledger()
    return job, worker, worker.claim(ChunkRef(job.id, 0))


def read(rows: bytes) -> list[tuple]:
    return list(ROW.iter_unpack(rows))


def test_a_row_is_forty_bytes_as_documented() -> None:
    item, outcome = task(9), Outcome(answers=(answer("cat", 1.0),), vectors={"image": KEYS[0]})
    row = outcome_rows(item, outcome)
    assert len(row) == 40
    assert row[:8] == (9).to_bytes(8, "little")
    assert row[8:16] == image_mark(item.images[0]).to_bytes(8, "little")
    assert row[16:20] == zlib.crc32(b"cat").to_bytes(4, "little")
    assert row[20:24] == struct.pack("<HH", 1 << 15, 0xFFFF)
    assert row[24:].hex() == KEYS[0]


def test_what_an_image_is_does_not_depend_on_the_host_and_does_on_all_else() -> None:
    def mark(uri: str, **region: float) -> int:
        box = Region(x=1, y=1, height=2, **region) if region else None
        return image_mark(ImageRef(uri=uri, region=box))

    marks = [
        mark("http://a/1.jpg"),
        mark("http://a/2.jpg"),
        mark("http://a/1.jpg?x=1"),
        mark("s3://a/1.jpg"),
        mark("s3://b/1.jpg"),
        mark("http://a/1.jpg", width=5),
        mark("http://a/1.jpg", width=6),
    ]
    assert len(set(marks)) == len(marks)
    assert mark("http://a/1.jpg") == mark("https://b:8080/1.jpg")
    assert all(0 < one < 2**64 for one in marks)


def test_the_first_row_of_an_outcome_says_so_and_each_image_has_its_own_answer() -> None:
    item = task(3, "left", "right", "right")
    outcome = Outcome(
        answers=(answer("cat", 0.25, index=0), answer(None, 0.75, index=1)),
        vectors={"left": KEYS[0], "right": KEYS[1], "right\x1f1": KEYS[2]},
    )
    rows = read(outcome_rows(item, outcome))
    assert [row[3] for row in rows] == [1 << 15, 1, 2]
    assert [row[2] for row in rows] == [label_code(("cat",)), label_code(("cat",)), 0]
    assert [row[5].hex() for row in rows] == KEYS


def test_what_is_no_task_or_has_no_vector_has_no_row() -> None:
    there = Outcome(answers=(answer("cat"),), vectors={"": KEYS[0]})
    assert outcome_rows(Item.of("s3://b/1.jpg"), there) == b""
    assert outcome_rows(task(1), Outcome(answers=(answer("cat"),))) == b""
    assert outcome_rows(task(1), Outcome(error=ItemFailure(kind="ItemError", message="empty file"))) == b""


def test_records_have_the_rows_of_their_outcomes() -> None:
    control = Control(name="label", taxonomy=TAXONOMY)
    labels, items = JobLabels([control]), [task(1), task(2), Item.of("s3://b/1.jpg")]
    columns = unpack(record_of(TAXONOMY, ["dog", "cat", "dog"]))
    first, second, third = record_rows(columns, items, labels)
    assert (read(first)[0][0], read(first)[0][2]) == (1, label_code(("dog",)))
    assert (read(second)[0][0], read(second)[0][2]) == (2, label_code(("cat",)))
    assert (read(second)[0][5], third) == (bytes([2]) * 16, b"")


def test_outcomes_are_catalogued_once_however_often_they_are_written(client, ledger, redis) -> None:
    items = [task(1), task(2), task(3)]
    _, worker, lease = claimed(client, ledger, items)
    labels = JobLabels(lease.spec.controls)
    record = record_of(TAXONOMY, ["dog", "cat"])
    answered = [Answered([0, 1], record, record_rows(unpack(record), items[:2], labels))]
    single = [(2, Outcome(model_version="m", answers=(answer("cat"),), vectors={"image": KEYS[0]}))]
    for _ in range(2):
        worker.complete(lease, single, close=False, answered=answered)
    tail = Catalogue(redis).tail(7, "")
    assert sorted(row[0] for row in read(tail.rows)) == [1, 2, 3]
    assert tail.anew
    assert Catalogue(redis).tail(7, tail.position) == (b"", tail.position, False)


def test_of_a_record_only_what_was_written_now_is_catalogued(client, ledger, redis) -> None:
    items = [task(1), task(2)]
    _, worker, lease = claimed(client, ledger, items)
    worker.complete(lease, [(1, Outcome(answers=(answer("cat"),), vectors={"image": KEYS[1]}))], close=False)
    record = record_of(TAXONOMY, ["dog", "dog"])
    rows = record_rows(unpack(record), items, JobLabels(lease.spec.controls))
    worker.complete(lease, [], close=True, answered=[Answered([0, 1], record, rows)])
    assert [(row[0], row[5].hex()) for row in read(Catalogue(redis).tail(7, "").rows)] == [
        (2, KEYS[1]),
        (1, "01" * 16),
    ]


@pytest.mark.parametrize("push", [None, PushTarget(project=8, label_config="<View/>")], ids=["no project", "another"])
def test_what_is_for_no_connected_project_is_not_catalogued(client, ledger, redis, push) -> None:
    _, worker, lease = claimed(client, ledger, [task(1)], push)
    worker.complete(lease, [(0, Outcome(answers=(answer("cat"),), vectors={"image": KEYS[0]}))], close=True)
    assert not redis.keys("*vectors*")


def test_a_project_that_is_disconnected_has_no_catalogue_and_a_new_one_begins_anew(client, ledger, redis) -> None:
    def write() -> None:
        _, worker, lease = claimed(client, ledger, [task(1)])
        worker.complete(lease, [(0, Outcome(answers=(answer("cat"),), vectors={"image": KEYS[0]}))], close=True)

    write()
    before = Catalogue(redis).tail(7, "")
    Projects(client).remove(7)
    assert not redis.exists(catalogue_key(7))
    write()
    assert not redis.exists(catalogue_key(7))
    assert Catalogue(redis).tail(7, before.position) == (b"", "", True)
    redis.sadd(CONNECTED, 7)
    write()
    after = Catalogue(redis).tail(7, before.position)
    assert (after.anew, len(read(after.rows))) == (True, 1)


def test_a_catalogue_lasts_longer_than_its_jobs(client, ledger, redis) -> None:
    _, worker, lease = claimed(client, ledger, [task(1)])
    worker.complete(lease, [(0, Outcome(answers=(answer("cat"),), vectors={"image": KEYS[0]}))], close=True)
    assert redis.ttl(catalogue_key(7)) == -1


def test_tasks_that_are_gone_are_struck_and_nothing_is_made_for_that(client, redis) -> None:
    catalogue = Catalogue(redis)
    catalogue.forget(7, [1])
    assert not redis.exists(catalogue_key(7))


def test_rows_are_replaced_unless_some_came_meanwhile(client, ledger, redis) -> None:
    catalogue = Catalogue(redis)
    _, worker, lease = claimed(client, ledger, [task(1), task(2)])
    outcome = Outcome(answers=(answer("cat"),), vectors={"image": KEYS[0]})
    worker.complete(lease, [(0, outcome)], close=False)
    first = catalogue.tail(7, "")
    worker.complete(lease, [(1, outcome)], close=True)
    assert catalogue.replace(7, first.position, b"") is None
    both = catalogue.tail(7, "")
    assert len(read(both.rows)) == 2
    position = catalogue.replace(7, both.position, both.rows[:40])
    assert catalogue.tail(7, position) == (b"", position, False)
    assert catalogue.tail(7, both.position) == (both.rows[:40], position, True)
    catalogue.forget(7, [1])
    (gone,) = read(catalogue.tail(7, position).rows)
    assert (gone[0], gone[3], gone[5]) == (1, 1 << 15, bytes(16))


def test_a_catalogue_of_which_half_counts_no_more_is_shortened(redis) -> None:
    catalogue = Catalogue(redis)

    def add(number: int, *keys: str) -> None:
        vectors = dict(zip(("image", "image\x1f1"), keys, strict=False))
        item = task(number, *["image"] * max(1, len(keys)))
        redis.append(catalogue_key(7), outcome_rows(item, Outcome(answers=(answer("cat"),), vectors=vectors)))

    redis.set(catalogue_key(7), new_head())
    for _ in range(400):
        for number in (1, 2, 3):
            add(number, *KEYS[:2])
    catalogue.forget(7, [3])
    add(2, KEYS[2])
    before = catalogue.tail(7, "")
    assert catalogue.shorten(7)
    after = catalogue.tail(7, before.position)
    assert after.anew
    assert [(row[0], row[5].hex()) for row in read(after.rows)] == [(1, KEYS[0]), (1, KEYS[1]), (2, KEYS[2])]
    assert not catalogue.shorten(7), "there is nothing to gain"
    assert not catalogue.shorten(8)


def test_a_job_is_its_own_catalogue(client, ledger) -> None:
    job, worker, lease = claimed(client, ledger, [task(1), task(2), task(3)], None)
    redis = client.connection.redis
    assert job_tail(redis, job.id, "") == (b"", "0", True)
    worker.complete(lease, [], close=False, answered=[Answered([0, 2], record_of(TAXONOMY, ["dog", "cat"]))])
    tail = job_tail(redis, job.id, "")
    assert [(row[0], row[1], row[2]) for row in read(tail.rows)] == [
        (0, 0, label_code(("dog",))),
        (2, 0, label_code(("cat",))),
    ]
    worker.complete(lease, [(1, Outcome(answers=(answer("cat", 1.0),), vectors={"image": KEYS[1]}))], close=True)
    later = job_tail(redis, job.id, tail.position)
    assert (later.anew, [(row[0], row[4], row[5].hex()) for row in read(later.rows)]) == (False, [(1, 0xFFFF, KEYS[1])])
