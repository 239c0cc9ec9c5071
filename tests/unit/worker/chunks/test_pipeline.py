"""Which chunks a worker works on: what it cannot read, and what names another model, is left to others."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from prelabel.integrations.ledger.keys import MODEL_QUEUES, JobKeys
from prelabel.integrations.ledger.leases import ChunkRef
from prelabel.schemas import JobState, Taxonomy
from prelabel.worker.chunks.pipeline import Pipeline
from prelabel.worker.chunks.tools import Tools
from prelabel.worker.embedding.texts import TextVectors
from prelabel.worker.model.colour import ColourEncoder, colour_card
from prelabel.worker.scoring.job_scorer import JobScorers


@pytest.fixture
def pipeline(ledger) -> Pipeline:
    """One without a model, for chunks that get no further than their lease."""
    absent: Any = None
    tools = Tools(
        engine=absent,
        scorers=absent,
        bulk=absent,
        urgent=absent,
        ledger=ledger(),
        hint=absent,
        push=absent,
        stopping=threading.Event(),
    )
    return Pipeline(tools=tools, keeper=absent)


UNREADABLE = {
    '{"wire_version": 2}': "wire version 2",
    '{"wire_version": 1, "controls": []}': "controls",
    "{": "not a valid JobSpec message",
    "\xff": "not a valid JobSpec message",
}


@pytest.mark.parametrize(("spec", "why"), UNREADABLE.items())
def test_a_job_this_release_cannot_read_is_left_to_other_workers_and_said_once(
    client, pipeline, caplog, spec: str, why: str
) -> None:
    job = client.submit([f"s3://b/{i}.jpg" for i in range(100)], Taxonomy.flat(["cat"]))
    client.connection.redis.hset(JobKeys(job.id).meta, "spec", spec.encode("latin-1"))
    for _ in range(3):  # as often as a sweep sends the messages again
        for chunk in range(2):
            pipeline.run(ChunkRef(job.id, chunk))
    (said,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert job.id in said
    assert why in said
    assert not [record for record in caplog.records if record.exc_info]
    assert client.connection.redis.zcount(JobKeys(job.id).open, "(0", "+inf") == 0, "no chunk of it is leased"


@pytest.fixture
def sent() -> list[tuple[ChunkRef, str]]:
    """Messages for chunks that were handed over, each with its queue."""
    return []


def worker_with(encoder: ColourEncoder, ledger, sent, queue: str | None = None) -> Pipeline:
    """A worker's, for chunks that get no further than being given to others.

    Args:
        encoder: its model.
        ledger: makes ledgers.
        sent: gets the messages it sends.
        queue: of workers that can answer what its model cannot; None where there are none.
    """
    absent: Any = None
    tools = Tools(
        engine=absent,
        scorers=JobScorers(encoder, TextVectors(encoder, 10)),
        bulk=absent,
        urgent=absent,
        ledger=ledger(),
        hint=lambda ref, queue: sent.append((ref, queue)),
        push=absent,
        stopping=threading.Event(),
        queue_of_able=lambda _: queue,
    )
    return Pipeline(tools=tools, keeper=absent)


@pytest.fixture
def other(ledger, sent) -> Pipeline:
    """A worker's that serves `colour@1`."""
    return worker_with(ColourEncoder(), ledger, sent)


def test_a_chunk_of_another_model_is_handed_over_to_its_workers_and_none_of_it_fails(client, other, sent) -> None:
    job = client.submit([f"s3://b/{i}.jpg" for i in range(70)], Taxonomy.flat(["cat"]), model="siglip@1")
    redis, keys = client.connection.redis, JobKeys(job.id)
    redis.hset(keys.meta, "queue", "bulk")  # as an earlier release submitted it
    redis.delete(MODEL_QUEUES)
    for chunk in (0, 1, 0, 1, 0):  # messages may come twice
        other.run(ChunkRef(job.id, chunk))
    assert sent == [(ChunkRef(job.id, 0), "bulk:siglip@1"), (ChunkRef(job.id, 1), "bulk:siglip@1")]
    assert redis.hget(keys.meta, "queue") == b"bulk:siglip@1", "where sweeps send it from now on"
    assert "bulk:siglip@1" in client.queues()
    progress = job.progress()
    assert (progress.failed, progress.state) == (0, JobState.QUEUED)
    assert redis.zcount(keys.open, "(0", "+inf") == 0, "no chunk of it is leased"


def test_a_suspect_of_another_model_is_handed_over_with_its_deaths(client, other, sent, ledger) -> None:
    job = client.submit(["s3://b/1.jpg"], Taxonomy.flat(["cat"]), model="siglip@1", priority="interactive")
    ref = ChunkRef(job.id, 0)
    ledger("dead").claim(ref)
    ledger().free_owner("dead", "killed by SIGSEGV")
    other.run(ref, urgent=False)
    assert sent == [(ref, "interactive:siglip@1")]
    assert ledger("right").claim(ref, alone=True).deaths == 1


def test_what_a_model_cannot_answer_is_left_to_workers_whose_model_can(client, ledger, sent) -> None:
    job = client.submit(["s3://b/1.jpg"], Taxonomy.flat(["cat", "dog"], "multiple"))
    ref = ChunkRef(job.id, 0)
    card = colour_card("clip@1").model_copy(update={"head": "softmax", "logit_bias": None})
    worker_with(ColourEncoder(card=card), ledger, sent, "bulk:siglip@1").run(ref)
    assert sent == [(ref, "bulk:siglip@1")]
    assert client.connection.redis.hget(JobKeys(job.id).meta, "queue") == b"bulk:siglip@1"
    assert (job.progress().failed, job.progress().state) == (0, JobState.QUEUED)
    assert ledger("right").claim(ref).deaths == 0
