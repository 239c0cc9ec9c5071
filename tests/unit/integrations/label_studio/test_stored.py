"""Vectors that were stored when tasks were scored before, by task and image."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from contextlib import closing

import pytest

from prelabel.integrations import Client
from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.label_studio.projects.stored import StoredVectors
from prelabel.integrations.ledger.leases import ChunkRef, Ledger
from prelabel.schemas import Answer, ImageRef, Item, Outcome, PushTarget, Region, Taxonomy

MODEL = "siglip@12345678"
VERSION = f"{MODEL}+tax.abcdef"
AA, BB = "a" * 32, "b" * 32
TAXONOMY = Taxonomy.flat(["cat", "dog"])


def item(task: int, uri: str = "s3://b/1.jpg", region: Region | None = None) -> Item:
    return Item(id=str(task), images=(ImageRef(uri=uri, region=region),))


def score(client: Client, items: list[Item], vector: str, version: str = VERSION, project: int = 1) -> None:
    """A job of the project whose every item was answered and has this vector."""
    job = client.submit(items, TAXONOMY, push=PushTarget(project=project, label_config="<View/>"))
    answer = Answer(control="label", rule="softmax", confidence=0.5)
    outcome = Outcome(model_version=version, vectors={"": vector}, answers=(answer,))
    with connect_redis(client.settings) as redis:
        ledger = Ledger(redis, owner="test", lease_s=60, ttl_s=100)
        for chunk in range(-(-len(items) // 64)):
            lease = ledger.claim(ChunkRef(job.id, chunk))
            ledger.complete(lease, [(ordinal, outcome) for ordinal, _ in lease.pairs], close=True)


@pytest.fixture
def stored(client) -> Iterator[StoredVectors]:
    with closing(StoredVectors(client, 1, MODEL)) as made:
        yield made


def vector(stored: StoredVectors, asked: Item) -> str | None:
    return stored.add_to(asked).images[0].vector


def test_a_tasks_image_brings_the_vector_it_had(client, stored) -> None:
    score(client, [item(1), item(2, "s3://b/2.jpg")], AA)
    assert vector(stored, item(1)) == AA
    assert vector(stored, item(3)) is None
    assert vector(stored, item(2)) is None, "it shows another image now"
    assert vector(stored, item(1, region=Region(x=0, y=0, width=50, height=50))) is None


def test_the_newest_job_counts(client, stored) -> None:
    score(client, [item(1)], AA)
    score(client, [item(1)], BB)
    assert vector(stored, item(1)) == BB


def test_another_models_and_another_projects_vectors_are_none_of_ours(client, stored) -> None:
    score(client, [item(1)], AA, version="other@1+tax.abcdef")
    score(client, [item(2)], AA, project=2)
    assert (vector(stored, item(1)), vector(stored, item(2))) == (None, None)


def test_who_has_no_time_for_all_of_them_has_those_of_the_newest_jobs(client) -> None:
    score(client, [item(1), item(2)], AA)
    score(client, [item(3), item(4), item(5)], AA)
    left = iter([True] * 3)  # asked for the newest job, and for each of its answers
    with closing(StoredVectors(client, 1, MODEL, more=lambda: next(left, False))) as stored:
        assert stored.tasks() == [3, 4]


def test_nothing_it_holds_grows_with_the_project(client, stored) -> None:
    score(client, [item(task) for task in range(300)], AA)
    assert [vector(stored, item(task)) for task in (0, 299)] == [AA, AA]
    assert all(len(one) < 100 for one in vars(stored).values() if isinstance(one, Sized))
