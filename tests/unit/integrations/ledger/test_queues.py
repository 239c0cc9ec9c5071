"""The queues as gauges, and those of models that are forgotten."""

from __future__ import annotations

import pytest

from prelabel.integrations import Client
from prelabel.integrations.ledger.keys import MODEL_QUEUES, WATERMARKS
from prelabel.integrations.telemetry.queues import Queues
from prelabel.schemas import Taxonomy
from prelabel.schemas.settings import load_settings

TAXONOMY = Taxonomy.flat(["cat", "dog"])
DAY_S = 86_400


def test_the_gauges_say_when_redis_is_away() -> None:
    away = Client(load_settings(redis_url="redis://127.0.0.1:1/0"))
    found = {metric.name: metric for metric in Queues(away.queue_states).collect()}
    assert found["prelabel_broker_up"].samples[0].value == 0
    assert found["prelabel_queue_depth"].samples == []


def test_the_gauges_have_a_series_for_each_model_s_queue(client) -> None:
    client.submit(["s3://b/1.jpg"], TAXONOMY, model="a@1")
    found = {metric.name: metric for metric in Queues(client.queue_states).collect()}
    depths = {sample.labels["queue"]: sample.value for sample in found["prelabel_queue_depth"].samples}
    assert depths == {"interactive": 0, "bulk": 0, "push": 0, "bulk:a@1": 1}


@pytest.fixture
def aged(client):
    """Makes a model's queue look as if no job had come to it for a day."""

    def make(queue: str) -> None:
        assert client.connection.redis.zincrby(MODEL_QUEUES, -DAY_S - 1, queue) > 0

    return make


def test_a_queue_no_job_came_to_for_a_day_is_forgotten_with_what_nobody_took_off_it(client, aged) -> None:
    redis, store = client.connection.redis, client.connection.store
    client.submit(["s3://b/1.jpg"], TAXONOMY, model="typo@1").cancel()
    redis.hset(WATERMARKS, "bulk:typo@1", 1)
    assert store.forget_queues(set()) == [], "it was used just now"
    aged("bulk:typo@1")
    assert store.forget_queues(set()) == ["bulk:typo@1"]
    assert not redis.exists("bulk:typo@1", WATERMARKS)
    assert list(client.queues()) == ["interactive", "bulk", "push"]


def test_a_queue_that_a_job_still_waits_on_is_kept_however_long(client, aged) -> None:
    client.submit(["s3://b/1.jpg"], TAXONOMY, model="later@1")
    aged("bulk:later@1")
    assert client.connection.store.forget_queues({"bulk:later@1"}) == []
    assert client.queues()["bulk:later@1"] == 1


def test_a_failed_item_that_is_tried_again_brings_a_forgotten_queue_back(client, aged, ledger) -> None:
    from prelabel.integrations.ledger.leases import ChunkRef
    from prelabel.schemas import ItemFailure, Outcome

    job = client.submit(["s3://b/1.jpg"], TAXONOMY, model="a@1")
    worker = ledger()
    bad = Outcome(error=ItemFailure(kind="ItemError", message="empty file"))
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [(0, bad)], close=True)
    aged("bulk:a@1")
    client.connection.store.forget_queues(set())
    job.retry_failed()
    assert client.queues()["bulk:a@1"] == 1
