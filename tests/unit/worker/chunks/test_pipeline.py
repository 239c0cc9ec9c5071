"""Which chunks a worker works on: what it cannot read is left to others."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from prelabel.integrations.ledger.keys import JobKeys
from prelabel.integrations.ledger.leases import ChunkRef
from prelabel.schemas import Taxonomy
from prelabel.worker.chunks.pipeline import Pipeline
from prelabel.worker.chunks.tools import Tools


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
